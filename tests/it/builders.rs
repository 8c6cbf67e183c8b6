//! The host's compilers and docker buildx make the same bytes, of etcd and of `migrate`, for a
//! Linux and for Windows. `scripts/real-parts run` provides BuildKit and buildx.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use etcdimg::digest::Digest;

use crate::catalog_fixture::shared_cache;
use crate::release_fixture::{LAST, ReleaseFixture};
use crate::require::part as tool;
use crate::run::run;

const PLATFORMS: [&str; 2] = ["linux/ppc64le", "windows/amd64:ltsc2022"];

#[test]
#[ignore = "needs BuildKit, a registry, compilers and the network"]
fn both_builders_make_the_same_bytes() {
    let builder = tool("ETCDIMG_TEST_BUILDER");
    let fixture = ReleaseFixture::new();
    let host = build(&fixture, "host", &["--builder=host"]);
    // A cache of its own, which has nothing of what the host compiled.
    let cache = fixture.path("cache");
    let image = format!("--builder-image={}", builder_image(&fixture));
    let name = format!("--buildx-builder={builder}");
    let kept = format!("--cache-dir={}", cache.display());
    let flags = [&image, &name, &kept].map(String::as_str);
    let buildx = build(&fixture, "buildx", &[&["--builder=buildx"], &flags[..]].concat());
    assert_eq!(host, buildx);
    let mut logs: Vec<_> = fs::read_dir(cache.join("logs"))
        .unwrap()
        .map(|log| log.unwrap().file_name().into_string().unwrap())
        .collect();
    logs.sort();
    assert_eq!(
        logs,
        [
            &format!("buildx-etcd-{LAST}-linux-ppc64le.log"),
            &format!("buildx-etcd-{LAST}-windows-amd64.log"),
            "buildx-migrate-powerpc64le-unknown-linux-musl.log",
            "buildx-migrate-x86_64-pc-windows-gnu.log",
        ]
    );
    a_failed_compile_fails_the_build(&fixture, &flags);
}

/// The old tool shipped the programs of the last build instead.
fn a_failed_compile_fails_the_build(fixture: &ReleaseFixture, flags: &[&str]) {
    fixture.break_migrate();
    let fixed = ["build", "--from=source", "--builder=buildx", "--platform=linux/ppc64le"];
    let bases: Vec<_> = fixture.bases.iter().map(String::as_str).collect();
    let said = fixture.fails(6, &[&fixed[..], flags, &bases].concat());
    assert!(said.contains("cannot compile migrate for linux/ppc64le"), "{said}");
    assert!(said.contains("error: broken on purpose"), "{said}");
    let log = "logs/buildx-migrate-powerpc64le-unknown-linux-musl.log";
    assert!(said.contains(log), "{said}");
    let log = fs::read_to_string(fixture.path("cache").join(log)).unwrap();
    assert!(log.contains("error: broken on purpose"), "{log}");

    let said = fixture.fails(5, &[&["--offline"], &fixed[..], flags, &bases].concat());
    assert!(said.contains("--offline is set") && said.contains("--builder host"), "{said}");
}

/// The digest of an index of all platforms: equal ones have equal programs in them.
fn build(fixture: &ReleaseFixture, out: &str, arguments: &[&str]) -> String {
    let out = format!("--out={out}");
    let mut all = vec!["build", "--from=source", &out];
    all.extend(PLATFORMS.iter().flat_map(|platform| ["--platform", platform]));
    all.extend(arguments);
    all.extend(fixture.bases.iter().map(String::as_str));
    String::from_utf8(fixture.etcdimg(&all).stdout).unwrap()
}

/// A builder image made of this machine's toolchains, pushed to the registry of the tests.
fn builder_image(fixture: &ReleaseFixture) -> String {
    let layout = builder_layout(fixture);
    let repository = format!("{}/builder", tool("ETCDIMG_TEST_REGISTRY"));
    let place = layout.to_str().unwrap();
    let pushed = run(&tool("CRANE"), &["push", "--insecure", place, &repository]);
    pushed.trim().to_owned()
}

/// The layout of the builder image. It has gigabytes, so it is kept until one of its inputs
/// changes.
fn builder_layout(fixture: &ReleaseFixture) -> PathBuf {
    let root = fixture.path("root");
    let mut made_of = run("rustc", &["--version", "--verbose"]).into_bytes();
    let sums = format!("sources/{LAST}/go.sum");
    for name in [
        "versions.yaml",
        "Cargo.lock",
        "crates/xtask/src/builder_image.rs",
        "crates/xtask/zig.txt",
        &sums,
    ] {
        made_of.extend(fs::read(root.join(name)).unwrap());
    }
    let parts = shared_cache().join("parts");
    let layout = parts.join(format!("builder-{}", Digest::of(made_of).short()));
    if layout.exists() {
        return layout;
    }
    remove_others(&parts);
    // A build reads less of modules and crates than it takes to fetch them all.
    let fetch = ["fetch", "--only=modules", "--from=source", "--platform"];
    for platform in PLATFORMS {
        fixture.etcdimg(&[&fetch[..], &[platform]].concat());
    }
    let made = tempfile::Builder::new().prefix("builder-").tempdir_in(&parts).unwrap().keep();
    // Not the one of the repository: it would download the Go releases of all versions.
    let mut command = Command::new("cargo");
    command.args(["xtask", "builder-image", "-C"]).arg(&root).arg(&made);
    let status = command.status().unwrap();
    assert!(status.success());
    fs::rename(made, &layout).unwrap();
    layout
}

fn remove_others(parts: &Path) {
    for entry in fs::read_dir(parts).unwrap() {
        let path = entry.unwrap().path();
        let is_builder = path.file_name().unwrap().to_string_lossy().starts_with("builder-");
        if is_builder {
            let _ = fs::remove_dir_all(path);
        }
    }
}
