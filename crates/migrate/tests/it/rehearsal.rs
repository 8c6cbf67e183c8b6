//! `migrate rehearse`: the whole way on a copy, and nothing of it stays.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cluster::TestCluster;
use crate::directory::{Directory, outcome};
use crate::etcd::{Real, real};
use crate::events;
use crate::kills::assert_same;
use crate::schema::PLAN;
use crate::v2_api;

fn rehearse(real: &Real, directory: &Directory, to: &str) -> Command {
    let mut command = directory.command(to, &real.bin_dir);
    command.args(["rehearse", "--allow-multi-step-downgrade"]);
    command
}

/// What is in a directory: nothing of it may change, and nothing may come.
fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
#[ignore = "needs etcd servers"]
fn a_rehearsal_goes_the_whole_way_and_changes_nothing() {
    let real = real();
    for (from, to) in [(4, 7), (7, 5), (6, 6)] {
        let [from, to] = [from, to].map(|minor| real.version(minor));
        let seed = real.seed(from);
        let copy = seed.copy();
        let before = (names(&seed.directory.0), names(&seed.directory.path("data")));
        let (code, events) = events::run(&mut rehearse(real, &seed.directory, to));
        assert_eq!(code, Some(0), "{events:?}");
        assert!(events.has("rehearsed"), "{events:?}");
        assert_eq!(events.started().last(), Some(&to), "{events:?}");
        assert_same(&copy.path("data"), &seed.directory.path("data"), "a rehearsal");
        assert_eq!((names(&seed.directory.0), names(&seed.directory.path("data"))), before);
        real.migrate(&seed.directory, to, &["--allow-multi-step-downgrade"]);
        real.check(&seed.directory, to, &seed.contents);
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn what_would_fail_fails_in_the_rehearsal() {
    let real = real();
    let [from, to] = [5, 7].map(|minor| real.version(minor));
    let directory = Directory::new();
    let etcd = v2_api::start(real, &directory, from, &[]);
    v2_api::ask(&etcd, "PUT", "/foo", "value=1");
    drop(etcd);
    let (code, events) = events::run(&mut rehearse(real, &directory, to));
    assert_eq!(code, Some(3), "{events:?}");
    // Somebody's own directory is left alone.
    let seed = real.seed(from);
    seed.directory.write("data.rehearsal/notes", b"mine");
    let (code, events) = events::run(&mut rehearse(real, &seed.directory, to));
    assert_eq!(code, Some(1), "{events:?}");
    assert!(seed.directory.path("data.rehearsal/notes").exists());
    let other = format!("--scratch-dir={}", seed.directory.path("other").display());
    assert_eq!(events::run(rehearse(real, &seed.directory, to).arg(other)).0, Some(0));
    assert!(!seed.directory.path("other").exists());
}

#[test]
#[ignore = "needs etcd servers"]
fn beside_a_running_etcd_a_snapshot_is_rehearsed() {
    let real = real();
    let [from, to] = [4, 6].map(|minor| real.version(minor));
    let seed = real.seed(from);
    let etcd = real.start(&seed.directory, from);
    let (code, events) = events::run(&mut rehearse(real, &seed.directory, to));
    assert_eq!(code, Some(5), "{events:?}");
    let snapshot = seed.directory.path("snapshot");
    etcd.run(&["snapshot", "save", snapshot.to_str().unwrap()]);
    let mut command = rehearse(real, &seed.directory, to);
    let (code, stdout, stderr) =
        outcome(&command.arg("--snapshot").arg(&snapshot).arg("--json").output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    let plan = PLAN.read(&stdout);
    assert!(plan["restore"]["tool"].is_string(), "{plan}");
    assert!(!seed.directory.path("data.rehearsal").exists());
    assert_eq!(etcd.contents(), seed.contents);
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn a_member_of_several_is_rehearsed_alone() {
    let real = real();
    let [from, to] = [4, 6].map(|minor| real.version(minor));
    let mut cluster = TestCluster::new(real, None);
    cluster.begin(from);
    cluster.members[0].etcd.as_ref().unwrap().run(&["put", "a", "b"]);
    cluster.stop(0);
    let (code, events) = events::run(cluster.migrate(0, to).arg("rehearse"));
    assert_eq!(code, Some(0), "{events:?}");
    assert!(events.has("alone") && events.has("rehearsed"), "{events:?}");
    cluster.start(0, from);
    cluster.wait_for(0);
}
