//! Faults of real machines. After each, the build succeeds or ends with one clear error, and the
//! store and the layout are valid.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use etcdimg::digest::Digest;
use insta::assert_snapshot;
use tar::EntryType;

use crate::catalog_fixture::{self, CatalogFixture, MEMBERS, Parts, VERSION};
use crate::patch::patched;
use crate::require;
use crate::stand_in;

/// A build that fails must leave no output.
#[track_caller]
fn refused(fixture: &CatalogFixture) -> String {
    let error = fixture.build().error();
    assert!(!fixture.out().join("index.json").exists(), "something was written under the tag");
    error
}

/// The digest of a build that went well and left nothing behind that is wrong.
#[track_caller]
pub(crate) fn built(fixture: &CatalogFixture) -> String {
    let digest = fixture.build().ok();
    check_clean(fixture);
    digest
}

#[track_caller]
pub(crate) fn check_clean(fixture: &CatalogFixture) {
    fixture.run("verify", &[]).ok();
    let mut verify = fixture.command("cache");
    fixture.finish(verify.arg("verify")).ok();
    let mut names: Vec<_> = fs::read_dir(fixture.out())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
}

/// The archive is locked as it is, so that its content is what is refused.
#[track_caller]
fn refused_archive(archive: &[u8]) -> String {
    let fixture = CatalogFixture::with_release();
    fixture.offer(archive);
    let error = refused(&fixture);
    assert!(error.ends_with("\nexit 4"), "{error}");
    error.split("\nhint:").next().unwrap().to_owned()
}

