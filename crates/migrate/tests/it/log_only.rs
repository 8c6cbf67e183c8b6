//! Writes that only the log has, because a server was killed before they were in its database: they
//! are there after the migration, and their loss is noticed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::directory::Directory;
use crate::etcd::{Real, own_programs, real, side_by_side, succeed};
use crate::events;
use crate::require::require;
use crate::sameness::{KEYS, only_copy, put_back, seed, with_script};

/// A server whose database stays as it is: what it does is only in its log.
pub const NEVER_COMMITS: [&str; 2] =
    ["--backend-batch-interval=1h", "--backend-batch-limit=1000000000"];

/// The programs of two versions. The first start of `from` keeps everything out of its database, and
/// has to be killed.
fn with_first_start_killed(real: &Real, from: &str, to: &str) -> Directory {
    let bin = own_programs(real, &[from, to]);
    let etcd = bin.path(&format!("etcd-{from}"));
    fs::rename(&etcd, bin.path("real")).unwrap();
    let script = format!(
        "#!/bin/sh\n\
         mkdir {bin}/started 2>/dev/null || exec {bin}/real \"$@\"\n\
         trap '' TERM\n\
         setpriv --pdeathsig KILL {bin}/real \"$@\" --snapshot-count=100000 {} &\n\
         wait\n",
        NEVER_COMMITS.join(" "),
        bin = bin.0.display()
    );
    fs::write(&etcd, script).unwrap();
    fs::set_permissions(&etcd, fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[test]
#[ignore = "needs etcd servers"]
fn what_only_the_log_has_is_counted_after_the_first_step() {
    let real = real();
    let cases = [(4, 6), (5, 7), (5, 4), (7, 6)];
    side_by_side(&cases, |(from, to)| {
        let [from, to] = [*from, *to].map(|minor| real.version(minor));
        let seed = seed(real, from);
        let directory = &seed.directory;
        let before = directory.status();
        let etcd = real.spawn_member(directory, from, &NEVER_COMMITS).ready(directory);
        // Some versions commit what concerns users.
        etcd.run(&["user", "add", "bob:secret"]);
        etcd.run(&["lease", "grant", "1000"]);
        etcd.run(&["put", "/registry/new", "1"]);
        etcd.run(&["put", "/registry/2", "2"]);
        etcd.run(&["del", "/registry/3"]);
        let contents = etcd.contents();
        etcd.kill();
        let killed = directory.status();
        assert_eq!(killed["data"]["revision"], before["data"]["revision"]);
        let events = real.migrate(directory, to, &[]);
        let event = events.only("verified");
        let changed = json!([
            "3 revisions that were written meanwhile",
            "1 lease that was granted meanwhile"
        ]);
        assert_eq!(event["changed"], changed, "{event}");
        assert_eq!((&event["users"], &event["keys"]), (&json!(3), &json!(KEYS + 1)), "{event}");
        real.check(directory, to, &contents);
        println!("{from} -> {to}");
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn a_program_that_loses_what_only_the_log_has_ends_the_run() {
    let real = real();
    let [from, middle, to] = [5, 6, 7].map(|minor| real.version(minor));
    let seed = seed(real, from);
    let directory = &seed.directory;
    let etcd = real.spawn_member(directory, from, &NEVER_COMMITS).ready(directory);
    etcd.run(&["put", "/registry/new", "in the log"]);
    etcd.kill();
    // The first server finds a log that ends where the database does.
    let script = format!(
        "if mkdir {restored}; then\n\
         {} snapshot restore {data}/member/snap/db --skip-hash-check --data-dir {restored}/data &&\n\
         rm -r {data}/member && mv {restored}/data/member {data} || exit 1\n\
         fi >/dev/null 2>&1\n\
         exec REAL \"$@\"",
        real.program("etcdutl", from).display(),
        data = directory.path("data").display(),
        restored = directory.path("restored").display(),
    );
    let loses = with_script(real, &format!("etcd-{middle}"), &script);
    let (code, events) = events::run(&mut directory.command(to, &loses.0));
    assert_eq!(code, Some(4), "{events:?}");
    let error = events.error();
    assert_eq!(error.id, "not-the-same", "{events:?}");
    assert!(error.message.contains("/registry/new"), "{events:?}");
    assert!(!events.has("done"), "{events:?}");
    put_back(directory, &only_copy(directory));
    let events = real.migrate(directory, to, &[]);
    let changed = json!(["1 revision that was written meanwhile"]);
    assert_eq!(events.only("verified")["changed"], changed, "{events:?}");
    assert!(real.start(directory, to).run(&["get", "/registry/new"]).contains("in the log"));
}

#[test]
#[ignore = "needs etcd servers and setpriv"]
fn what_a_killed_server_has_only_in_its_log_is_in_the_restored_data() {
    let real = real();
    require(&["setpriv", "--pdeathsig", "KILL", "true"]);
    let [to, from] = [4, 5].map(|minor| real.version(minor));
    let seed = real.seed(from);
    let directory = &seed.directory;
    let etcd = real.spawn_member(directory, from, &NEVER_COMMITS).ready(directory);
    etcd.run(&["put", "/registry/6", "in the log"]);
    let contents = etcd.contents();
    etcd.kill();
    let bin = with_first_start_killed(real, from, to);
    let mut command = directory.command(to, &bin.0);
    let events = succeed(directory, command.arg("--stop-timeout=1s"), to);
    assert!(events.has("killed"), "{events:?}");
    real.check(directory, to, &contents);
}

#[test]
#[ignore = "needs etcd servers"]
fn what_others_write_into_the_log_between_two_runs_is_kept() {
    let real = real();
    let [from, middle, to] = [5, 6, 7].map(|minor| real.version(minor));
    let seed = real.seed_with(from, 10);
    let directory = &seed.directory;
    let broken = with_script(real, &format!("etcd-{middle}"), "exit 1");
    let (code, events) = events::run(&mut directory.command(to, &broken.0));
    assert_eq!(code, Some(4), "{events:?}");
    let etcd = real.spawn_member(directory, from, &NEVER_COMMITS).ready(directory);
    etcd.run(&["put", "/registry/foreign", "x"]);
    let contents = etcd.contents();
    etcd.kill();
    real.migrate(directory, to, &[]);
    real.check(directory, to, &contents);
}
