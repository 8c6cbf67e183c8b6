//! A file of the write-ahead log: whatever its bytes are, reading it ends without a panic.
#![no_main]

use std::fs;

use etcd_migrate::inspect::log;
use etcd_version::Series;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let member = std::env::temp_dir().join(format!("etcdimg-fuzz-wal-{}", std::process::id()));
    let wal = member.join("wal");
    let snapshots = member.join("snap");
    fs::create_dir_all(&wal).expect("a folder for the log");
    fs::create_dir_all(&snapshots).expect("a folder for the snapshots");
    fs::write(wal.join("0000000000000000-0000000000000000.wal"), bytes).expect("the log");
    // With files of raft snapshots beside it, and without.
    for minor in [7, 8] {
        let _ = log::read(&wal, &snapshots, Some(Series::new(3, minor)));
    }
    fs::remove_dir_all(&member).expect("the folder is removed");
});
