//! Builds that are killed anywhere, and builds that run at the same time: store and layout are
//! valid, and the next build finishes.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use etcdimg::digest::Digest;

use crate::catalog_fixture::{self, CatalogFixture, Parts};
use crate::faults::{built, check_clean};

#[test]
fn killed_builds_leave_the_old_layout_and_the_next_one_finishes() {
    const KILLS: u32 = 20;
    let fixture = CatalogFixture::with_release();
    let mut old = fixture.command("build");
    let old = fixture.finish(old.args(["--source-date-epoch", "1"])).ok();
    let saved = fixture.path("saved");
    catalog_fixture::copy_folder(&fixture.out(), &saved);
    forget_cache(&fixture);
    let (start, new) = (size_of(&fixture.cache()), built(&fixture));
    let whole = size_of(&fixture.cache()) - start;
    let mut killed = 0;
    // The keys of a map are the randomness that the standard library has.
    let seed = std::env::var("ETCDIMG_TEST_SEED");
    let seed = seed.unwrap_or_else(|_| (RandomState::new().hash_one(()) % 1_000_000).to_string());
    eprintln!("{KILLS} kills, ETCDIMG_TEST_SEED={seed}");
    for i in 0..KILLS {
        forget_cache(&fixture);
        fs::remove_dir_all(fixture.out()).unwrap();
        catalog_fixture::copy_folder(&saved, &fixture.out());
        // Spread over all that a build writes into its cache; the exact place does not matter.
        let jitter = u8::from_str_radix(&Digest::of(format!("{seed} {i}")).hex()[..2], 16).unwrap();
        let after = whole * (u64::from(i) * 256 + u64::from(jitter)) / (u64::from(KILLS) * 256);
        if kill(&fixture, start + after) {
            killed += 1;
            let index = fs::read_to_string(fixture.out().join("index.json")).unwrap();
            assert!(index.contains(&old) || index.contains(&new), "after {after} bytes: {index}");
            fixture.run("verify", &[]).ok();
        }
        assert_eq!(built(&fixture), new, "after {after} bytes");
    }
    assert!(killed >= KILLS / 2, "only {killed} builds were killed before their end");
    let mut gc = fixture.command("cache");
    fixture.finish(gc.arg("gc")).ok();
    assert_eq!(fs::read_dir(fixture.cache().join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(fixture.cache().join("partial")).unwrap().count(), 0);
}

/// Takes away everything that a build can make quickly again.
fn forget_cache(fixture: &CatalogFixture) {
    let _ = fs::remove_dir_all(fixture.cache());
    fs::create_dir_all(fixture.cache()).unwrap();
    Parts::get().copy_compiled(&fixture.cache());
}

/// Bytes of all files below a folder that another process writes to.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Kills a build once its cache has so many bytes; whether it was still at work.
fn kill(fixture: &CatalogFixture, size: u64) -> bool {
    let mut build = fixture.command("build");
    let mut build = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while size_of(&fixture.cache()) < size && build.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    build.kill().unwrap();
    build.wait().unwrap().signal() == Some(9)
}

#[test]
fn builds_at_the_same_time_share_cache_and_layout() {
    let fixture = CatalogFixture::with_release();
    let expected = CatalogFixture::with_release().build().ok();
    for _ in 0..3 {
        forget_cache(&fixture);
        let _ = fs::remove_dir_all(fixture.out());
        let builds: Vec<_> = (0..4)
            .map(|_| {
                let mut build = fixture.command("build");
                build.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for build in builds {
            let output = build.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{stderr}");
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected);
        }
        check_clean(&fixture);
    }
}