#[test]
fn an_archive_that_the_lock_does_not_describe_is_refused() {
    let fixture = CatalogFixture::with_release();
    fixture.edit("versions.yaml", "https://mirror.invalid", "file:///nowhere");
    fixture.relock();
    fixture.swap_archive(b"another file");
    assert_snapshot!(catalog_fixture::without_digests(&refused(&fixture)), @"
    error: cannot fetch `etcd-v3.4.21-linux-amd64.tar.gz`
      file://FIXTURE/mirror/etcd-v3.4.21-linux-amd64.tar.gz: wrong digest
        expected sha256:…
        received sha256:…
      file:///nowhere/v3.4.21/etcd-v3.4.21-linux-amd64.tar.gz: No such file or directory (os error 2)
    hint: the file was replaced or the lock is wrong: find out which before you change the lock
    exit 4
    ");
    assert!(!blob(&fixture, &Digest::of("another file")).exists());
}

#[test]
fn hostile_archives_stop_the_build() {
    let hostile = |path: &str, kind: EntryType| {
        refused_archive(&catalog_fixture::archive(|tar| {
            catalog_fixture::member(tar, path, kind, 0o755, b"");
        }))
    };
    let file = EntryType::Regular;
    assert_snapshot!(hostile("/etc/passwd", file), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `/etc/passwd` is an absolute path or holds a character that no file of ours has");
    assert_snapshot!(hostile("etcd/../../passwd", file), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `etcd/../../passwd` leads out of the archive");
    assert_snapshot!(hostile("..", EntryType::Directory), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `..` leads out of the archive");
    assert_snapshot!(hostile("a\\b", file), @r"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `a\b` is an absolute path or holds a character that no file of ours has");
    assert_snapshot!(hostile("etcdctl", EntryType::Symlink), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `etcdctl` is a link");
    assert_snapshot!(hostile("etcdctl", EntryType::Link), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `etcdctl` is a link");
    assert_snapshot!(hostile("tty", EntryType::Char), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `tty` is neither a file nor a folder");
    assert_snapshot!(hostile("disk", EntryType::Block), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `disk` is neither a file nor a folder");
    assert_snapshot!(hostile("pipe", EntryType::Fifo), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `pipe` is neither a file nor a folder");
    assert_snapshot!(hostile("sparse", EntryType::GNUSparse), @"
    error: `etcd-v3.4.21-linux-amd64.tar.gz` cannot be read as a tar.gz archive
      because: sparse entry type listed but not GNU header
    ");
}

/// The archive is checked to its end, also after all wanted programs were read.
#[test]
fn what_is_hostile_at_the_end_of_an_archive_stops_the_build() {
    let parts = Parts::get();
    let ending = |path: &str, kind: EntryType| {
        let end =
            catalog_fixture::archive(|tar| catalog_fixture::member(tar, path, kind, 0o755, b""));
        refused_archive(&[&parts.open_archive[..], &end].concat())
    };
    assert_snapshot!(ending(&format!("{MEMBERS}/etcd"), EntryType::Regular), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `etcd-v3.4.21-linux-amd64/etcd` is in it twice");
    assert_snapshot!(ending("etcd", EntryType::Symlink), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `etcd` is a link");
    assert_snapshot!(ending("/etcd", EntryType::Regular), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `/etcd` is an absolute path or holds a character that no file of ours has");
}

#[test]
fn archives_that_are_none_stop_the_build() {
    let parts = Parts::get();
    assert_snapshot!(refused_archive(b"<html>not found</html>"), @"
    error: `etcd-v3.4.21-linux-amd64.tar.gz` cannot be read as a tar.gz archive
      because: invalid gzip header
    ");
    assert_snapshot!(refused_archive(&parts.archive[..parts.archive.len() / 2]), @"
    error: `etcd-v3.4.21-linux-amd64.tar.gz` cannot be read as a tar.gz archive
      because: incomplete deflate stream
    ");
    assert_snapshot!(refused_archive(&catalog_fixture::gzip(b"")), @"error: `etcd-v3.4.21-linux-amd64.tar.gz` has no `etcd-v3.4.21-linux-amd64/etcd`");
    assert_snapshot!(refused_archive(&catalog_fixture::release(&parts.etcd, b"")), @"
    error: `etcdctl-3.4.21` for linux/amd64 is not the program that the plan describes: wrong file format
      expected an ELF executable
      received something else
    ");
    let without = catalog_fixture::archive(|tar| {
        catalog_fixture::file(tar, &format!("{MEMBERS}/etcd"), &parts.etcd);
    });
    assert_snapshot!(refused_archive(&without), @"error: `etcd-v3.4.21-linux-amd64.tar.gz` has no `etcd-v3.4.21-linux-amd64/etcdctl`");
    let huge = catalog_fixture::archive(|tar| {
        let mut header = tar::Header::new_ustar();
        header.set_path(format!("{MEMBERS}/etcd")).unwrap();
        header.set_size((256 << 20) + 1);
        header.set_cksum();
        tar.get_mut().extend_from_slice(header.as_bytes());
    });
    assert_snapshot!(refused_archive(&huge), @"error: `etcd-v3.4.21-linux-amd64.tar.gz`: `etcd-v3.4.21-linux-amd64/etcd` is larger than 256 MiB");
}

#[test]
fn a_swapped_program_stops_the_build() {
    let parts = Parts::get();
    let with =
        |etcd: &[u8], etcdctl: &[u8]| refused_archive(&catalog_fixture::release(etcd, etcdctl));
    // Under each other's names.
    assert_snapshot!(with(&parts.etcdctl, &parts.etcdctl), @"
    error: `etcd-3.4.21` for linux/amd64 is not the program that the plan describes: wrong main package
      expected go.etcd.io/etcd
      received go.etcd.io/etcd/etcdctl
    `etcd-3.4.21` for linux/amd64 is not the program that the plan describes: wrong embedded commit
      expected 85b640cee793e25f3837c47200089d14a8392dc7
      received none, or another one
    ");
    assert_snapshot!(with(&parts.etcd, &parts.etcd), @"
    error: `etcdctl-3.4.21` for linux/amd64 is not the program that the plan describes: wrong main package
      expected go.etcd.io/etcd/etcdctl
      received go.etcd.io/etcd
    ");
    let other = patched(&parts.etcdctl, VERSION, "3.4.20");
    assert_snapshot!(with(&parts.etcd, &other), @"
    error: `etcdctl-3.4.21` for linux/amd64 is not the program that the plan describes: wrong embedded version
      expected 3.4.21
      received none, or another one
    ");
    let commit = patched(&parts.etcd, "85b640c", "85b640d");
    assert_snapshot!(with(&commit, &parts.etcdctl), @"
    error: `etcd-3.4.21` for linux/amd64 is not the program that the plan describes: wrong embedded commit
      expected 85b640cee793e25f3837c47200089d14a8392dc7
      received none, or another one
    ");
    // The machine's number is at byte 18 of an ELF file; 183 is arm64.
    let mut arm64 = parts.etcd.clone();
    arm64[18] = 183;
    assert_snapshot!(with(&arm64, &parts.etcdctl), @"
    error: `etcd-3.4.21` for linux/amd64 is not the program that the plan describes: wrong machine
      expected ELF machine 62 little-endian
      received ELF machine 183 little-endian
    ");
    assert_snapshot!(with(&parts.etcd, b"#!/bin/sh\n"), @"
    error: `etcdctl-3.4.21` for linux/amd64 is not the program that the plan describes: wrong file format
      expected an ELF executable
      received something else
    ");
}

#[test]
fn a_dynamic_program_stops_the_build() {
    let dynamic = stand_in::dynamic_elf();
    let error = refused_archive(&catalog_fixture::release(&Parts::get().etcd, &dynamic));
    assert!(error.contains("wrong linkage\n  expected static\n  received dynamic"), "{error}");
}

/// The inputs of the layer are the same, but its labels change.
#[test]
fn a_cached_layer_is_looked_at_again_when_another_commit_is_planned() {
    let fixture = CatalogFixture::with_release();
    built(&fixture);
    fixture.edit("versions.yaml", "commit: 85b640cee", "commit: 95b640cee");
    fixture.relock();
    let error = fixture.build().error();
    assert!(error.contains("wrong embedded commit"), "{error}");
}

#[test]
fn corrupted_cache_entries_are_made_again() {
    let fixture = CatalogFixture::with_release();
    let expected = built(&fixture);
    let blobs: Vec<_> = fs::read_dir(fixture.cache().join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // The archive, the two layers, the base's layer, `migrate` and etcd's programs.
    assert_eq!(blobs.len(), 7);
    let bend: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[9] ^= 1, |bytes| bytes.truncate(9), Vec::clear];
    for (i, path) in blobs.iter().enumerate() {
        for folder in ["out", "cache/records"] {
            let mut bytes = fs::read(path).unwrap();
            bend[i % bend.len()](&mut bytes);
            fs::write(path, bytes).unwrap();
            // A cold layout reads the layers; without records, what they are made of is read.
            fs::remove_dir_all(fixture.path(folder)).unwrap();
            if folder == "cache/records" {
                Parts::get().copy_compiled(&fixture.cache());
                fs::remove_dir_all(fixture.out()).unwrap();
            }
            assert_eq!(fixture.build().ok(), expected, "{}", path.display());
        }
    }
    check_clean(&fixture);
}

#[test]
fn corrupted_entries_that_no_build_reads_are_found_by_cache_verify() {
    let fixture = CatalogFixture::with_release();
    let etcd = blob(&fixture, &Digest::of(&Parts::get().etcd));
    fs::write(&etcd, "bent").unwrap();
    fixture.build().ok();
    let mut verify = fixture.command("cache");
    let error = fixture.finish(verify.arg("verify")).error();
    assert!(error.contains("was corrupted and has been removed"), "{error}");
    assert!(error.ends_with("exit 4"), "{error}");
    assert!(!etcd.exists());
    check_clean(&fixture);
}

#[test]
fn a_corrupted_entry_is_said_once_and_made_again() {
    let fixture = CatalogFixture::with_release();
    built(&fixture);
    let archive = blob(&fixture, &Digest::of(&Parts::get().archive));
    fs::write(archive, "bent").unwrap();
    fs::remove_dir_all(fixture.cache().join("records/layer")).unwrap();
    let run = fixture.build();
    assert_eq!(
        run.stderr.matches("was corrupted and has been removed").count(),
        1,
        "{}",
        run.stderr
    );
    run.ok();
}

#[test]
fn changed_records_are_not_believed() {
    let fixture = CatalogFixture::with_release();
    let expected = built(&fixture);
    let source = || fixture.finish(&mut fixture.build_with_stand_ins()).ok();
    let expected_from_source = source();
    for kind in ["base", "compile", "layer"] {
        for entry in fs::read_dir(fixture.cache().join("records").join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            // Another digest with the same shape, and half a file.
            let digest = text.rfind("sha256:").unwrap() + 7;
            let digit = if text.as_bytes()[digest] == b'0' { "1" } else { "0" };
            let bent = format!("{}{digit}{}", &text[..digest], &text[digest + 1..]);
            for text in [&bent, &text[..text.len() / 2], "", "[]"] {
                fs::write(&path, text).unwrap();
                fs::remove_dir_all(fixture.out()).unwrap();
                if kind == "compile" {
                    // A lost compile is made again too.
                    assert_eq!(source(), expected_from_source, "{kind} {text}");
                } else {
                    assert_eq!(fixture.build().ok(), expected, "{kind} {text}");
                }
            }
        }
    }
    check_clean(&fixture);
}

#[test]
fn a_build_without_changes_writes_nothing() {
    let fixture = CatalogFixture::with_release();
    let expected = built(&fixture);
    let before = times(&fixture.out());
    assert_eq!(built(&fixture), expected);
    assert_eq!(times(&fixture.out()), before);
    fs::remove_dir_all(fixture.path("mirror")).unwrap();
    assert_eq!(fixture.run("build", &["--offline"]).ok(), expected);
}

fn times(folder: &Path) -> BTreeMap<String, (u64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut times = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        if metadata.is_dir() {
            times.extend(self::times(&path));
        } else {
            let changed = metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec();
            times.insert(path.display().to_string(), (metadata.ino(), changed));
        }
    }
    times
}

#[test]
fn offline_with_an_empty_cache_is_one_clear_error() {
    let fixture = CatalogFixture::empty();
    assert_snapshot!(fixture.run("build", &["--offline"]).error(), @"
    error: `etcd-v3.4.21-linux-amd64.tar.gz` is not in the cache, and --offline is set
    hint: run `etcdimg fetch` without `--offline`
    exit 5
    ");
    assert!(!fixture.out().exists());
    assert_eq!(fs::read_dir(fixture.cache().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs Go"]
fn offline_with_an_empty_cache_go_compiles_nothing() {
    require::program(&["go", "version"]);
    let fixture = CatalogFixture::empty();
    // The rest is Go's own report.
    let error = fixture.run("build", &["--offline", "--from", "source"]).error();
    assert!(error.contains("is not in the cache, and --offline is set"), "{error}");
    assert!(error.contains("hint: run `etcdimg fetch` without `--offline`"), "{error}");
    assert!(error.ends_with("\nexit 5"), "{error}");
}

/// Go's modules and toolchains may lie behind a link; their sums are compared all the same.
#[test]
#[ignore = "needs Go and the network"]
fn a_toolchain_that_is_not_the_locked_one_compiles_nothing() {
    // Which has the toolchain afterwards.
    CatalogFixture::with_shared_cache().run("build", &["--from", "source"]).ok();
    let fixture = CatalogFixture::empty();
    std::os::unix::fs::symlink(
        catalog_fixture::shared_cache().join("go-mod"),
        fixture.cache().join("go-mod"),
    )
    .unwrap();
    fixture.edit("etcdimg.lock", "h1:rXC7VeaCpFEz8KSwJ39iPtXKq", "h1:AAAAVeaCpFEz8KSwJ39iPtXKq");
    assert_snapshot!(fixture.run("build", &["--from", "source"]).error(), @"
    error: the downloaded Go toolchain 1.16.15 is not the locked one
      expected h1:AAAAVeaCpFEz8KSwJ39iPtXKq/xTfwG9FvIKbWEFUno=
      received h1:rXC7VeaCpFEz8KSwJ39iPtXKq/xTfwG9FvIKbWEFUno=
    hint: the file was replaced or the lock is wrong: find out which before you change the lock
    exit 4
    ");
}

/// In a network of its own that has nothing, a build from a full cache does not miss anything.
#[test]
#[ignore = "needs root"]
fn offline_opens_no_connection() {
    require_unshare();
    let fixture = CatalogFixture::with_release();
    let expected = built(&fixture);
    let mut build = Command::new("unshare");
    build.args(["-n", env!("CARGO_BIN_EXE_etcdimg")]);
    fixture.arguments(&mut build, "build");
    assert_eq!(fixture.finish(build.arg("--offline")).ok(), expected);
}

#[track_caller]
fn require_unshare() {
    require::root();
    require::program(&["unshare", "-n", "-m", "true"]);
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_below_the_cache_is_one_clear_error() {
    // Full while the archive arrives.
    assert_snapshot!(on_a_full_disk("cache", "3m"), @"
    error: cannot write `FIXTURE/cache/partial/…`
      because: No space left on device (os error 28)
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`
    exit 7
    then 0
    ");
    // While layers are written.
    assert_snapshot!(on_a_full_disk("cache", "5m"), @"
    error: cannot write a layer
      because: No space left on device (os error 28)
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`
    exit 7
    then 0
    ");
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_below_the_layout_is_one_clear_error() {
    assert_snapshot!(on_a_full_disk("out", "1m"), @"
    error: cannot write `FIXTURE/out/blobs/sha256/…`
      because: No space left on device (os error 28)
    hint: use another disk with `--out DIR`; the previous content of the layout is still valid
    exit 7
    then 0
    ");
}

/// Builds with a folder on a small disk; then the disk grows, and the same build goes on.
#[track_caller]
fn on_a_full_disk(folder: &str, size: &str) -> String {
    require_unshare();
    let fixture = CatalogFixture::with_release();
    let expected = CatalogFixture::with_release().build().ok();
    let disk = fixture.path(folder);
    let kept = fixture.path("kept");
    fs::create_dir_all(&disk).unwrap();
    fs::rename(&disk, &kept).unwrap();
    fs::create_dir_all(&disk).unwrap();
    // One mount for all: it is gone with the shell, whatever happens.
    let script = r#"
        disk=$1 kept=$2 size=$3; shift 3
        mount -t tmpfs -o size=$size tmpfs "$disk"
        cp -r "$kept/." "$disk"
        "$@" && echo 'was not full'
        echo "exit $?"
        find "$disk" -name '.etcdimg-*' -o -path '*/tmp/.tmp*' -o -name index.json
        mount -o remount,size=300m "$disk"
        "$@" >"$disk/digest" && mv "$disk/digest" "$kept/digest"
        "$0" verify "$out" >/dev/null && "$0" cache verify --cache-dir "$cache"
        echo "then $?"
    "#;
    let mut build = Command::new("unshare");
    build
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_etcdimg")])
        .args([&disk, &kept])
        .arg(size);
    build.env("out", fixture.out()).env("cache", fixture.cache());
    build.arg(env!("CARGO_BIN_EXE_etcdimg"));
    fixture.arguments(&mut build, "build");
    let run = fixture.finish(build.arg("--quiet"));
    let digest = fs::read_to_string(kept.join("digest")).unwrap_or_else(|_| panic!("{run:?}"));
    assert_eq!(digest.trim_end(), expected);
    let stderr = run.stderr.trim_end();
    let stderr =
        stderr.strip_suffix(" blobs").and_then(|it| it.rsplit_once('\n')).map_or(stderr, |it| it.0);
    catalog_fixture::without_digests(&format!("{stderr}\n{}", run.stdout.trim_end()))
}

fn blob(fixture: &CatalogFixture, digest: &Digest) -> std::path::PathBuf {
    fixture.cache().join("blobs/sha256").join(digest.hex())
}
