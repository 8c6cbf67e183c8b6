//! What the directory says beside the database: a log that is ahead of it, leftovers of a first
//! start that failed, files of somebody else, parts that are missing or too old.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use etcd_migrate::inspect::log;

use crate::directory::{Directory, free_port, outcome};
use crate::etcd::{Real, real, succeed};

/// Ends a server after its cluster has agreed on its version and before anything is in its
/// database, where it usually comes 100 ms later.
fn kill_at_agreement(real: &Real, directory: &Directory, version: &str) {
    const WRITE_LATE: [&str; 2] = ["--backend-batch-interval=1h", "--backend-batch-limit=1000000"];
    let etcd = real.spawn_member(directory, version, &WRITE_LATE);
    let series = version.rsplit_once('.').unwrap().0;
    let agreed = format!("\"etcdcluster\":\"{series}");
    let started = Instant::now();
    while !etcd.get("/version").contains(&agreed) {
        assert!(started.elapsed() < Duration::from_mins(1));
    }
    etcd.kill();
    assert!(is_ahead(directory), "{version} was not killed between its log and its database");
}

/// Whether only the log has the version that the cluster has agreed on.
fn is_ahead(directory: &Directory) -> bool {
    let [wal, snap] = ["wal", "snap"].map(|name| directory.path("data/member").join(name));
    let status = directory.status();
    let applied = status["data"]["consistentIndex"].as_u64().unwrap();
    log::read(&wal, &snap, None).unwrap().cluster_version_after(applied).is_some()
}

