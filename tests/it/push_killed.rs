//! A push that was killed continues where it stopped. Also: how much memory a push uses.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use etcdimg::digest::Digest;
use serde_json::json;

use crate::catalog_fixture::{self, CatalogFixture};
use crate::layout_fixture::{self, LayoutFixture, SEVEN};
use crate::lies::Behaviour;
use crate::lying_registry::LyingRegistry;
use crate::push_command::PushCommandFixture;

/// When the program is killed: once the registry has received so many bytes, at random.
/// `ETCDIMG_TEST_KILLS` says how many times, `ETCDIMG_TEST_SEED` repeats a run.
fn kills(size: u64) -> Vec<u64> {
    let number = |name: &str| {
        let text = std::env::var_os(name)?.into_string().unwrap();
        Some(text.parse().unwrap_or_else(|error| panic!("{name}={text:?}: {error}")))
    };
    let kills = number("ETCDIMG_TEST_KILLS").unwrap_or(10);
    // The keys of a map are the randomness that the standard library has.
    let seed = number("ETCDIMG_TEST_SEED");
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(()) % 1_000_000);
    eprintln!("{kills} kills within {size} bytes, ETCDIMG_TEST_SEED={seed}");
    let random = |i: u64| u64::from_str_radix(&Digest::of(format!("{seed} {i}")).hex()[..8], 16);
    // One before the first byte, and none so near to the end that little is left to do.
    (0..kills).map(|i| if i == 0 { 0 } else { random(i).unwrap() % (size * 3 / 4) }).collect()
}

/// Starts a program and kills it once the condition holds. It must not end before: then nothing
/// would be tested.
#[track_caller]
fn kill(command: &mut Command, is_time: impl Fn() -> bool) {
    let mut program = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !is_time() && program.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    program.kill().unwrap();
    let ended = program.wait().unwrap();
    assert_eq!(ended.signal(), Some(9), "it ended before it was killed: {ended}");
}

/// Kills a push when the registry has so many bytes. The registry takes no more until then, so that
/// the push cannot end before, on any machine. Returns how many bytes the registry has.
#[track_caller]
fn kill_at(registry: &LyingRegistry, offset: u64, command: &mut Command) -> u64 {
    registry.state().holds_at = Some(offset);
    kill(command, || registry.state().received >= offset);
    registry.state().holds_at = None;
    registry.settled()
}

#[test]
fn a_push_that_was_killed_goes_on_and_sends_only_what_was_missing() {
    // Longer than what two systems keep in their buffers, so that there is a middle to be killed
    // in.
    let layout = LayoutFixture::new(&SEVEN[..4], 12_000_000, 0);
    for offset in kills(layout.size()) {
        let pusher = PushCommandFixture::new(Behaviour::default());
        let before = kill_at(&pusher.registry, offset, &mut pusher.command(&layout));
        assert!((offset..=layout.size()).contains(&before), "{before} after {offset}");
        assert!(pusher.registry.state().tags.is_empty());
        pusher.push(&layout, &[]).ok();
        pusher.assert_there(&layout);
        let received = pusher.registry.state().received;
        assert_eq!(received, layout.size(), "after {offset}: {before} bytes were there");
    }
}

/// All blobs that the index in a registry needs, and no others.
fn assert_released(registry: &LyingRegistry, index: &str) -> u64 {
    let state = registry.state();
    assert_eq!(
        state.tags[&("etcd".to_owned(), catalog_fixture::TAG.to_owned())].to_string(),
        index
    );
    assert_eq!(state.violations, Vec::<String>::new());
    state.blobs.values().map(|bytes| bytes.len() as u64).sum()
}

#[test]
fn an_all_push_that_was_killed_builds_and_sends_only_what_was_missing() {
    let fixture = CatalogFixture::with_release();
    let start = || LyingRegistry::start(Behaviour::default());
    let all_push = |registry: &LyingRegistry| {
        let mut command = fixture.command("all-push");
        command.args(["--registry", &registry.host(), "-q"]);
        command
    };
    // Layers are made anew, so that there is something to build in between.
    let forget = || {
        let _ = fs::remove_dir_all(fixture.out());
        let _ = fs::remove_dir_all(fixture.cache().join("records/layer"));
    };
    let registry = start();
    let said = fixture.finish(&mut all_push(&registry)).ok();
    let index = said.split('@').nth(1).unwrap().to_owned();
    let size = assert_released(&registry, &index);
    let goes_on = |registry: &LyingRegistry, what: &str| {
        fixture.finish(&mut all_push(registry)).ok();
        assert_eq!(assert_released(registry, &index), size, "{what}");
        assert_eq!(registry.state().received, size, "{what}");
    };
    for offset in kills(size) {
        let registry = start();
        forget();
        kill_at(&registry, offset, &mut all_push(&registry));
        goes_on(&registry, &format!("after {offset}"));
    }
    // In the middle of the build: it writes its first blob, and has asked no registry yet.
    let registry = start();
    forget();
    registry.state().holds_at = Some(0);
    let is_building = || fs::read_dir(fixture.cache().join("tmp")).unwrap().count() > 0;
    for entry in fs::read_dir(fixture.cache().join("tmp")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    kill(&mut all_push(&registry), || is_building() || !registry.state().requests.is_empty());
    registry.state().holds_at = None;
    registry.settled();
    assert!(registry.state().requests.is_empty(), "it was killed after its build");
    goes_on(&registry, "after a kill in the build");
}

/// The most memory that a program has used so far, in KiB; `None` once it has ended.
fn peak_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
fn memory_does_not_grow_with_a_layer() {
    let peaks = [1_u64 << 20, 300 << 20].map(|bytes| {
        let (pusher, layout) =
            (PushCommandFixture::new(Behaviour::default()), LayoutFixture::new(&SEVEN[..1], 10, 0));
        // Nothing but a length, on disk too.
        let layer = layout.path().join("layer");
        fs::File::create(&layer).unwrap().set_len(bytes).unwrap();
        let (digest, _) = Digest::of_reader(fs::File::open(&layer).unwrap()).unwrap();
        fs::rename(&layer, layout.blob(&digest)).unwrap();
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layer = json!({ "mediaType": kind, "digest": digest, "size": bytes });
        let config = layout.add("application/vnd.oci.image.config.v1+json", b"{}");
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        let mut entry = layout.add(layout_fixture::MANIFEST, manifest.to_string().as_bytes());
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "large" });
        layout.name(&[entry]);
        let mut push = pusher.command(&layout);
        let mut push = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut peak = 0;
        while push.try_wait().unwrap().is_none() {
            peak = peak.max(peak_kib(push.id()).unwrap_or(0));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(push.wait().unwrap().success());
        assert_eq!(pusher.registry.settled(), bytes + 2);
        peak
    });
    eprintln!("peaks with a layer of 1 MiB and of 300 MiB: {peaks:?} KiB");
    assert!(peaks[1] < 128 << 10, "{peaks:?} KiB");
    assert!(peaks[1] < peaks[0] + (32 << 10), "{peaks:?} KiB");
}
