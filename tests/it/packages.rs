//! `etcdimg package`: what is in the packages, and that their bytes depend on the inputs alone. The
//! programs are stand-ins; `package_host.rs` installs real ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::process::Command;

use etcdimg::digest::Digest;

use crate::catalog_fixture::{CatalogFixture, files};
use crate::mutable_image::{MutableImage, gunzip};
use crate::require;
use crate::run::run;

const STEM: &str = "etcd-migrate_3.4.21-0_amd64";

/// The files of a run that must have gone well, by name.
fn packed(fixture: &CatalogFixture) -> BTreeMap<String, Vec<u8>> {
    fixture.run("package", &[]).ok();
    files(&fixture.out())
}

/// The members of an `ar` archive, in their order.
fn members(deb: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut rest = deb.strip_prefix(b"!<arch>\n").unwrap();
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest.split_at(60);
        let field = |from, to| str::from_utf8(&header[from..to]).unwrap().trim_end().to_owned();
        assert_eq!(&header[58..], b"`\n");
        let size: usize = field(48, 58).parse().unwrap();
        members.push((field(0, 16), after[..size].to_vec()));
        rest = &after[size + size % 2..];
    }
    members
}

/// Every entry of a gzipped tar: what `tar -t` shows, and its bytes.
fn entries(gzip: &[u8]) -> Vec<(String, Vec<u8>)> {
    let bytes = gunzip(gzip);
    let mut tar = tar::Archive::new(&bytes[..]);
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(
            (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
            (0, 0, 0)
        );
        let mut line =
            format!("{:04o} {}", header.mode().unwrap(), entry.path().unwrap().display());
        if let Some(to) = entry.link_name().unwrap() {
            line.extend([" -> ", &to.display().to_string()]);
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (line, content)
    });
    entries.collect()
}

fn names(entries: &[(String, Vec<u8>)]) -> String {
    entries.iter().flat_map(|(line, _)| [line, "\n"]).collect()
}