#[test]
#[ignore = "needs etcd servers"]
fn a_server_that_was_killed_at_its_version_agreement_blocks_no_migration() {
    let real = real();
    let [v3_4, v3_5, v3_6, v3_7] = [4, 5, 6, 7].map(|minor| real.version(minor));
    let [of_3_5, of_3_6] = [v3_5, v3_6].map(|version| format!("{version}/etcd3"));
    // Back again, and on to the version after the next, with and without a record of the server
    // that was killed.
    for (at, killed, file, to) in [
        (v3_4, v3_5, "", v3_4),
        (v3_4, v3_5, &of_3_5, v3_6),
        (v3_6, v3_7, "", v3_6),
        (v3_5, v3_6, "", v3_7),
        (v3_5, v3_6, &of_3_6, v3_7),
        (v3_5, v3_6, "", v3_5),
    ] {
        let seed = real.seed_with(at, 10);
        // A raft snapshot covers all that a later version could not replay, so nothing but the
        // agreement asks for a server.
        let etcd = real.spawn_member(&seed.directory, at, &["--snapshot-count=1"]);
        let etcd = etcd.ready(&seed.directory);
        (0..3).for_each(|_| drop(etcd.run(&["put", "/registry/covered", "x"])));
        let contents = etcd.contents();
        drop(etcd);
        kill_at_agreement(real, &seed.directory, killed);
        seed.directory.write("data/version.txt", file.as_bytes());
        succeed(&seed.directory, &mut seed.directory.command(to, &real.bin_dir), to);
        real.check(&seed.directory, to, &contents);
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn a_first_start_that_failed_locks_nothing() {
    let real = real();
    for version in real.versions.values() {
        let directory = Directory::new();
        succeed(&directory, &mut directory.command(version, &real.bin_dir), version);
        let url = format!("http://127.0.0.1:{}", free_port());
        let arguments = [
            "--name=m".to_owned(),
            "--initial-cluster-state=existing".to_owned(),
            format!("--initial-cluster=m=http://127.0.0.1:1,other={url}"),
            "--initial-advertise-peer-urls=http://127.0.0.1:1".to_owned(),
            format!("--listen-peer-urls={url}"),
            format!("--listen-client-urls=http://127.0.0.1:{}", free_port()),
            "--advertise-client-urls=http://127.0.0.1:1".to_owned(),
        ];
        let mut etcd = real.spawn(&directory, version, &url, &arguments);
        assert!(!etcd.child.wait().unwrap().success(), "{version}");
        assert!(directory.path("data/member/snap").exists(), "{version}");
        succeed(&directory, &mut directory.command(version, &real.bin_dir), version);
        let etcd = real.start(&directory, version);
        etcd.run(&["put", "/registry/key", "value"]);
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn files_that_only_look_like_raft_snapshots_are_not_waited_for() {
    let real = real();
    let [v3_4, v3_6] = [4, 6].map(|minor| real.version(minor));
    let seed = real.seed_with(v3_4, 10);
    let directory = &seed.directory;
    directory.write("data/member/snap/zzz.snap", b"junk");
    directory.write("data/member/snap/ffffffffffffffff-ffffffffffffffff.snap.old", b"junk");
    directory.write("data/member/snap/ffffffffffffffff-fffffffffffffffe.snap/file", b"junk");
    let mut command = directory.command(v3_6, &real.bin_dir);
    succeed(directory, command.arg("--start-timeout=60s"), v3_6);
    real.check(directory, v3_6, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers and mkfifo"]
fn files_that_only_look_like_a_log_are_not_read() {
    let real = real();
    let other = real.seed_with(real.version(4), 10).directory;
    let wal = "data/member/wal";
    let log = fs::read(other.path(wal).join("0000000000000000-0000000000000000.wal")).unwrap();
    for (from, to) in [(5, 7), (5, 4)] {
        let [from, to] = [from, to].map(|minor| real.version(minor));
        let seed = real.seed_with(from, 10);
        let directory = &seed.directory;
        for name in ["old.wal", "backup-of-0.wal"] {
            directory.write(&format!("{wal}/{name}"), &log);
        }
        fs::create_dir(directory.path(wal).join("x.wal")).unwrap();
        let fifo = directory.path(wal).join("p.wal");
        assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
        let mut command = directory.command(to, &real.bin_dir);
        succeed(directory, command.arg("--start-timeout=60s"), to);
        real.check(directory, to, &seed.contents);
    }
}

#[track_caller]
fn refuse(real: &Real, directory: &Directory, to: &str, cause: &str) {
    let (code, _, stderr) = outcome(&directory.command(to, &real.bin_dir).output().unwrap());
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains(cause), "{stderr}");
    assert!(!Path::new(&directory.path("data.bak")).exists());
}

#[test]
#[ignore = "needs etcd servers"]
fn a_lost_or_an_old_database_is_named_before_anything_starts() {
    let real = real();
    let [v3_5, v3_6] = [5, 6].map(|minor| real.version(minor));
    let seed = real.seed_with(v3_5, 10);
    let lost = seed.copy();
    fs::remove_file(lost.path("data/member/snap/db")).unwrap();
    refuse(real, &lost, v3_6, "member/snap/db is missing");

    let old = seed.copy();
    let db = old.path("data/member/snap/db");
    let kept = old.path("db");
    fs::copy(&db, &kept).unwrap();
    let etcd = real.spawn_member(&old, v3_5, &["--snapshot-count=1"]).ready(&old);
    etcd.run(&["put", "/registry/new", "1"]);
    etcd.run(&["put", "/registry/new", "2"]);
    drop(etcd);
    fs::copy(&kept, &db).unwrap();
    refuse(real, &old, v3_6, "but the log begins only after entry");
}

/// Does something on a running server, and ends it in the middle.
fn after(real: &Real, version: &str, work: impl Fn(&crate::etcd::Etcd)) -> Directory {
    let seed = real.seed_with(version, 10);
    let etcd = real.start(&seed.directory, version);
    work(&etcd);
    drop(etcd);
    seed.directory
}

#[test]
#[ignore = "needs etcd servers"]
fn what_no_server_recovers_from_is_named_at_once() {
    let real = real();
    let [v3_4, v3_5, v3_6, v3_7] = [4, 5, 6, 7].map(|minor| real.version(minor));
    let corrupt = after(real, v3_5, |etcd| {
        let body = r#"{"action":"ACTIVATE","memberID":"1","alarm":"CORRUPT"}"#;
        etcd.post("/v3/maintenance/alarm", body);
        assert!(etcd.run(&["alarm", "list"]).contains("CORRUPT"));
    });
    refuse(real, &corrupt, v3_7, "has the CORRUPT alarm");
    let never_started = after(real, v3_4, |etcd| {
        etcd.run(&["member", "add", "other", "--peer-urls=http://127.0.0.1:1"]);
    });
    refuse(real, &never_started, v3_6, "of the 2 members with a vote, only 1 ever started");
    let open = after(real, v3_6, |etcd| {
        etcd.run(&["downgrade", "enable", "3.5"]);
    });
    refuse(real, &open, v3_7, "a downgrade to 3.5 was enabled");
}
