//! `migrate restore`: a snapshot of any version becomes data at any version.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::directory::Directory;
use crate::etcd::{Real, amount, real, side_by_side, spread, succeed};
use crate::events::{self, Events};
use crate::kills::{CALLS, points};
use crate::require::{require, require_root};
use crate::setups::{chown_all, strangers};

/// A snapshot, and what is in it.
pub struct SnapshotSeed {
    pub directory: Directory,
    pub contents: String,
}

impl SnapshotSeed {
    pub fn new(real: &'static Real, version: &str) -> Self {
        let seed = real.seed(version);
        let directory = Directory::new();
        let etcd = real.start(&seed.directory, version);
        etcd.run(&["snapshot", "save", directory.path("snapshot").to_str().unwrap()]);
        drop(etcd);
        let db = seed.directory.path("data/member/snap/db");
        fs::copy(db, directory.path("db")).unwrap();
        Self { directory, contents: seed.contents }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path("snapshot")
    }
}

pub fn restore(real: &Real, directory: &Directory, snapshot: &Path, to: &str) -> Command {
    restore_under(&[], real, directory, snapshot, to)
}

fn restore_under(
    wrapper: &[&str],
    real: &Real,
    directory: &Directory,
    snapshot: &Path,
    to: &str,
) -> Command {
    let mut command = directory.command_under(wrapper, to, &real.bin_dir);
    command.args(["restore", "--allow-multi-step-downgrade", "--snapshot"]).arg(snapshot);
    command
}

#[track_caller]
pub fn refused(command: &mut Command, code: i32, expected: &str) -> Events {
    let (actual, events) = events::run(command);
    assert_eq!(actual, Some(code), "{events:?}");
    assert!(events.error().message.contains(expected), "{events:?}");
    events
}

