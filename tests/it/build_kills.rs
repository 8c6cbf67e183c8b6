//! Builds that are killed anywhere, and builds that run at the same time: store and layout are
//! valid, and the next build finishes.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::faults::{built, check_clean};
use crate::shop::{self, Parts, Shop};

#[test]
fn killed_builds_leave_the_old_layout_and_the_next_one_finishes() {
    const KILLS: u32 = 20;
    let shop = Shop::stocked();
    let mut old = shop.command("build");
    let old = shop.finish(old.args(["--source-date-epoch", "1"])).ok();
    let saved = shop.path("saved");
    shop::copy_folder(&shop.out(), &saved);
    forget_cache(&shop);
    let (start, new) = (size_of(&shop.cache()), built(&shop));
    let whole = size_of(&shop.cache()) - start;
    let mut killed = 0;
    for i in 0..KILLS {
        forget_cache(&shop);
        fs::remove_dir_all(shop.out()).unwrap();
        shop::copy_folder(&saved, &shop.out());
        // Spread over what a build writes into its cache, and nobody knows where exactly.
        let [jitter, ..] = RandomState::new().hash_one(i).to_le_bytes();
        let after = whole * (u64::from(i) * 256 + u64::from(jitter)) / (u64::from(KILLS) * 256);
        if kill(&shop, start + after) {
            killed += 1;
            let index = fs::read_to_string(shop.out().join("index.json")).unwrap();
            assert!(index.contains(&old) || index.contains(&new), "after {after} bytes: {index}");
            shop.run("verify", &[]).ok();
        }
        assert_eq!(built(&shop), new, "after {after} bytes");
    }
    assert!(killed >= KILLS / 2, "only {killed} builds were killed before their end");
    let mut gc = shop.command("cache");
    shop.finish(gc.arg("gc")).ok();
    assert_eq!(fs::read_dir(shop.cache().join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(shop.cache().join("partial")).unwrap().count(), 0);
}

/// Takes away everything that a build can make quickly again.
fn forget_cache(shop: &Shop) {
    let _ = fs::remove_dir_all(shop.cache());
    fs::create_dir_all(shop.cache()).unwrap();
    Parts::get().copy_compiled(&shop.cache());
}

/// Bytes of all files below a folder that somebody else writes to.
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
fn kill(shop: &Shop, size: u64) -> bool {
    let mut build = shop.command("build");
    let mut build = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while size_of(&shop.cache()) < size && build.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    build.kill().unwrap();
    !build.wait().unwrap().success()
}

#[test]
fn builds_at_the_same_time_share_cache_and_layout() {
    let shop = Shop::stocked();
    let expected = Shop::stocked().build().ok();
    for _ in 0..3 {
        forget_cache(&shop);
        let _ = fs::remove_dir_all(shop.out());
        let builds: Vec<_> = (0..4)
            .map(|_| {
                let mut build = shop.command("build");
                build.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for build in builds {
            let output = build.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{stderr}");
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected);
        }
        check_clean(&shop);
    }
}