#[test]
fn a_package_has_the_programs_in_a_folder_of_their_own() {
    let fixture = CatalogFixture::with_release();
    let files = packed(&fixture);
    let found: Vec<_> = files.keys().map(String::as_str).collect();
    let expected = [".deb", ".sha256", ".tar.gz"].map(|kind| format!("{STEM}{kind}"));
    assert_eq!(found, expected);
    let deb = members(&files[&format!("{STEM}.deb")]);
    let [(format, version), (control, _), (data, tree)] = &deb[..] else { panic!("{}", deb.len()) };
    assert_eq!([format, control, data], ["debian-binary", "control.tar.gz", "data.tar.gz"]);
    assert_eq!(version, b"2.0\n");
    assert_eq!(tree, &files[&format!("{STEM}.tar.gz")], "the tar has the same files");
    insta::assert_snapshot!(names(&entries(tree)), @"
    0755 ./
    0755 ./usr/
    0755 ./usr/lib/
    0755 ./usr/lib/etcd-migrate/
    0755 ./usr/lib/etcd-migrate/bin/
    0755 ./usr/lib/etcd-migrate/share/
    0755 ./usr/lib/etcd-migrate/share/etcdimg/
    0755 ./usr/lib/etcd-migrate/systemd/
    0755 ./usr/sbin/
    0755 ./usr/share/
    0755 ./usr/share/doc/
    0755 ./usr/share/doc/etcd-migrate/
    0755 ./usr/share/lintian/
    0755 ./usr/share/lintian/overrides/
    0644 ./usr/lib/etcd-migrate/origin
    0755 ./usr/lib/etcd-migrate/before-kubelet
    0755 ./usr/lib/etcd-migrate/before-start
    0755 ./usr/lib/etcd-migrate/etcd-migrate
    0644 ./usr/lib/etcd-migrate/systemd/etcd-migrate-kubeadm.service
    0644 ./usr/lib/etcd-migrate/systemd/etcd-migrate.conf
    0644 ./usr/share/doc/etcd-migrate/README
    0644 ./usr/share/doc/etcd-migrate/copyright
    0644 ./usr/share/lintian/overrides/etcd-migrate
    0644 ./usr/share/doc/etcd-migrate/changelog.Debian.gz
    0755 ./usr/lib/etcd-migrate/bin/etcd-3.4.21
    0755 ./usr/lib/etcd-migrate/bin/etcdctl-3.4.21
    0755 ./usr/lib/etcd-migrate/bin/migrate
    0644 ./usr/lib/etcd-migrate/share/etcdimg/bundled-versions
    0644 ./usr/lib/etcd-migrate/share/etcdimg/etcd-versions.json
    0777 ./usr/sbin/etcd-migrate -> ../lib/etcd-migrate/etcd-migrate
    ");
}

#[test]
fn the_control_data_describes_what_is_in_it() {
    let fixture = CatalogFixture::with_release();
    let files = packed(&fixture);
    let deb = members(&files[&format!("{STEM}.deb")]);
    let control = entries(&deb[1].1);
    // No scripts: installing and removing changes nothing else.
    assert_eq!(names(&control), "0755 ./\n0644 ./control\n0644 ./md5sums\n");
    let text = String::from_utf8(control[1].1.clone()).unwrap();
    let tree = entries(&deb[2].1);
    let kib: usize = tree.iter().map(|(_, bytes)| bytes.len().div_ceil(1024)).sum();
    // Folders without the root of all, and links, count one each.
    let others = tree.iter().filter(|(line, _)| line.ends_with('/') || line.contains("->")).count();
    let size = format!("Installed-Size: {}\n", kib + others - 1);
    assert!(text.contains(&size), "{size}{text}");
    insta::assert_snapshot!(text.replace(&size, ""), @"
    Package: etcd-migrate
    Version: 3.4.21-0
    Architecture: amd64
    Maintainer: etcdimg <etcdimg@users.noreply.github.com>
    Suggests: etcd-server
    Section: database
    Priority: optional
    Homepage: https://github.com/etcdimg/etcdimg
    Description: takes etcd's data directory to another version
     It upgrades and downgrades the data of an etcd on this host step by step, also
     over several minor versions, before etcd starts. A part of etcd.service for
     ExecStartPre= is in it, and is switched on by hand.
     .
     It holds etcd, etcdctl and etcdutl of these versions in a folder of its own:
     3.4.21.
    ");
    // Every file is there, and its sum is right.
    let folder = fixture.path("unpacked");
    fs::create_dir(&folder).unwrap();
    tar::Archive::new(&gunzip(&deb[2].1)[..]).unpack(&folder).unwrap();
    fs::write(folder.join("md5sums"), &control[2].1).unwrap();
    let place = folder.display().to_string();
    let checked = run("sh", &["-ec", "cd \"$1\" && md5sum --check --strict md5sums", "sh", &place]);
    let n_files = tree.iter().filter(|(line, _)| !line.ends_with('/') && !line.contains("->"));
    assert_eq!(checked.lines().count(), n_files.count());
}

#[test]
fn the_programs_are_those_of_the_image() {
    let fixture = CatalogFixture::with_release();
    let tree = entries(&packed(&fixture)[&format!("{STEM}.tar.gz")]);
    fs::rename(fixture.out(), fixture.path("packages")).unwrap();
    fixture.build().ok();
    let mut compared = 0;
    for layer in MutableImage::open(&fixture.out()).layers() {
        let mut tar = tar::Archive::new(&layer[..]);
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let Some(place) = path.strip_prefix("usr/local/") else { continue };
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let place = format!(" ./usr/lib/etcd-migrate/{place}");
            let ours = tree.iter().find(|(line, _)| line.ends_with(&place));
            if let Some((_, ours)) = ours.filter(|_| !bytes.is_empty()) {
                assert!(*ours == bytes, "{path} differs");
                compared += 1;
            }
        }
    }
    // etcd, etcdctl, migrate and its two lists.
    assert_eq!(compared, 5);
}

#[test]
fn sums_lie_beside_the_packages() {
    let fixture = CatalogFixture::with_release();
    let printed = fixture.run("package", &[]).ok();
    let files = files(&fixture.out());
    let sum = |kind: &str| Digest::of(&files[&format!("{STEM}{kind}")]).hex();
    let (deb, tar) = (sum(".deb"), sum(".tar.gz"));
    let expected =
        |folder: &str| format!("{deb}  {folder}{STEM}.deb\n{tar}  {folder}{STEM}.tar.gz");
    assert_eq!(printed, expected("FIXTURE/out/"));
    let sums = String::from_utf8(files[&format!("{STEM}.sha256")].clone()).unwrap();
    assert_eq!(sums.trim_end(), expected(""));
    let place = fixture.out().display().to_string();
    let check = "cd \"$1\" && sha256sum --check --strict *.sha256";
    assert_eq!(run("sh", &["-ec", check, "sh", &place]).matches(": OK\n").count(), 2);
}

#[test]
fn the_same_inputs_give_the_same_packages() {
    let expected = packed(&CatalogFixture::with_release());
    for script in ["umask 077", "umask 000", "export TZ=Pacific/Chatham LC_ALL=tr_TR.UTF-8", "cd /"]
    {
        let fixture = CatalogFixture::with_release();
        let mut package = Command::new("sh");
        package.args([
            "-c",
            &format!("{script}\nexec \"$@\""),
            "sh",
            env!("CARGO_BIN_EXE_etcdimg"),
        ]);
        fixture.arguments(&mut package, "package");
        fixture.finish(&mut package).ok();
        assert!(files(&fixture.out()) == expected, "{script}");
    }
    // From the layers of an image, too.
    let built = CatalogFixture::with_release();
    built.build().ok();
    fs::remove_dir_all(built.out()).unwrap();
    assert!(packed(&built) == expected);
}

#[test]
fn the_epoch_is_the_only_time() {
    let fixture = CatalogFixture::with_release();
    let plain = packed(&fixture);
    fixture.run("package", &["--source-date-epoch", "1700000000"]).ok();
    let later = files(&fixture.out());
    let deb = members(&later[&format!("{STEM}.deb")]);
    assert!(plain.keys().eq(later.keys()) && plain != later);
    let bytes = gunzip(&deb[2].1);
    let mut tar = tar::Archive::new(&bytes[..]);
    let times = tar.entries().unwrap().map(|entry| entry.unwrap().header().mtime().unwrap());
    assert!(times.into_iter().all(|time| time == 1_700_000_000));
}

#[test]
fn other_files_in_the_folder_are_kept() {
    let fixture = CatalogFixture::with_release();
    fs::create_dir(fixture.out()).unwrap();
    fs::write(fixture.out().join("mine"), "mine").unwrap();
    let files = packed(&fixture);
    assert_eq!((files.len(), &files["mine"][..]), (4, &b"mine"[..]));
}

#[test]
fn windows_has_no_packages() {
    let fixture = CatalogFixture::with_release();
    let windows = include_str!("../../targets/windows-amd64-ltsc2022.yaml");
    let windows = windows.replace("base: nanoserver-ltsc2022", "base: busybox");
    fs::write(fixture.root().join("targets/windows-amd64-ltsc2022.yaml"), windows).unwrap();
    fixture.relock();
    insta::assert_snapshot!(fixture.run("package", &["--platform", "windows/amd64:ltsc2022"]).error(), @"
    error: there is no package for windows/amd64:ltsc2022
    hint: name a platform of Linux: `--platform linux/arm64`
    exit 1
    ");
    // Where nobody names a platform, it is left out.
    assert_eq!(packed(&fixture).len(), 3);
}

#[test]
fn a_folder_that_cannot_be_written_is_one_clear_error() {
    let fixture = CatalogFixture::with_release();
    fs::write(fixture.out(), "a file").unwrap();
    insta::assert_snapshot!(fixture.run("package", &[]).error(), @"
    error: cannot write `FIXTURE/out`
      because: File exists (os error 17)
    hint: use another folder with `--out DIR`; no file was left half written
    exit 7
    ");
    let refused = fixture.run("package", &["--maintainer", "nobody"]).error();
    assert!(refused.contains("use `NAME <ADDRESS>`") && refused.ends_with("exit 2"), "{refused}");
}

/// The disk is full while a file is written: there is none of that name.
#[test]
#[ignore = "needs root and mount namespaces"]
fn a_full_disk_leaves_no_half_file() {
    require::root();
    require::program(&["unshare", "-m", "true"]);
    let fixture = CatalogFixture::with_release();
    fs::create_dir(fixture.out()).unwrap();
    let script =
        "mount -t tmpfs -o size=64k tmpfs \"$0\"; \"$@\"; code=$?; ls -A \"$0\"; exit $code";
    let mut package = Command::new("unshare");
    package.args(["-m", "sh", "-c", script]).arg(fixture.out());
    package.arg(env!("CARGO_BIN_EXE_etcdimg"));
    fixture.arguments(&mut package, "package");
    let run = fixture.finish(package.arg("--quiet"));
    assert_eq!(run.stdout, "", "{run:?}");
    insta::assert_snapshot!(run.error(), @"
    error: cannot write `FIXTURE/out/etcd-migrate_3.4.21-0_amd64.tar.gz`
      because: No space left on device (os error 28)
    hint: use another folder with `--out DIR`; no file was left half written
    exit 7
    ");
}
