//! A base that cannot be pulled: what the registry or this machine did wrong decides the exit code.

use std::fs;
use std::process::Command;

use insta::assert_snapshot;

use crate::catalog_fixture::{CatalogFixture, without_digests};
use crate::lies::{Behaviour, Lie};
use crate::lying_registry::LyingRegistry;
use crate::private_ca::{REPOSITORY, add_base};
use crate::push_fixture::ALWAYS;
use crate::require;

/// A catalog whose only base is in the registry, and locked.
fn locked(registry: &LyingRegistry) -> CatalogFixture {
    let fixture = CatalogFixture::empty();
    let base = format!("  private: {}/{REPOSITORY}:1", registry.host());
    fixture.edit("versions.yaml", "  busybox: docker.io/library/busybox:1.38.0-musl", &base);
    fixture.edit("targets/linux-amd64.yaml", "base: busybox", "base: private");
    fixture.run("lock", &[]).ok();
    fixture
}

/// Fetches the base into an empty cache. Returns the error.
#[track_caller]
fn fetch(registry: &LyingRegistry, fixture: &CatalogFixture, mut program: Command) -> String {
    let cache = fixture.path("empty");
    fs::create_dir_all(&cache).unwrap();
    for variable in ["ARCH", "ETCDIMG_CACHE", "SOURCE_DATE_EPOCH", "NO_COLOR"] {
        program.env_remove(variable);
    }
    program.args(["fetch", "--only=bases", "--quiet", "-C"]).arg(fixture.root());
    let run = fixture.finish(program.arg("--cache-dir").arg(cache));
    without_digests(&run.error().replace(&registry.host(), "REGISTRY"))
}

fn etcdimg() -> Command {
    Command::new(env!("CARGO_BIN_EXE_etcdimg"))
}

#[test]
fn wrong_bytes_of_a_base_are_a_failed_verification() {
    let registry = LyingRegistry::start(Behaviour::default());
    let layer = add_base(&registry);
    let fixture = locked(&registry);
    // As long as the layer: a wrong length would be noticed before.
    registry.state().blobs.get_mut(&(REPOSITORY.to_owned(), layer)).unwrap().reverse();
    assert_snapshot!(fetch(&registry, &fixture, etcdimg()), @"
    error: cannot fetch `REGISTRY/base/busybox@…`
      http://REGISTRY/v2/base/busybox/blobs/sha256:…: wrong digest
        expected sha256:…
        received sha256:…
    hint: the registry, or a proxy in front of it, sent bytes that do not match their digest: tell its operator
    hint: to use another base, make one from the distribution's busybox: `scripts/busybox-base linux/amd64 FILE`, then `--base busybox=rootfs:FILE@DIGEST`
    exit 4
    ");
    assert!(!fixture.path("empty/blobs/sha256").join(layer.hex()).exists());
}

#[test]
fn a_manifest_of_a_base_with_other_bytes_is_a_failed_verification() {
    let registry = LyingRegistry::start(Behaviour::default());
    add_base(&registry);
    let fixture = locked(&registry);
    for (_, bytes) in registry.state().manifests.values_mut() {
        bytes.push(b'\n');
    }
    let error = fetch(&registry, &fixture, etcdimg());
    assert!(error.contains("wrong digest") && error.ends_with("\nexit 4"), "{error}");
}

#[test]
fn a_registry_that_does_not_have_a_layer_is_unavailable() {
    let registry = LyingRegistry::start(Behaviour::default());
    let layer = add_base(&registry);
    let fixture = locked(&registry);
    registry.state().blobs.remove(&(REPOSITORY.to_owned(), layer));
    assert_snapshot!(fetch(&registry, &fixture, etcdimg()), @"
    error: cannot fetch `REGISTRY/base/busybox@…`
      http://REGISTRY/v2/base/busybox/blobs/sha256:…: 404 Not Found
    hint: run the command again: it continues where it stopped
    hint: to use another base, make one from the distribution's busybox: `scripts/busybox-base linux/amd64 FILE`, then `--base busybox=rootfs:FILE@DIGEST`
    exit 5
    ");
}

#[test]
fn a_registry_with_an_error_of_its_own_is_unavailable() {
    let registry = LyingRegistry::start(Behaviour::default());
    let layer = add_base(&registry);
    let fixture = locked(&registry);
    let lie = Lie::Says(503, &[], "");
    let registry = registry.lie("GET", &format!("/blobs/{layer}"), ALWAYS, lie);
    let error = fetch(&registry, &fixture, etcdimg());
    assert!(error.contains("503 Service Unavailable") && error.ends_with("\nexit 5"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_below_a_base_is_an_error_of_this_machine() {
    require::program(&["unshare", "-m", "true"]);
    let registry = LyingRegistry::start(Behaviour::default());
    add_base(&registry);
    let fixture = locked(&registry);
    let disk = fixture.path("empty");
    fs::create_dir_all(&disk).unwrap();
    // Room for the folders, and none for the first document. The mount is gone with the shell.
    let script = r#"
        mount -t tmpfs -o size=64k tmpfs "$0"
        head -c 1000000 /dev/zero >"$0/full" 2>/dev/null
        exec "$@"
    "#;
    let mut program = Command::new("unshare");
    program.args(["-m", "sh", "-c", script]).arg(&disk).arg(env!("CARGO_BIN_EXE_etcdimg"));
    assert_snapshot!(fetch(&registry, &fixture, program), @"
    error: cannot write `FIXTURE/empty/partial/…`
      because: No space left on device (os error 28)
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`
    exit 7
    ");
}
