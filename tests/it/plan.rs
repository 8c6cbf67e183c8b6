//! `plan` prints what `build` would do, and changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use insta::assert_snapshot;
use serde_json::Value;

use crate::catalog_fixture::{ARCHIVE, CatalogFixture, TAG};

#[test]
fn the_text_shows_index_images_layers_and_files() {
    assert_snapshot!(CatalogFixture::empty().run("plan", &[]).ok(), @"
    index etcd:3.4.21-0 (format 2)
      image linux/amd64
        base busybox = rootfs:sha256:0d084392c6761f84a4803ad95b4498c6c9ef0370b3b143770c4e5dba289800f4
        layer etcd 3.4.21
          from release etcd-v3.4.21-linux-amd64.tar.gz sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
          0555 usr/local/bin/etcd-3.4.21
          0555 usr/local/bin/etcdctl-3.4.21
          0555 usr/local/bin/etcd = etcd-3.4.21
          0555 usr/local/bin/etcdctl = etcdctl-3.4.21
        layer migrate
          from workspace rust 1.95.0 zig 0.17.0 for x86_64-unknown-linux-musl
          0555 usr/local/bin/migrate
          0555 usr/local/bin/migrate-if-needed.sh
          0444 usr/local/share/etcdimg/bundled-versions
          0444 usr/local/share/etcdimg/etcd-versions.json
    ");
    assert_snapshot!(CatalogFixture::empty().run("plan", &["--from", "source"]).ok(), @"
    index etcd:3.4.21-0 (format 2)
      image linux/amd64
        base busybox = rootfs:sha256:0d084392c6761f84a4803ad95b4498c6c9ef0370b3b143770c4e5dba289800f4
        layer etcd 3.4.21
          from source 3.4.21 commit 85b640c go 1.16.15 for linux/amd64 go.sum sha256:07b65fd0caf174ec16bb8aaf972141524ccbf6cef728a6f132e9161527551f41
          0555 usr/local/bin/etcd-3.4.21
          0555 usr/local/bin/etcdctl-3.4.21
          0555 usr/local/bin/etcd = etcd-3.4.21
          0555 usr/local/bin/etcdctl = etcdctl-3.4.21
        layer migrate
          from workspace rust 1.95.0 zig 0.17.0 for x86_64-unknown-linux-musl
          0555 usr/local/bin/migrate
          0555 usr/local/bin/migrate-if-needed.sh
          0444 usr/local/share/etcdimg/bundled-versions
          0444 usr/local/share/etcdimg/etcd-versions.json
    ");
}

#[test]
fn json_is_the_whole_plan() {
    let fixture = CatalogFixture::empty();
    let text = fixture.run("plan", &["--format", "json", "--source-date-epoch", "7"]).ok();
    let plan: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plan["tag"], TAG);
    assert_eq!(plan["epoch_seconds"], 7);
    let image = &plan["images"][0];
    assert_eq!(image["platform"], "linux/amd64");
    let release = &image["layers"][0]["source"];
    assert_eq!(release["kind"], "release");
    assert_eq!(release["file"], ARCHIVE);
    assert_eq!(release["commit"], "85b640cee793e25f3837c47200089d14a8392dc7");
    let [first, second] = [0, 1].map(|i| release["urls"][i].as_str().unwrap_or_default());
    assert!(first.starts_with("file://"), "{first}");
    assert_eq!(second, format!("https://mirror.invalid/v3.4.21/{ARCHIVE}"));
    assert_eq!(image["layers"][1]["name"], "migrate");
    let modes = image["layers"].as_array().unwrap().iter().flat_map(|layer| {
        layer["entries"].as_array().unwrap().iter().map(|it| it["mode"].as_str().unwrap())
    });
    assert!(modes.into_iter().all(|mode| ["0755", "0555", "0444"].contains(&mode)), "{text}");
}

#[test]
fn the_github_matrix_is_one_line_with_one_job_for_each_platform() {
    let text = CatalogFixture::empty().run("plan", &["--format", "github-matrix"]).ok();
    assert_snapshot!(text, @r#"{"include":[{"platform":"linux/amd64","name":"linux-amd64","tag":"3.4.21-0"}]}"#);
}

#[test]
fn a_new_platform_is_one_more_file() {
    let fixture = CatalogFixture::empty();
    let refused = fixture.run("plan", &["--arch", "riscv64"]).error();
    assert_snapshot!(refused, @"
    error: targets/ has no file for linux/riscv64
    exit 3
    ");
    let file = "targets/linux-riscv64.yaml";
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), fixture.root().join(file)).unwrap();
    fixture.relock();
    let plan = fixture.run("plan", &["--arch", "riscv64", "--format", "json"]).ok();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let image = &plan["images"][0];
    assert_eq!(image["platform"], "linux/riscv64");
    assert_eq!(image["layers"][0]["source"]["goarch"], "riscv64");
    assert_eq!(image["layers"][1]["source"]["triple"], "riscv64gc-unknown-linux-musl");
    assert_eq!(image["environment"]["ETCD_UNSUPPORTED_ARCH"], "riscv64");
    let matrix =
        fixture.run("plan", &["--format", "github-matrix", "--arch", "amd64,riscv64"]).ok();
    assert_snapshot!(matrix, @r#"{"include":[{"platform":"linux/amd64","name":"linux-amd64","tag":"3.4.21-0"},{"platform":"linux/riscv64","name":"linux-riscv64","tag":"3.4.21-0"}]}"#);
}

#[test]
fn the_matrix_of_the_repository_has_every_default_platform() {
    let mut plan = std::process::Command::new(env!("CARGO_BIN_EXE_etcdimg"));
    plan.args(["-C", env!("CARGO_MANIFEST_DIR"), "plan", "--format", "github-matrix"]);
    let output = plan.env_remove("ARCH").output().unwrap();
    let matrix: Value = serde_json::from_slice(&output.stdout).unwrap();
    let jobs = matrix["include"].as_array().unwrap();
    let names: Vec<_> = jobs.iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_snapshot!(names.join(" "), @"linux-amd64 linux-arm-v7 linux-arm64 linux-ppc64le linux-s390x windows-amd64-ltsc2022 windows-amd64-ltsc2025");
}

#[test]
fn a_platform_or_base_that_is_not_there_is_named() {
    let fixture = CatalogFixture::empty();
    assert_snapshot!(fixture.run("plan", &["--platform", "linux/arm64"]).error(), @"
    error: targets/ has no file for linux/arm64
    exit 3
    ");
    assert_snapshot!(fixture.run("plan", &["--arch", "vax"]).error(), @"
    error: invalid value 'vax' for '--arch <ARCH>': use amd64, arm, arm64, ppc64le, riscv64 or s390x

    For more information, try '--help'.
    exit 2
    ");
    let other =
        "alpine=oci:x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_snapshot!(fixture.run("plan", &["--base", other]).error(), @"
    error: versions.yaml has no base `alpine`
    exit 3
    ");
}

#[test]
fn planning_touches_nothing() {
    let fixture = CatalogFixture::empty();
    let before = files(&fixture.path(""));
    let mut plan = fixture.command("plan");
    // Nobody can write there, root included.
    plan.env("HOME", "/proc").env_remove("XDG_CACHE_HOME").current_dir("/proc");
    fixture.finish(&mut plan).ok();
    assert_eq!(files(&fixture.path("")), before);
    assert_eq!(fs::read_dir(fixture.cache()).unwrap().count(), 0);
}

/// Every file with its time and size.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().collect::<io::Result<Vec<_>>>().unwrap() {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            found.insert(entry.path(), (metadata.len(), metadata.modified().unwrap()));
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// In the same way for every command, whichever reads it: from a flag or from the environment.
#[test]
fn a_wrong_architecture_is_a_wrong_command_line() {
    let fixture = CatalogFixture::empty();
    for command in ["plan", "fetch", "build", "all-build", "push", "all-push", "test"] {
        for flag in ["--arch=vax", "--platform=linux/vax"] {
            let is_known = command != "test" || flag.starts_with("--arch");
            let said = fixture.run(command, &[flag]).error();
            assert!(said.ends_with("exit 2") && (!is_known || said.contains("vax")), "{said}");
        }
    }
    for command in ["plan", "fetch", "build", "all-build", "push", "all-push"] {
        let output = fixture.command(command).env("ARCH", "vax").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}");
    }
    let output = fixture.command("plan").env("ARCH", "").output().unwrap();
    assert!(output.status.success());
}