#[test]
#[ignore = "needs etcd servers"]
fn a_snapshot_of_any_version_is_restored_into_any_version() {
    let real = real();
    let versions: Vec<_> = real.versions.values().map(String::as_str).collect();
    side_by_side(&versions, |from| {
        let seed = SnapshotSeed::new(real, from);
        for to in &versions {
            let directory = Directory::new();
            let command = &mut restore(real, &directory, &seed.path(), to);
            let events = succeed(&directory, command, to);
            assert!(events.has("restore") && !events.has("backup"), "{events:?}");
            real.check(&directory, to, &seed.contents);
            println!("{from} -> {to}");
        }
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn a_copied_database_is_restored_and_the_plan_says_how() {
    let real = real();
    let [from, to] = [5, 7].map(|minor| real.version(minor));
    let seed = SnapshotSeed::new(real, from);
    let directory = Directory::new();
    let db = seed.directory.path("db");
    let plan = events::plan(&mut restore(real, &directory, &db, to));
    assert_eq!(plan["restore"]["tool"], from, "{plan}");
    assert_eq!(plan["from"]["series"], "3.5", "{plan}");
    assert_eq!(plan["steps"][0]["action"], "serve", "{plan}");
    assert!(!directory.path("data").exists());
    succeed(&directory, &mut restore(real, &directory, &db, to), to);
    real.check(&directory, to, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers and root"]
fn restored_data_belongs_to_the_owner_of_the_directory() {
    const OWNER: u32 = 65534;
    let real = real();
    require_root();
    let [from, to] = [4, 6].map(|minor| real.version(minor));
    let seed = SnapshotSeed::new(real, from);
    for is_all in [false, true] {
        let directory = Directory::new();
        let data = directory.path("data");
        fs::create_dir(&data).unwrap();
        chown_all(&data, OWNER);
        // One that fails has written to the directory, too.
        let (whole, broken) = (fs::read(seed.path()).unwrap(), seed.directory.path("broken"));
        fs::write(&broken, [&whole[..whole.len() - 32], &[0; 32]].concat()).unwrap();
        refused(&mut restore(real, &directory, &broken, to), 3, "expected sha256");
        assert_eq!(strangers(&data, OWNER), [""; 0]);
        let mut command = restore(real, &directory, &seed.path(), to);
        if is_all {
            succeed(&directory, &mut command, to);
        } else {
            assert_eq!(events::run(command.arg("--restore-only")).0, Some(0));
            assert_eq!(strangers(&data, OWNER), [""; 0]);
            real.migrate(&directory, to, &[]);
        }
        assert_eq!(strangers(&data, OWNER), [""; 0]);
        real.check(&directory, to, &seed.contents);
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn the_revision_rises_and_the_time_before_is_compacted() {
    const BUMP: u64 = 1_000_000_000;
    let real = real();
    for (from, to) in [(4, 5), (6, 7)].map(|(from, to)| (real.version(from), real.version(to))) {
        let seed = SnapshotSeed::new(real, from);
        let directory = Directory::new();
        let mut command = restore(real, &directory, &seed.path(), to);
        succeed(&directory, command.arg(format!("--bump-revision={BUMP}")), to);
        let etcd = real.start(&directory, to);
        let answer = etcd.run(&["get", "/registry/0", "-w=json"]);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["header"]["revision"].as_u64() > Some(BUMP), "{answer}");
        assert_eq!(answer["count"], 1, "{answer}");
        assert_eq!(etcd.try_run(&["get", "/registry/0", "--rev=4"]), None, "it is compacted");
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn what_cannot_be_restored_is_refused_and_nothing_starts_on_half_of_it() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = SnapshotSeed::new(real, highest);
    let bytes = fs::read(seed.path()).unwrap();
    let directory = Directory::new();
    let file = seed.directory.path("broken");

    fs::write(&file, &bytes[..bytes.len() - 7]).unwrap();
    refused(&mut restore(real, &directory, &file, highest), 3, "is not a whole snapshot");
    refused(
        &mut restore(real, &directory, &seed.directory.path("none"), highest),
        1,
        "cannot read",
    );
    let mut one_minor = directory.command(lowest, &real.bin_dir);
    one_minor.args(["restore", "--snapshot"]).arg(seed.path());
    refused(&mut one_minor, 3, "more than one minor version");
    let stranger = &mut restore(real, &directory, &seed.path(), highest);
    refused(stranger.arg("--initial-cluster=x=http://localhost:1"), 2, "does not have this member");
    let no_file = &mut directory.command(highest, &real.bin_dir);
    refused(no_file.arg("restore"), 2, "--snapshot");
    assert!(!directory.path("data").exists());

    // Its checksum is wrong. Without any data an etcd would start as a new cluster.
    let mut damaged = bytes;
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(&file, damaged).unwrap();
    refused(&mut restore(real, &directory, &file, highest), 3, "expected sha256");
    assert!(!directory.path("data/member").exists());
    let plain = || directory.command(highest, &real.bin_dir);
    refused(&mut plain(), 3, "was interrupted before there was any data");
    refused(plain().arg("--plan"), 3, "was interrupted before there was any data");

    // The whole one goes into the same directory, and a second time changes nothing.
    let again = || restore(real, &directory, &seed.path(), highest);
    succeed(&directory, &mut again(), highest);
    assert_eq!(real.start(&directory, highest).contents(), seed.contents);
    assert!(succeed(&directory, &mut again(), highest).has("restored"));
    assert_eq!(real.start(&directory, highest).contents(), seed.contents);

    let other = real.seed(highest);
    let foreign = &mut restore(real, &other.directory, &seed.path(), highest);
    refused(foreign, 3, "holds data already");
    real.check(&other.directory, highest, &other.contents);
}

/// Kills a restore with these flags before calls, and repeats it; then `finish` takes the data to
/// the target, where it must be whole.
pub fn check_kills(flags: &[&str], finish: impl Fn(&Directory, &str) + Sync) {
    let real = real();
    require(&["strace", "-o", "/dev/null", "true"]);
    let [from, to] = [4, 6].map(|minor| real.version(minor));
    let seed = SnapshotSeed::new(real, from);
    let restore_under = |wrapper: &[&str], directory: &Directory| {
        let mut command = restore_under(wrapper, real, directory, &seed.path(), to);
        command.args(flags);
        command
    };
    let directory = Directory::new();
    let log = directory.path("calls");
    let trace = format!("trace={CALLS}");
    let wrapper = ["strace", "-qq", "-o", log.to_str().unwrap(), "-e", &trace];
    assert_eq!(events::run(&mut restore_under(&wrapper, &directory)).0, Some(0));
    let all = points(&fs::read_to_string(log).unwrap());
    let count = amount("ETCDIMG_REAL_KILLS", 6);
    let chosen = if count >= 300 { all.clone() } else { spread(&all, count) };
    side_by_side(&chosen, |(call, count)| {
        let directory = Directory::new();
        let what = format!("a kill before {call} {count}");
        let inject = format!("inject={call}:signal=KILL:when={count}");
        let trace = format!("trace={call}");
        let wrapper = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let output = restore_under(&wrapper, &directory).output().unwrap();
        assert!(output.status.signal() == Some(9) || output.status.success(), "{what}");
        // Before a restore has begun, the directory is one in which no etcd has started. After that
        // a plain run goes on, or says that there is nothing to go on with.
        if flags.is_empty() && directory.path("data/.migrate/journal").exists() {
            let (code, events) = events::run(&mut directory.command(to, &real.bin_dir));
            assert!([Some(0), Some(3)].contains(&code), "{what}: {events:?}");
            assert_eq!(code == Some(3), !directory.path("data/member").exists(), "{what}");
        }
        let (code, events) = events::run(&mut restore_under(&[], &directory));
        assert_eq!(code, Some(0), "after {what}: {events:?}");
        finish(&directory, to);
        let etcd = real.start(&directory, to);
        assert_eq!(etcd.contents(), seed.contents, "after {what}");
    });
    println!("restore {flags:?} {from} -> {to}: {} of {} points", chosen.len(), all.len());
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_kill_before_any_call_of_a_restore_is_made_good_by_the_next_one() {
    check_kills(&[], |directory, to| assert_eq!(directory.version(), format!("{to}/etcd3")));
}
