//! A push that was killed continues where it stopped. Also: how much memory a push uses.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let kills = number("ETCDIMG_TEST_KILLS").unwrap_or(10);
    // The keys of a map are the randomness that the standard library has.
    let seed = number("ETCDIMG_TEST_SEED");
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(()) % 1_000_000);
    eprintln!("{kills} kills within {size} bytes, ETCDIMG_TEST_SEED={seed}");
    let random = |i: u64| u64::from_str_radix(&Digest::of(format!("{seed} {i}")).hex()[..8], 16);
    // One before the first byte, and none so near to the end that it comes too late.
    (0..kills).map(|i| if i == 0 { 0 } else { random(i).unwrap() % (size * 3 / 4) }).collect()
}

/// Starts a program and kills it once the condition holds. Returns whether it was still running.
fn kill(command: &mut Command, is_time: impl Fn() -> bool) -> bool {
    let mut program = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !is_time() && program.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    program.kill().unwrap();
    !program.wait().unwrap().success()
}

#[test]
fn a_push_that_was_killed_goes_on_and_sends_only_what_was_missing() {
    // Longer than what two systems keep in their buffers, and over a link of 30 MB/s for each
    // connection, so that there is a middle to be killed in.
    let layout = LayoutFixture::new(&SEVEN[..4], 12_000_000, 0);
    let behaviour = Behaviour { pace: Some(30_000), ..Behaviour::default() };
    let (mut killed, mut offsets) = (0, BTreeSet::new());
    let kills = kills(layout.size());
    for offset in &kills {
        let pusher = PushCommandFixture::new(behaviour.clone());
        let is_time = || pusher.registry.state().received >= *offset;
        killed += usize::from(kill(&mut pusher.command(&layout), is_time));
        let before = pusher.registry.settled();
        assert!(before <= layout.size());
        offsets.insert(before);
        pusher.push(&layout, &[]).ok();
        pusher.assert_there(&layout);
        let received = pusher.registry.state().received;
        assert_eq!(received, layout.size(), "after {offset}: {before} bytes were there");
    }
    eprintln!("killed {killed} of {}, at {} different points", kills.len(), offsets.len());
    assert!(killed >= kills.len() / 2, "only {killed} pushes were killed before their end");
    assert!(offsets.len() >= kills.len() / 2, "{offsets:?}");
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
    // A link of 50 MB/s for each connection.
    let start = || LyingRegistry::start(Behaviour { pace: Some(50_000), ..Behaviour::default() });
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
    let mut killed = 0;
    let kills = kills(size);
    for offset in &kills {
        let registry = start();
        forget();
        let started = Instant::now();
        // One of them before it has pushed anything, in the middle of a build.
        let is_time = || match *offset {
            0 => started.elapsed() > Duration::from_millis(50),
            offset => registry.state().received >= offset,
        };
        killed += usize::from(kill(&mut all_push(&registry), is_time));
        registry.settled();
        fixture.finish(&mut all_push(&registry)).ok();
        assert_eq!(assert_released(&registry, &index), size);
        assert_eq!(registry.state().received, size, "after {offset}");
    }
    eprintln!("killed {killed} of {}", kills.len());
    assert!(killed >= kills.len() / 2, "only {killed} were killed before their end");
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
