//! Every mistake that can be made in versions.yaml, targets/ and etcdimg.lock, and what the
//! person who made it reads.

use std::fs;
use std::io::Write as _;

use insta::assert_snapshot;
use serde_json::json;

use crate::catalog_fixture::CatalogFixture;
use crate::layout_fixture::{LayoutFixture, SEVEN};
use crate::lies::Behaviour;
use crate::lying_registry::LyingRegistry;

const ENTRY: &str = "  - version: 3.4.21
    go: 1.16.15
    commit: 85b640cee793e25f3837c47200089d14a8392dc7
";

/// The message after one text of one file was replaced.
#[track_caller]
fn after(file: &str, from: &str, to: &str) -> String {
    let fixture = CatalogFixture::empty();
    fixture.edit(file, from, to);
    message(&fixture)
}

/// The message when versions.yaml bundles these versions.
fn bundling(versions: &[&str]) -> String {
    let fixture = CatalogFixture::empty();
    bundle(&fixture, versions);
    message(&fixture)
}

fn bundle(fixture: &CatalogFixture, versions: &[&str]) {
    let entry = |version: &&str| ENTRY.replace("3.4.21", version);
    fixture.edit("versions.yaml", ENTRY, &versions.iter().map(entry).collect::<String>());
}

fn message(fixture: &CatalogFixture) -> String {
    let run = fixture.run("plan", &[]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    run.stderr.trim_end().to_owned()
}

#[test]
fn keys_are_known_and_complete() {
    assert_snapshot!(after("versions.yaml", "revision: 0", "revison: 0"), @"
    error: versions.yaml:2: revison: unknown key
      write instead: the keys are `repository`, `revision`, `etcd` (a list of `version`, `go`, `commit` and perhaps `also: true`), `rust`, `zig`, `bases`, `mirrors` and perhaps `mount-from`
    ");
    assert_snapshot!(after("versions.yaml", "    go: 1.16.15\n", "    golang: 1.16.15\n"), @"
    error: versions.yaml:5: golang: unknown key
      write instead: the keys are `repository`, `revision`, `etcd` (a list of `version`, `go`, `commit` and perhaps `also: true`), `rust`, `zig`, `bases`, `mirrors` and perhaps `mount-from`
    ");
    assert_snapshot!(after("versions.yaml", "rust: 1.95.0\n", ""), @"
    error: versions.yaml:10: rust: missing key
      write instead: the keys are `repository`, `revision`, `etcd` (a list of `version`, `go`, `commit` and perhaps `also: true`), `rust`, `zig`, `bases`, `mirrors` and perhaps `mount-from`
    ");
    assert_snapshot!(after("versions.yaml", "    go: 1.16.15\n", ""), @"
    error: versions.yaml:5: go: missing key
      write instead: the keys are `repository`, `revision`, `etcd` (a list of `version`, `go`, `commit` and perhaps `also: true`), `rust`, `zig`, `bases`, `mirrors` and perhaps `mount-from`
    ");
    assert_snapshot!(after("versions.yaml", "revision: 0\n", "revision: 0\nrevision: 1\n"), @"
    error: versions.yaml:3: revision: duplicate key
      write instead: each key once
    ");
    assert_snapshot!(after("targets/linux-amd64.yaml", "qemu: x86_64", "quemu: x86_64"), @"
    error: targets/linux-amd64.yaml:7: quemu: unknown key
      write instead: the keys are `platform`, `goarch`, `goarm`, `triple`, `base`, `origin`, `qemu`, `unsupported-arch` and `default`
    ");
    assert_snapshot!(after("targets/linux-amd64.yaml", "default: true", ""), @"
    error: targets/linux-amd64.yaml:9: default: missing key
      write instead: the keys are `platform`, `goarch`, `goarm`, `triple`, `base`, `origin`, `qemu`, `unsupported-arch` and `default`
    ");
    assert_snapshot!(after("targets/linux-amd64.yaml", "origin: release", "origin: sauce"), @"
    error: targets/linux-amd64.yaml:6: origin: `sauce` is not known
      write instead: one of: release, source
    ");
    assert_snapshot!(after("targets/linux-amd64.yaml", "default: true", "default: often"), @"
    error: targets/linux-amd64.yaml:11: default: neither `true` nor `false`
      write instead: `true` or `false`
    ");
    assert_snapshot!(after("etcdimg.lock", "toolchains:", "tools:"), @"
    error: etcdimg.lock:11: tools: unknown key
      write instead: the keys are `lock`, `catalog`, `releases`, `sources`, `toolchains` and `bases`; `etcdimg lock` writes them
    ");
}

#[test]
fn what_may_be_mounted_from_is_a_repository() {
    let mounts = "rust: 1.95.0\nmount-from:\n  - registry.example/team/etcd\n  - Team:1";
    assert_snapshot!(after("versions.yaml", "rust: 1.95.0", mounts), @"
    error: versions.yaml:10: mount-from[1]: `Team:1` is not a registry and a repository
      write instead: for example `registry.example/team/etcd`, without a tag
    ");
}

#[test]
fn yaml_that_is_none_is_shown_with_its_line() {
    assert_snapshot!(after("versions.yaml", "rust: 1.95.0", "rust: [1.95.0"), @"
    error: versions.yaml:7: rust: expected string scalar
      write instead: what YAML can read; the keys are `repository`, `revision`, `etcd` (a list of `version`, `go`, `commit` and perhaps `also: true`), `rust`, `zig`, `bases`, `mirrors` and perhaps `mount-from`
    ");
    assert_snapshot!(after("versions.yaml", "  - version: 3.4.21", "\t- version: 3.4.21"), @"
    error: versions.yaml:4: version: tabs disallowed within this context (block indentation)
      write instead: what YAML can read; the keys are `repository`, `revision`, `etcd` (a list of `version`, `go`, `commit` and perhaps `also: true`), `rust`, `zig`, `bases`, `mirrors` and perhaps `mount-from`
    ");
    assert_snapshot!(after("targets/linux-amd64.yaml", "base: busybox", "base: 'busybox"), @"
    error: targets/linux-amd64.yaml:5: invalid indentation in multiline quoted scalar
      write instead: what YAML can read; the keys are `platform`, `goarch`, `goarm`, `triple`, `base`, `origin`, `qemu`, `unsupported-arch` and `default`
    ");
    assert_snapshot!(after("versions.yaml", "etcd:\n", "etcd: 7\nother:\n"), @"
    error: versions.yaml:3: etcd: expected sequence start
      write instead: what YAML can read; the keys are `repository`, `revision`, `etcd` (a list of `version`, `go`, `commit` and perhaps `also: true`), `rust`, `zig`, `bases`, `mirrors` and perhaps `mount-from`
    ");
    let fixture = CatalogFixture::empty();
    fs::write(fixture.root().join("versions.yaml"), "").unwrap();
    assert_snapshot!(message(&fixture), @"
    error: versions.yaml:1: unexpected end of input
      write instead: what YAML can read; the keys are `repository`, `revision`, `etcd` (a list of `version`, `go`, `commit` and perhaps `also: true`), `rust`, `zig`, `bases`, `mirrors` and perhaps `mount-from`
    ");
}

#[test]
fn versions_ascend_without_a_gap() {
    assert_snapshot!(bundling(&["3.4.21", "3.4.21"]), @"
    error: versions.yaml:7: etcd[1].version: etcd 3.4.21 is listed twice
      write instead: each version once
    ");
    assert_snapshot!(bundling(&["3.5.33", "3.4.21"]), @"
    error: versions.yaml:7: etcd[1].version: etcd 3.4.21 is listed after 3.5.33
      write instead: the versions in ascending order: the last one is what the tag and plain `etcd` name
    ");
    assert_snapshot!(bundling(&["3.4.21", "3.6.14"]), @"
    error: versions.yaml:7: etcd[1].version: nothing between etcd 3.4.21 and 3.6.14: data moves one minor version at a time
      write instead: a 3.5 version before it
    ");
    assert_snapshot!(bundling(&["3.4.20", "3.4.21"]), @"
    error: versions.yaml:7: etcd[1].version: etcd 3.4.20 and 3.4.21 are two patches of 3.4
      write instead: only 3.4.21; or `also: true` beside it, if the image is to carry both
    ");
    assert_snapshot!(bundling(&["3.4"]), @"
    error: versions.yaml:4: etcd[0].version: `3.4` is not an etcd version
      write instead: three numbers, for example `3.6.14`
    ");
    assert_snapshot!(bundling(&["v3.4.21"]), @"
    error: versions.yaml:4: etcd[0].version: `v3.4.21` is not an etcd version
      write instead: three numbers, for example `3.6.14`
    ");
    assert_snapshot!(bundling(&["2.3.8"]), @"
    error: versions.yaml:4: etcd[0].version: etcd 2.3.8 is not of major version 3
      write instead: a 3.x version
    ");
    assert_snapshot!(bundling(&["3.4.21+build"]), @"
    error: versions.yaml:4: etcd[0].version: `3.4.21+build` is not an etcd version
      write instead: three numbers, for example `3.6.14`
    ");
    assert_snapshot!(bundling(&[]), @"
    error: versions.yaml:3: etcd: no version is bundled
      write instead: at least one version of etcd
    ");
}

#[test]
fn an_old_3_5_is_no_step_to_3_6() {
    assert_snapshot!(bundling(&["3.4.21", "3.5.25", "3.6.14"]), @r#"
    error: versions.yaml:7: etcd[1].version: etcd 3.5.25 cannot be the step to 3.6. Before 3.5.26 etcd could keep removed members in its v3 store, and 3.6 brings them back to life ("zombie members"). See https://github.com/etcd-io/etcd/issues/20793
      write instead: 3.5.26 or later
    "#);
}

#[test]
fn two_patches_of_a_minor_need_a_word() {
    let fixture = CatalogFixture::empty();
    bundle(&fixture, &["3.4.20", "3.4.21"]);
    fixture.edit("versions.yaml", "  - version: 3.4.21\n", "  - version: 3.4.21\n    also: true\n");
    fixture.add_source("3.4.20");
    fixture.relock();
    let plan = fixture.run("plan", &[]).ok();
    assert!(plan.contains("layer etcd 3.4.20"), "{plan}");
    assert!(plan.contains("layer etcd 3.4.21"), "{plan}");
}

#[test]
fn revisions_names_and_commits_are_well_formed() {
    assert_snapshot!(after("versions.yaml", "revision: 0", "revision: r1"), @"
    error: versions.yaml:2: revision: `r1` is not a revision
      write instead: a number: `0` for a new etcd version, one more for every rebuild
    ");
    assert_snapshot!(after("versions.yaml", "revision: 0", "revision: -1"), @"
    error: versions.yaml:2: revision: `-1` is not a revision
      write instead: a number: `0` for a new etcd version, one more for every rebuild
    ");
    assert_snapshot!(after("versions.yaml", "revision: 0", "revision: 00"), @"
    error: versions.yaml:2: revision: `00` is not a revision
      write instead: a number: `0` for a new etcd version, one more for every rebuild
    ");
    assert_snapshot!(after("versions.yaml", "repository: etcd", "repository: Etcd"), @"
    error: versions.yaml:1: repository: `Etcd` is not a repository name
      write instead: lower-case letters, digits, `.`, `_`, `-` and `/`, for example `etcd`; the registry is given when pushing
    ");
    assert_snapshot!(after("versions.yaml", "85b640cee793e25f3837c47200089d14a8392dc7", "85b640c"), @"
    error: versions.yaml:6: etcd[0].commit: `85b640c` is not a commit
      write instead: the 40 hex digits of the commit that the release tag names
    ");
    assert_snapshot!(after("versions.yaml", "go: 1.16.15", "go: 1.16"), @"
    error: versions.yaml:5: etcd[0].go: `1.16` is not a toolchain version
      write instead: three numbers, for example `1.25.12`
    ");
    assert_snapshot!(after("versions.yaml", "rust: 1.95.0", "rust: stable"), @"
    error: versions.yaml:7: rust: `stable` is not a toolchain version
      write instead: three numbers, for example `1.25.12`
    ");
    assert_snapshot!(after("versions.yaml", "docker.io/library/busybox:1.38.0-musl", "busybox"), @"
    error: versions.yaml:10: bases.busybox: `busybox` is not a registry, a repository and a tag
      write instead: for example `docker.io/library/busybox:1.38.0-musl`; the digest belongs in etcdimg.lock
    ");
    assert_snapshot!(after("versions.yaml", "https://mirror.invalid", "ftp://mirror.invalid"), @"
    error: versions.yaml:12: mirrors[0]: `ftp://mirror.invalid/v{version}/{file}` is not a URL
      write instead: an https://, http:// or file:// URL; `{version}` and `{file}` in it are replaced
    ");
}

#[test]
fn targets_are_platforms_we_know() {
    let file = "targets/linux-amd64.yaml";
    assert_snapshot!(after(file, "platform: linux/amd64", "platform: linux/vax"), @"
    error: targets/linux-amd64.yaml:1: platform: `linux/vax` is not a platform we know
      write instead: linux/amd64, linux/arm/v7, linux/arm64, linux/ppc64le, linux/riscv64, linux/s390x or windows/amd64:OSVERSION
    ");
    assert_snapshot!(after(file, "goarch: amd64", "goarch: arm64"), @"
    error: targets/linux-amd64.yaml:2: goarch: `arm64` is not the GOARCH of linux/amd64
      write instead: amd64
    ");
    assert_snapshot!(after(file, "goarch: amd64", "goarch: amd64\ngoarm: \"7\""), @"
    error: targets/linux-amd64.yaml:3: goarm: wrong for linux/amd64
      write instead: no `goarm`
    ");
    assert_snapshot!(after(file, "base: busybox", "base: alpine"), @"
    error: targets/linux-amd64.yaml:4: base: versions.yaml has no base `alpine`
      write instead: one of: busybox
    ");
    let fixture = CatalogFixture::empty();
    let folder = fixture.root().join("targets");
    fs::rename(folder.join("linux-amd64.yaml"), folder.join("linux-arm64.yaml")).unwrap();
    assert_snapshot!(message(&fixture), @"
    error: targets/linux-arm64.yaml:1: platform: this file describes linux/amd64
      write instead: the same in targets/linux-amd64.yaml
    ");
}

#[test]
fn catalog_and_lock_fit() {
    let fixture = CatalogFixture::empty();
    bundle(&fixture, &["3.4.21", "3.5.33"]);
    assert_snapshot!(message(&fixture), @"
    error: etcdimg.lock:1: releases.etcd-v3.5.33-linux-amd64.tar.gz: etcd 3.5.33 has no entry
      write instead: what `etcdimg lock` looks up
    ");

    let unused = "releases:\n  - file: etcd-v3.3.1-linux-amd64.tar.gz\n    digest: sha256:0a9b47dd3059af4994522421303076d636efa39b6b4d8618f6e80016c5e8d181\n";
    assert_snapshot!(after("etcdimg.lock", "releases:\n", unused), @"
    error: etcdimg.lock:5: releases.etcd-v3.3.1-linux-amd64.tar.gz: unused entry
      write instead: nothing: `etcdimg lock` removes it
    ");
    assert_snapshot!(after("etcdimg.lock", "  - name: busybox", "  - name: alpine"), @"
    error: etcdimg.lock:1: bases.busybox.manifests.linux/amd64: the base of linux/amd64 has no entry
      write instead: what `etcdimg lock` looks up
    ");
    assert_snapshot!(after("etcdimg.lock", "linux/amd64: ", "linux/arm64: "), @"
    error: etcdimg.lock:1: bases.busybox.manifests.linux/amd64: the base of linux/amd64 has no entry
      write instead: what `etcdimg lock` looks up
    ");
    assert_snapshot!(after("etcdimg.lock", "lock: 1", "lock: 2"), @"
    error: etcdimg.lock:2: lock: version 2 of the lock file is not known to this etcdimg
      write instead: 1, or use a newer etcdimg
    ");

    let twice = "releases:\n  - file: etcd-v3.4.21-linux-amd64.tar.gz\n    digest: sha256:0a9b47dd3059af4994522421303076d636efa39b6b4d8618f6e80016c5e8d181\n";
    assert_snapshot!(after("etcdimg.lock", "releases:\n", twice), @"
    error: etcdimg.lock:7: releases.etcd-v3.4.21-linux-amd64.tar.gz: duplicate entry
      write instead: nothing: `etcdimg lock` removes it
    ");
}

#[test]
fn digests_in_the_lock_are_whole() {
    // The digest of nothing, which is what the mirror of an empty fixture has.
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_snapshot!(after("etcdimg.lock", digest, "sha256:e3b0c44298fc1c149afb"), @"
    error: etcdimg.lock:6: releases.etcd-v3.4.21-linux-amd64.tar.gz.digest: a sha256 digest has 64 hex digits, this one has 20
      write instead: the digest that `etcdimg lock` looks up
    ");
    assert_snapshot!(after("etcdimg.lock", digest, "e3b0c44298fc1c149afb"), @"
    error: etcdimg.lock:6: releases.etcd-v3.4.21-linux-amd64.tar.gz.digest: `e3b0c44298fc1c149afb` is not a digest: write `sha256:` and 64 hex digits
      write instead: the digest that `etcdimg lock` looks up
    ");
    assert_snapshot!(after("etcdimg.lock", digest, &digest.to_uppercase()), @"
    error: etcdimg.lock:6: releases.etcd-v3.4.21-linux-amd64.tar.gz.digest: `SHA256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855` is not a digest: write `sha256:` and 64 hex digits
      write instead: the digest that `etcdimg lock` looks up
    ");
    assert_snapshot!(after("etcdimg.lock", digest, &digest.replace("e3b", "E3B")), @"
    error: etcdimg.lock:6: releases.etcd-v3.4.21-linux-amd64.tar.gz.digest: `E` is not a lower-case hex digit
      write instead: the digest that `etcdimg lock` looks up
    ");
    assert_snapshot!(after("etcdimg.lock", "sum: \"h1:", "sum: \"h2:"), @"
    error: etcdimg.lock:14: toolchains.1.16.15.sum: `h2:rXC7VeaCpFEz8KSwJ39iPtXKq/xTfwG9FvIKbWEFUno=` is not a module sum
      write instead: `h1:` and 44 characters, as in go.sum
    ");
}

#[test]
fn a_lock_that_is_stale_or_missing_names_the_way_out() {
    assert_snapshot!(after("versions.yaml", "commit: 85b6", "commit: 95b6"), @"
    error: etcdimg.lock is stale
      expected sha256:aab09478f3e75eedcec11bfff4d2401bd3f2b9270226d44060c0344c4582f0f4, the catalog as it is now
      received sha256:74d44c62a4ce0852bd72af4f32ef10999f680871fd8d135f499ad3e4563d2194, the catalog it was made from
    hint: run `etcdimg lock` and review the diff
    ");
    assert_snapshot!(after("sources/3.4.21/go.mod", "go 1.", "go  1."), @"
    error: etcdimg.lock is stale
      expected sha256:11041c151b1c1ba7b262e095f59e02d984cb3c721fd38b7f991efef645d36849, the catalog as it is now
      received sha256:74d44c62a4ce0852bd72af4f32ef10999f680871fd8d135f499ad3e4563d2194, the catalog it was made from
    hint: run `etcdimg lock` and review the diff
    ");
    let fixture = CatalogFixture::empty();
    fs::remove_file(fixture.root().join("etcdimg.lock")).unwrap();
    assert_snapshot!(message(&fixture), @"
    error: there is no etcdimg.lock
    hint: run `etcdimg lock` to write it
    ");
}

#[test]
fn folders_that_are_no_catalog_are_named() {
    for missing in ["versions.yaml", "targets", "sources"] {
        let fixture = CatalogFixture::empty();
        let path = fixture.root().join(missing);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        let message = message(&fixture);
        assert!(message.contains(&format!("FIXTURE/root/{missing}`")), "{message}");
        assert!(message.contains("hint: run etcdimg in a checkout"), "{message}");
    }
}

#[test]
fn a_push_beside_a_broken_catalog_asks_nobody() {
    let fixture = CatalogFixture::empty();
    fixture.edit("versions.yaml", "revision: 0", "revison: 0");
    let (layout, registry) =
        (LayoutFixture::new(&SEVEN[..1], 10, 0), LyingRegistry::start(Behaviour::default()));
    let layout = layout.path().to_str().unwrap();
    let push = fixture.run("push", &[layout, "--registry", &registry.host()]);
    assert_eq!(push.code, Some(3), "{}", push.stderr);
    assert!(push.stderr.starts_with("error: versions.yaml:2: revison: unknown key\n"));
    assert!(registry.state().requests.is_empty());
}

/// Go for a node of a builder, from a module proxy in a folder.
#[test]
#[ignore = "needs Go"]
fn sums_of_go_for_other_hosts_are_locked_when_somebody_asks() {
    const VERSION: &str = "v0.0.1-go1.16.15.linux-arm64";
    crate::require::program(&["go", "version"]);
    let fixture = CatalogFixture::empty();
    let proxy = fixture.path("proxy/golang.org/toolchain/@v");
    fs::create_dir_all(&proxy).unwrap();
    let mut zip = rawzip::ZipArchiveWriter::new(Vec::new());
    let name = format!("golang.org/toolchain@{VERSION}/VERSION");
    let (mut entry, config) = zip.new_file(&name).start().unwrap();
    let mut writer = config.wrap(&mut entry);
    writer.write_all(b"go1.16.15").unwrap();
    let (_, descriptor) = writer.finish().unwrap();
    entry.finish(descriptor).unwrap();
    fs::write(proxy.join(format!("{VERSION}.zip")), zip.finish().unwrap()).unwrap();
    fs::write(proxy.join(format!("{VERSION}.info")), json!({ "Version": VERSION }).to_string())
        .unwrap();
    fs::write(proxy.join(format!("{VERSION}.mod")), "module golang.org/toolchain\n").unwrap();
    let lock = |arguments: &[&str]| {
        let mut lock = fixture.command("lock");
        lock.env("GOPROXY", format!("file://{}", fixture.path("proxy").display()));
        lock.env("GONOSUMDB", "golang.org/toolchain").env("GOFLAGS", "");
        fixture.finish(lock.args(arguments))
    };
    let file = || fs::read_to_string(fixture.root().join("etcdimg.lock")).unwrap();
    lock(&["--go-host=linux-arm64"]).ok();
    let text = file();
    let host = "  - go: 1.16.15\n    host: linux-arm64\n    sum: \"h1:";
    assert!(text.contains(host) && text.contains("host: linux-amd64"), "{text}");
    // Without the flag the entry stays.
    lock(&[]).ok();
    assert_eq!(file(), text);
    let said = lock(&["--go-host=linux-vax"]).error();
    assert!(said.contains("there is no Go toolchain 1.16.15 for linux-vax"), "{said}");
    assert_eq!(file(), text);
}
