//! The proof that a migration has lost nothing: what is compared with real data, what is allowed to
//! change, and what happens when a program loses something.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::directory::{Directory, free_port, outcome};
use crate::etcd::{Real, Seed, real, side_by_side};
use crate::events::{self, Events, Running};
use crate::log_only::NEVER_COMMITS;

pub const KEYS: usize = 2000;

/// Data with keys that were changed and deleted, leases, users and roles.
pub fn seed(real: &Real, version: &str) -> Seed {
    let seed = real.seed_with(version, KEYS);
    let etcd = real.start(&seed.directory, version);
    etcd.run(&["put", "/registry/\u{e9}\n", "a name that is hard to print"]);
    for name in ["root", "alice"] {
        etcd.run(&["user", "add", &format!("{name}:secret")]);
        etcd.run(&["role", "add", name]);
        etcd.run(&["user", "grant-role", name, name]);
    }
    etcd.run(&["role", "grant-permission", "alice", "readwrite", "/registry/", "--prefix"]);
    let contents = etcd.contents();
    drop(etcd);
    Seed { contents, ..seed }
}

fn enable_auth(real: &Real, directory: &Directory, version: &str) {
    real.start(directory, version).run(&["auth", "enable"]);
}

/// What `status` counts, which uses another way of counting, with the users and roles of the seed.
fn figures(directory: &Directory) -> Value {
    let data = &directory.status()["data"];
    json!({
        "keys": data["keys"],
        "revisions": data["revisions"],
        "leases": data["leases"],
        "users": 2,
        "roles": 2,
        "compactedAt": data["compactRevision"],
    })
}

/// The event `verified` has these figures, and names what has changed.
#[track_caller]
fn assert_verified(events: &Events, figures: &Value, changed: &[&str]) {
    let event = events.only("verified");
    for (name, value) in figures.as_object().unwrap() {
        assert_eq!(&event[name], value, "{name}: {event}");
    }
    assert_eq!(event["changed"], json!(changed), "{event}");
    assert_eq!(event["notCompared"], json!([]), "{event}");
}

/// All programs, of which one is replaced by a script. `REAL` in it is the program itself.
pub fn with_script(real: &Real, name: &str, script: &str) -> Directory {
    let bin = Directory::new();
    for version in real.versions.values() {
        for program in ["etcd", "etcdctl", "etcdutl"] {
            let file = format!("{program}-{version}");
            let path = real.program(program, version);
            if !path.exists() {
                continue;
            }
            if file == name {
                let text = script.replace("REAL", path.to_str().unwrap());
                fs::write(bin.path(&file), format!("#!/bin/sh\n{text}\n")).unwrap();
                fs::set_permissions(bin.path(&file), fs::Permissions::from_mode(0o755)).unwrap();
            } else {
                symlink(path, bin.path(&file)).unwrap();
            }
        }
    }
    bin
}

/// Programs of which the etcd of a version loses a key before it does a step.
fn with_thief(real: &Real, version: &str) -> Directory {
    let url = format!("http://127.0.0.1:{}", free_port());
    let etcdctl = real.program("etcdctl", version);
    let script = format!(
        "export ETCDCTL_API=3\n\
         REAL \"$@\" --listen-client-urls={url} >/dev/null 2>&1 & own=$!\n\
         until {} --endpoints={url} del /registry/5 >/dev/null 2>&1; do sleep 0.05; done\n\
         kill $own; wait $own\n\
         exec REAL \"$@\"",
        etcdctl.display()
    );
    with_script(real, &format!("etcd-{version}"), &script)
}

fn run_with(directory: &Directory, to: &str, flag: &str) -> (Option<i32>, Events) {
    events::run(directory.command(to, &real().bin_dir).arg(flag))
}

pub fn only_copy(directory: &Directory) -> std::path::PathBuf {
    let copies: Vec<_> = fs::read_dir(directory.path("data.bak")).unwrap().flatten().collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    copies[0].path()
}

