//! `migrate restore --restore-only`: the data stays at the version of the snapshot, and later runs
//! go on from there.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::directory::{Directory, outcome};
use crate::etcd::{Real, real, succeed};
use crate::events;
use crate::restore::{SnapshotSeed, check_kills, refused, restore};

fn restore_only(real: &Real, directory: &Directory, seed: &SnapshotSeed, to: &str) -> Command {
    let mut command = restore(real, directory, &seed.path(), to);
    command.arg("--restore-only");
    command
}

#[test]
#[ignore = "needs etcd servers"]
fn restored_data_stays_where_it_is_until_a_run_takes_it_on() {
    let real = real();
    for (from, to) in [(4, 7), (5, 6), (6, 6), (7, 5)] {
        let [from, to] = [from, to].map(|minor| real.version(minor));
        let seed = SnapshotSeed::new(real, from);
        let directories = [Directory::new(), Directory::new()];
        for directory in &directories {
            let plan = events::plan(&mut restore_only(real, directory, &seed, to));
            assert_eq!(plan["restore"]["only"], true, "{plan}");
            assert_eq!(plan["steps"], json!([]), "{plan}");
            let (code, events) = events::run(&mut restore_only(real, directory, &seed, to));
            assert_eq!(code, Some(0), "{events:?}");
            assert!(events.has("restored") && !events.has("done"), "{events:?}");
            assert_eq!(events.started(), [""; 0]);
            let status = directory.status();
            assert_eq!(status["data"]["series"].as_str(), Some(&from[..3]), "{status}");
            assert_eq!(status["lastJourney"]["outcome"], "restored", "{status}");
            assert!(status["lastJourney"]["step"].is_null(), "{status}");
            // The second time there is nothing to do.
            let before = fs::read(directory.path("data/.migrate/journal")).unwrap();
            let (code, events) = events::run(&mut restore_only(real, directory, &seed, to));
            assert_eq!((code, events.has("restore")), (Some(0), false), "{events:?}");
            assert_eq!(fs::read(directory.path("data/.migrate/journal")).unwrap(), before);
            // It is not what is asked for with another revision.
            let mut other = restore_only(real, directory, &seed, to);
            refused(other.arg("--bump-revision=7"), 3, "holds data already");
        }
        let [by_plain, by_restore] = &directories;
        real.migrate(by_plain, to, &["--allow-multi-step-downgrade"]);
        let mut command = restore(real, by_restore, &seed.path(), to);
        let events = succeed(by_restore, &mut command, to);
        assert!(!events.has("restore"), "{events:?}");
        // A restore does not begin anew, once it has gone on.
        let again = &mut restore_only(real, by_restore, &seed, to);
        assert_eq!(events::run(again).0, Some(0));
        for directory in &directories {
            real.check(directory, to, &seed.contents);
        }
    }
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_kill_before_any_call_is_made_good_by_the_same_command() {
    check_kills(&["--restore-only"], |directory, to| {
        assert_eq!(directory.status()["lastJourney"]["outcome"], "restored");
        real().migrate(directory, to, &[]);
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn what_has_gone_on_is_not_taken_for_restored() {
    let real = real();
    let [from, to] = [4, 6].map(|minor| real.version(minor));
    let seed = SnapshotSeed::new(real, from);
    let directory = Directory::new();
    assert_eq!(events::run(&mut restore_only(real, &directory, &seed, to)).0, Some(0));
    real.migrate(&directory, to, &[]);
    refused(&mut restore_only(real, &directory, &seed, to), 3, "holds data already");
    real.check(&directory, to, &seed.contents);
}

#[test]
fn the_flag_belongs_to_restore() {
    let directory = Directory::new();
    for words in [&["status"][..], &["rehearse", "--snapshot=x"], &["check"], &[]] {
        let mut command = directory.command("3.7.1", &directory.path("bin"));
        let output = command.args(words).arg("--restore-only").output().unwrap();
        let (code, _, stderr) = outcome(&output);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("--restore-only goes with `restore`"), "{stderr}");
    }
}
