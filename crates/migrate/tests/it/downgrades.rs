//! Ways back that go wrong, or are given up.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::directory::{Directory, outcome};
use crate::etcd::{Real, Seed, real, side_by_side};
use crate::events;
use crate::mount::Mount;
use crate::schema::PLAN;

/// The programs of two versions; the tool that restores writes a part and fails.
fn with_broken_restore(real: &Real, from: &str, to: &str) -> Directory {
    const RESTORE: &str = "#!/bin/sh\n\
        for word; do case $word in */.migrate/restored) mkdir -p \"$word/member\" ;; esac; done\n\
        echo 'no more room' >&2\n\
        exit 1\n";
    let bin = Directory::new();
    for version in [from, to] {
        symlink(real.program("etcd", version), bin.path(&format!("etcd-{version}"))).unwrap();
    }
    let restorer = bin.path(&format!("etcdctl-{to}"));
    fs::write(&restorer, RESTORE).unwrap();
    fs::set_permissions(&restorer, fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[test]
#[ignore = "needs etcd servers"]
fn a_restore_that_fails_leaves_the_data_and_nothing_else() {
    let real = real();
    let [to, from] = [4, 5].map(|minor| real.version(minor));
    let seed = real.seed(from);
    let directory = &seed.directory;
    let bin = with_broken_restore(real, from, to);
    let (code, _, stderr) = outcome(&directory.command(to, &bin.0).output().unwrap());
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains("could not restore the database: no more room"), "{stderr}");
    assert!(!directory.path("data/.migrate/restored").exists());
    // What a kill leaves behind goes with the next run, wherever that leads.
    directory.write("data/.migrate/restored/member/snap/db", b"half");
    directory.write("data/.migrate/staged/member/snap/db", b"half");
    real.migrate(directory, from, &[]);
    for name in ["restored", "staged"] {
        assert!(!directory.path("data/.migrate").join(name).exists(), "{name}");
    }
    real.migrate(directory, to, &[]);
    real.check(directory, to, &seed.contents);
}

fn refuses_for_room(real: &Real, (from, to): (&str, &str), size: &str) {
    let seed = real.seed(from);
    let directory = Directory::new();
    let mount = Mount::tmpfs("size=4g", &directory.0);
    seed.copy_to(&directory.path("data"));
    mount.remount(size);
    for (flags, what) in [
        (&["--no-backup"][..], "what the steps write needs"),
        (&[], "a copy of the data with what the steps write needs"),
    ] {
        let mut command = directory.command(to, &real.bin_dir);
        let (code, events) = events::run(command.args(flags));
        assert_eq!(code, Some(1), "{events:?}");
        assert!(events.error().message.contains(what), "{events:?}");
        assert_eq!(events.started(), [""; 0]);
    }
    mount.remount("size=4g");
    real.migrate(&directory, to, &[]);
    real.check(&directory, to, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers and root"]
fn what_a_killed_server_laid_out_counts_as_room() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = Directory::new();
    let mount = Mount::tmpfs("size=4g", &directory.0);
    seed.copy_to(&directory.path("data"));
    // The log was copied with a hole, which etcd would fill.
    for entry in fs::read_dir(directory.path("data/member/wal")).unwrap() {
        let path = entry.unwrap().path();
        fs::write(&path, fs::read(&path).unwrap()).unwrap();
    }
    directory.write("data/member/wal/0.tmp", &vec![0; 64_000_000]);
    mount.leave(60_000);
    let events = real.migrate(&directory, real.version(6), &["--no-backup"]);
    assert_ne!(events.started(), [""; 0]);
    mount.remount("size=4g");
    real.migrate(&directory, highest, &[]);
    real.check(&directory, highest, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers and root"]
fn what_does_not_fit_is_refused_before_anything_is_started() {
    let real = real();
    // The log needs some 61 MiB, and a restored database comes on top.
    refuses_for_room(real, (real.version(5), real.version(4)), "size=72m");
    refuses_for_room(real, real.ends(), "size=60m");
}

/// Data of a member that was told to go back, before or after it did.
fn going_back(real: &Real, (from, to): (&str, &str), is_down: bool) -> Seed {
    let seed = real.seed(from);
    let etcd = real.start(&seed.directory, from);
    let series = to.rsplit_once('.').unwrap().0;
    let started = Instant::now();
    while etcd.try_run(&["downgrade", "enable", series]).is_none() {
        assert!(started.elapsed() < Duration::from_mins(1), "the downgrade is refused");
        thread::sleep(Duration::from_millis(100));
    }
    let is_at = |status: &str| status.contains(&format!("\"storage\":\"{series}.0\""));
    while is_down && !is_at(&etcd.get("/version")) {
        assert!(started.elapsed() < Duration::from_mins(1), "the downgrade does not end");
        thread::sleep(Duration::from_millis(100));
    }
    drop(etcd);
    seed
}

/// The series that a downgrade is enabled to.
fn enabled_downgrade(directory: &Directory) -> Value {
    directory.status()["data"].as_object().unwrap()["downgradeTo"].clone()
}

fn cancels(plan: &Value) -> bool {
    plan["steps"].as_array().unwrap().iter().any(|step| step["action"] == "cancel-downgrade")
}

#[test]
#[ignore = "needs etcd servers"]
fn a_downgrade_that_was_given_up_is_cancelled() {
    let real = real();
    let [to, from, newer] = [5, 6, 7].map(|minor| real.version(minor));
    side_by_side(&[(false, from), (true, from), (true, newer)], |(is_down, target)| {
        let seed = going_back(real, (from, to), *is_down);
        let directory = &seed.directory;
        let plan = || events::plan(&mut directory.command(target, &real.bin_dir));
        assert_eq!(enabled_downgrade(directory), "3.5");
        // A downgrade that was enabled by hand is finished by hand: it is in the way, or left
        // alone.
        let mut command = directory.command(target, &real.bin_dir);
        let (code, stdout, stderr) = outcome(&command.args(["--plan", "--json"]).output().unwrap());
        let is_left = code == Some(0) && !cancels(&PLAN.read(&stdout));
        assert!(is_left || code == Some(3), "{code:?} {stdout} {stderr}");
        assert_eq!(enabled_downgrade(directory), "3.5");
        let journal =
            format!("target {to}/etcd3\nstep downgrade {from} to {to} in place\noutcome running\n");
        directory.write("data/.migrate/journal", journal.as_bytes());
        assert!(cancels(&plan()));
        real.migrate(directory, target, &[]);
        assert_eq!(enabled_downgrade(directory), Value::Null);
        real.check(directory, target, &seed.contents);
        println!("{from} -> {to} given up for {target}");
    });
}