#[test]
#[ignore = "needs etcd servers"]
fn upgrades_and_both_kinds_of_downgrade_are_the_same() {
    let real = real();
    let cases = [(4, 6), (4, 7), (5, 7), (5, 4), (6, 4), (7, 6), (7, 4)];
    side_by_side(&cases, |(from, to)| {
        let [from, to] = [*from, *to].map(|minor| real.version(minor));
        let seed = seed(real, from);
        let directory = &seed.directory;
        // With it, 3.7 does not go back.
        let has_auth = !from.starts_with("3.7");
        if has_auth {
            enable_auth(real, directory, from);
        }
        let before = figures(directory);
        assert_eq!(before["keys"], json!(KEYS + 1));
        assert_ne!(before["revisions"], before["keys"]);
        let mut command = directory.command(to, &real.bin_dir);
        let plan = events::plan(command.arg("--allow-multi-step-downgrade"));
        for step in plan["steps"].as_array().unwrap() {
            let starts_servers = step["action"] == "serve" || step["action"] == "downgrade";
            let changes = json!(["log-replay", "lease-end", "compaction"]);
            let expected = if starts_servers { changes } else { Value::Null };
            assert_eq!(step["mayChange"], expected, "{step}");
        }
        let events = real.migrate(directory, to, &["--allow-multi-step-downgrade"]);
        assert_verified(&events, &before, &[]);
        assert_eq!(figures(directory), before, "{from} {to}");
        let journal = fs::read_to_string(directory.path("data/.migrate/journal")).unwrap();
        assert!(!journal.contains("before"), "{journal}");
        if !has_auth {
            real.check(directory, to, &seed.contents);
        }
        println!("{from} -> {to}");
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn a_compaction_that_was_under_way_may_remove_history_and_nothing_else() {
    let real = real();
    let cases = [(4, 6), (5, 7), (5, 4), (6, 5)];
    side_by_side(&cases, |(from, to)| {
        let [from, to] = [*from, *to].map(|minor| real.version(minor));
        let seed = seed(real, from);
        let directory = &seed.directory;
        let etcd = real.start(directory, from);
        etcd.put_again_and_again(200);
        drop(etcd);
        let before = directory.status();
        let limit = if from.starts_with("3.7") { "" } else { "experimental-" };
        let limit = format!("--{limit}compaction-batch-limit=1");
        let flags = [&NEVER_COMMITS[..], &[&limit]].concat();
        let etcd = real.spawn_member(directory, from, &flags).ready(directory);
        let revision = &before["data"]["revision"];
        etcd.run(&["compact", &revision.to_string()]);
        etcd.kill();
        assert_eq!(directory.status()["data"]["compactRevision"], json!(3));
        let events = real.migrate(directory, to, &[]);
        let event = events.only("verified");
        assert_eq!(&event["compactedAt"], revision, "{event}");
        assert_eq!(event["keys"], before["data"]["keys"], "{event}");
        let removed = event["changed"][0].as_str().unwrap();
        assert!(removed.ends_with(" revisions that a compaction has removed"), "{event}");
        assert_eq!(event["changed"].as_array().unwrap().len(), 1, "{event}");
        println!("{from} -> {to}: {removed}");
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn without_a_copy_nobody_knows_what_a_compaction_has_removed() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = seed(real, lowest);
    let directory = &seed.directory;
    let newest = directory.status()["data"]["revision"].to_string();
    let etcd = real.spawn_member(directory, lowest, &NEVER_COMMITS).ready(directory);
    etcd.run(&["compact", &newest]);
    etcd.kill();
    let events = real.migrate(directory, highest, &["--no-backup"]);
    let event = events.only("verified");
    assert_eq!(event["compactedAt"].to_string(), newest, "{event}");
    let said = event["notCompared"][0].as_str().unwrap();
    assert!(said.starts_with("the history"), "{event}");
}

#[test]
#[ignore = "needs etcd servers"]
fn a_lease_that_ends_during_a_step_takes_its_keys_along() {
    let real = real();
    let [to, from] = [6, 7].map(|minor| real.version(minor));
    let slow = with_script(real, &format!("etcdctl-{from}"), "sleep 8; exec REAL \"$@\"");
    let seed = seed(real, from);
    let directory = &seed.directory;
    let etcd = real.start(directory, from);
    let lease = etcd.run(&["lease", "grant", "5"]);
    let lease = lease.split_whitespace().nth(1).unwrap().to_owned();
    for key in ["/registry/one", "/registry/two"] {
        etcd.run(&["put", key, "x", &format!("--lease={lease}")]);
    }
    drop(etcd);
    let mut command = directory.command(to, &slow.0);
    let (code, events) = events::run(&mut command);
    assert_eq!(code, Some(0), "{events:?}");
    let changed = json!(["1 lease that has ended", "2 keys that leases have deleted"]);
    assert_eq!(events.only("verified")["changed"], changed, "{events:?}");
}

#[test]
#[ignore = "needs etcd servers"]
fn a_program_that_loses_a_key_ends_the_run_and_the_copy_stays() {
    const LOST: &str = "/registry/5";
    let real = real();
    let [from, middle, to] = [5, 6, 7].map(|minor| real.version(minor));
    let seed = seed(real, from);
    let thief = with_thief(real, middle);
    // Also when the log holds more than the database, and without a copy.
    for flags in [&[][..], &["--no-backup"]] {
        let directory = seed.copy();
        let etcd = real.spawn_member(&directory, from, &NEVER_COMMITS).ready(&directory);
        etcd.run(&["put", "/registry/6", "in the log"]);
        etcd.kill();
        let mut command = directory.command(to, &thief.0);
        let (code, events) = events::run(command.args(flags));
        assert_eq!(code, Some(4), "{events:?}");
        let error = events.error();
        assert_eq!(error.id, "not-the-same", "{events:?}");
        assert!(error.message.contains(LOST), "{events:?}");
        assert!(!events.has("verified") && !events.has("done"), "{events:?}");
        assert_ne!(directory.version(), format!("{to}/etcd3"));
        // With the real programs, too: the key is still missing.
        let mut command = directory.command(to, &real.bin_dir);
        let (code, events) = events::run(command.args(flags));
        assert_eq!(code, Some(4), "{events:?}");
        let error = events.error();
        assert_eq!(error.id, "not-the-same", "{events:?}");
        assert!(error.message.contains(LOST), "{events:?}");
        if flags.is_empty() {
            let copy = only_copy(&directory);
            let hints = events.error().hints.join("\n");
            assert!(hints.contains(copy.to_str().unwrap()), "{hints}");
            put_back(&directory, &copy);
            let events = real.migrate(&directory, to, &["--backup-retain=1"]);
            assert!(events.has("verified"), "{events:?}");
            assert!(copy.exists());
            assert!(real.start(&directory, to).run(&["get", "/registry/5"]).contains("value-5"));
        }
    }
}

/// As the manual says.
pub fn put_back(directory: &Directory, copy: &Path) {
    let data = directory.path("data");
    fs::remove_dir_all(data.join("member")).unwrap();
    for name in ["member", "version.txt"] {
        let mut command = Command::new("cp");
        command.arg("-a").arg(copy.join(name)).arg(&data);
        if copy.join(name).exists() {
            assert!(command.status().unwrap().success());
        }
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn a_difference_can_be_accepted_and_what_others_write_afterwards_is_none() {
    let real = real();
    let [from, middle, to] = [5, 6, 7].map(|minor| real.version(minor));
    let seed = seed(real, from);
    let fail = |directory: &Directory| {
        let thief = with_thief(real, middle);
        let (code, events) = events::run(&mut directory.command(to, &thief.0));
        assert_eq!(code, Some(4), "{events:?}");
    };
    let accepted = seed.copy();
    fail(&accepted);
    let (code, events) = run_with(&accepted, to, "--verify=off");
    assert_eq!(code, Some(0), "{events:?}");
    assert!(events.has("verify") && !events.has("verified"), "{events:?}");
    // Nothing is left to compare.
    let events = real.migrate(&accepted, to, &[]);
    assert!(!events.has("verify"), "{events:?}");

    let used = seed.copy();
    fail(&used);
    let copy = only_copy(&used);
    let etcd = real.start(&used, middle);
    etcd.run(&["put", "/registry/7", "after all"]);
    etcd.run(&["del", "/registry/8"]);
    drop(etcd);
    let events = real.migrate(&used, to, &[]);
    assert!(events.messages("verify")[0].contains("is not what the last run left"), "{events:?}");
    assert!(copy.exists());
}

#[test]
#[ignore = "needs etcd servers"]
fn a_run_that_was_killed_compares_with_what_was_there_before_the_first_one() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = seed(real, lowest);
    let before = figures(&seed.directory);
    let kill = |directory: &Directory| {
        let mut running = Running::spawn(&mut directory.command(highest, &real.bin_dir));
        running.wait_for_server();
        running.child.kill().unwrap();
        running.end();
    };
    let directory = seed.copy();
    kill(&directory);
    let events = real.migrate(&directory, highest, &[]);
    assert_verified(&events, &before, &[]);
    // What was there before the first one is in the journal.
    let directory = seed.copy();
    kill(&directory);
    let path = directory.path("data/.migrate/journal");
    let journal = fs::read_to_string(&path).unwrap();
    let (start, rest) = journal.split_once(" history=").unwrap();
    let other = format!("{start} history={}{}", "0".repeat(32), &rest[32..]);
    fs::write(&path, other.replace("before-copy ", "no-copy ")).unwrap();
    let mut command = directory.command(highest, &real.bin_dir);
    let (code, events) = events::run(&mut command);
    assert_eq!(code, Some(4), "{events:?}");
    assert_eq!(events.error().id, "not-the-same", "{events:?}");
}

#[test]
#[ignore = "needs etcd servers"]
fn how_much_is_compared_is_a_flag() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = seed(real, lowest);
    let etcd = real.start(&seed.directory, lowest);
    etcd.put_again_and_again(6000);
    drop(etcd);
    for (depth, keys) in [("full", json!(KEYS + 2)), ("quick", Value::Null)] {
        let directory = seed.copy();
        let events = real.migrate(&directory, highest, &[&format!("--verify={depth}")]);
        let event = events.only("verified");
        assert_eq!((&event["keys"], &event["users"]), (&keys, &json!(2)), "{event}");
        // A quick look sees what is new, too.
        let directory = seed.copy();
        let thief = with_thief(real, real.version(5));
        let mut command = directory.command(highest, &thief.0);
        let (code, events) = events::run(command.arg(format!("--verify={depth}")));
        assert_eq!(code, Some(4), "{events:?}");
        let error = events.error();
        assert_eq!(error.id, "not-the-same", "{events:?}");
        assert!(error.message.contains("/registry/5"), "{events:?}");
    }
    let directory = seed.copy();
    let (code, events) = run_with(&directory, highest, "--verify=off");
    assert_eq!(code, Some(0), "{events:?}");
    assert!(!events.has("verified"), "{events:?}");
    let mut command = seed.directory.command(highest, &real.bin_dir);
    let (code, _, stderr) = outcome(&command.arg("--verify=most").output().unwrap());
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
#[ignore = "needs etcd servers"]
fn a_restored_snapshot_whose_revision_was_raised_is_the_same_after_the_migration() {
    let real = real();
    let [from, to] = [5, 7].map(|minor| real.version(minor));
    let seed = seed(real, from);
    let etcd = real.start(&seed.directory, from);
    let snapshot = seed.directory.path("snapshot.db");
    etcd.run(&["snapshot", "save", snapshot.to_str().unwrap()]);
    drop(etcd);
    let directory = Directory::new();
    let mut restore = Command::new(real.program("etcdutl", from));
    restore.args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir");
    restore.arg(directory.path("data")).args(["--bump-revision=1000000", "--mark-compacted"]);
    restore.args(["--name=m", "--initial-cluster=m=http://localhost:2380"]);
    restore.arg("--initial-advertise-peer-urls=http://localhost:2380");
    assert!(restore.output().unwrap().status.success());
    // No server has run here, so that the first one is of a step.
    let events = real.migrate(&directory, to, &[]);
    let event = events.only("verified");
    assert_eq!(event["keys"], json!(KEYS + 1), "{event}");
    assert!(event["compactedAt"].as_u64().unwrap() >= 1_000_000, "{event}");
    let changed = event["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 1, "{event}");
    assert!(changed[0].as_str().unwrap().ends_with("a compaction has removed"), "{event}");
}
