//! Content of the v2 API is converted or dropped on the way to a version that does not keep it. The
//! judge is the etcd of that version: it starts, and `etcdctl` finds what has to be there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::directory::{Directory, outcome};
use crate::etcd::{Etcd, Real, real, side_by_side};
use crate::events;
use crate::v2_api::{ask, ask_v2, refuse, start};

const LONG: usize = 100_000;
/// Longer than what etcd takes by default as one request of the v3 API.
const VERY_LONG: usize = 2_000_000;

/// Keys of the v2 API, as they are written in a URL, and of the v3 API.
fn v2_keys() -> Vec<(&'static str, &'static str, String)> {
    let [long, very_long] = [LONG, VERY_LONG].map(|length| "v".repeat(length));
    vec![
        ("/folder/deep/a", "/folder/deep/a", "1".to_owned()),
        ("/folder/b", "/folder/b", "2".to_owned()),
        ("/long", "/long", long),
        ("/very-long", "/very-long", very_long),
        ("/names/a%20b", "/names/a b", "3".to_owned()),
        ("/names/%C3%BC%E2%82%AC%22%3F%23", "/names/ü€\"?#", "4".to_owned()),
        ("/names/100%25", "/names/100%", "5".to_owned()),
        ("/nothing", "/nothing", String::new()),
    ]
}

/// The keys that are there when `migrate` is done, with their values.
pub type Keys = BTreeMap<String, String>;

/// Data with keys of both APIs, and what has to be there after a conversion, and after a drop.
pub struct Content {
    pub directory: Directory,
    pub converted: Keys,
    pub dropped: Keys,
}

/// `more` are flags of the server.
pub fn content(real: &Real, version: &str, more: &[&str]) -> Content {
    let directory = Directory::new();
    let etcd = start(real, &directory, version, more);
    let v3 = [("/registry/key", "value"), ("/taken", "from v3")];
    for (key, value) in v3 {
        etcd.run(&["put", key, value]);
    }
    for (path, _, value) in v2_keys() {
        ask(&etcd, "PUT", path, &format!("value={value}"));
    }
    ask(&etcd, "PUT", "/taken", "value=from v2");
    ask(&etcd, "PUT", "/leased/a", "value=6&ttl=3600");
    ask(&etcd, "PUT", "/in-leased", "dir=true&ttl=7200");
    ask(&etcd, "PUT", "/in-leased/b", "value=7");
    ask(&etcd, "PUT", "/in-leased/c", "value=8");
    ask(&etcd, "PUT", "/_hidden/key", "value=9");
    ask(&etcd, "PUT", "/empty", "dir=true");
    ask(&etcd, "PUT", "/gone", "value=10");
    ask(&etcd, "DELETE", "/gone", "");
    // Over before any server runs that could convert it, or soon after.
    ask(&etcd, "PUT", "/short", "value=11&ttl=1");
    etcd.kill();
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let dropped: Keys = v3.into_iter().map(own).collect();
    let converted = v2_keys().into_iter().map(|(_, key, value)| (key.to_owned(), value));
    let leased = [("/leased/a", "6"), ("/in-leased/b", "7"), ("/in-leased/c", "8")].map(own);
    let converted = converted.chain(leased).chain(dropped.clone()).collect();
    Content { directory, converted, dropped }
}

/// All keys and values of the v3 API.
pub fn keys(etcd: &Etcd) -> Keys {
    let names = etcd.run(&["get", "/", "--prefix", "--keys-only"]);
    let value = |name: &str| {
        let value = etcd.run(&["get", name, "--print-value-only"]);
        (name.to_owned(), value.strip_suffix('\n').unwrap_or(&value).to_owned())
    };
    names.lines().filter(|name| !name.is_empty()).map(value).collect()
}

/// Waits until the key with a second to live has gone, and compares.
#[track_caller]
pub fn check_keys(etcd: &Etcd, expected: &Keys) {
    let started = Instant::now();
    let mut found = keys(etcd);
    while found.contains_key("/short") && started.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(200));
        found = keys(etcd);
    }
    let names = |keys: &Keys| keys.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected));
    // Not printed: the values are long.
    assert!(found == *expected, "a value is another one");
}

/// Two leases: of an hour for one key, and of two hours for two.
#[track_caller]
pub fn check_leases(etcd: &Etcd) {
    let list = etcd.run(&["lease", "list"]);
    let describe = |id: &str| etcd.run(&["lease", "timetolive", id, "--keys"]);
    let mut leases: Vec<_> = list.lines().skip(1).map(describe).collect();
    leases.sort_by_key(|lease| lease.contains("/in-leased/"));
    let [hour, two_hours] = &leases[..] else { panic!("{leases:?}") };
    assert!(hour.contains("attached keys([/leased/a])"), "{hour}");
    assert!(two_hours.contains("/in-leased/b") && two_hours.contains("/in-leased/c"));
    for (lease, longest) in [(hour, 3600), (two_hours, 7200)] {
        let granted = lease.split("TTL(").nth(1).unwrap().split("s)").next().unwrap();
        let granted: u32 = granted.parse().unwrap();
        assert!(granted <= longest && granted > longest - 1800, "{lease}");
    }
}

fn cluster_id(etcd: &Etcd) -> String {
    let status = etcd.run(&["endpoint", "status", "-w=json"]);
    status.split("\"cluster_id\":").nth(1).unwrap().split(',').next().unwrap().to_owned()
}

#[test]
#[ignore = "needs etcd servers"]
fn content_is_converted_or_dropped_and_the_target_starts() {
    let real = real();
    let [v3_4, v3_5, v3_6, v3_7] = [4, 5, 6, 7].map(|minor| real.version(minor));
    // Only in the log, and in a raft snapshot.
    let [log, snapshot] = ["--snapshot-count=100000", "--snapshot-count=1"];
    let cases = [
        (v3_4, v3_7, log, "convert"),
        (v3_4, v3_7, snapshot, "drop"),
        (v3_4, v3_6, snapshot, "convert"),
        (v3_5, v3_6, log, "convert"),
        (v3_5, v3_6, snapshot, "convert"),
        (v3_5, v3_6, log, "drop"),
        (v3_5, v3_4, log, "drop"),
        (v3_5, v3_4, snapshot, "convert"),
    ];
    side_by_side(&cases, |(from, to, more, what)| {
        let content = content(real, from, &[more]);
        let directory = &content.directory;
        refuse(real, directory, to, "clients of the v2 API have stored 1");
        let events = real.migrate(directory, to, &[&format!("--v2-content={what}")]);
        let etcd = real.start(directory, to);
        if *what == "convert" {
            check_keys(&etcd, &content.converted);
            check_leases(&etcd);
            assert_eq!(events.count("v2-converted", "existed"), 1);
            assert_eq!(events.count("v2-converted", "leases") / 2, 1);
            assert!(events.count("v2-converted", "converted") >= 11);
        } else {
            check_keys(&etcd, &content.dropped);
        }
        drop(etcd);
        if to == &v3_4 {
            assert_eq!(directory.status()["data"]["v2Names"], serde_json::json!([]));
        }
        println!("{from} -> {to} {what} {more}");
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn a_plan_says_what_is_there_and_what_will_happen() {
    let real = real();
    let [v3_4, v3_5, v3_6] = [4, 5, 6].map(|minor| real.version(minor));
    let content = content(real, v3_5, &[]);
    let directory = &content.directory;
    let command = |to: &str, what: &str| {
        let mut command = directory.command(to, &real.bin_dir);
        command.env("V2_CONTENT", what);
        command
    };
    let plan = events::plan(&mut command(v3_6, "convert"));
    let found = &plan["from"]["v2"];
    let top = ["/_hidden", "/empty", "/folder", "/in-leased", "/leased", "/long", "/names"];
    assert!(top.iter().all(|name| found["names"].as_array().unwrap().contains(&(*name).into())));
    assert_eq!((&found["hiddenKeys"], &found["auth"]), (&1.into(), &false.into()), "{found}");
    let actions = |plan: &serde_json::Value| {
        let steps = plan["steps"].as_array().unwrap().iter();
        steps.map(|step| step["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(actions(&plan), ["backup", "convert-v2", "record", "record"]);
    assert_eq!(plan["steps"][1]["way"], "delete");
    let plan = events::plan(&mut command(v3_4, "drop"));
    assert_eq!(actions(&plan), ["backup", "downgrade", "record"]);
    assert_eq!(plan["steps"][1]["dropsV2"], true);

    let (code, text, stderr) = outcome(&command(v3_6, "convert").arg("--plan").output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    let shown = "keys in /_hidden, /empty, /folder, /in-leased, /leased and ";
    assert!(text.contains("content of the v2 API: ") && text.contains(shown), "{text}");
    assert!(
        text.contains("write the keys of the v2 API into the v3 API unless they exist"),
        "{text}"
    );
    assert!(text.contains("; 1 hidden key is lost"), "{text}");
    let (_, text, _) = outcome(&command(v3_4, "drop").arg("--plan").output().unwrap());
    assert!(text.contains("; the content of the v2 API is lost"), "{text}");
}

#[test]
#[ignore = "needs etcd servers"]
fn only_for_users_of_the_v2_api_a_snapshot_is_restored() {
    let real = real();
    let [v3_5, v3_6] = [5, 6].map(|minor| real.version(minor));
    let cases = [(false, "drop"), (false, "convert"), (true, "drop"), (true, "convert")];
    side_by_side(&cases, |(has_users, what)| {
        let content = content(real, v3_5, &[]);
        let directory = &content.directory;
        let etcd = start(real, directory, v3_5, &[]);
        let before = cluster_id(&etcd);
        if *has_users {
            let root = r#"{"user":"root","password":"secret"}"#;
            assert!(ask_v2(&etcd, "PUT", "/auth/users/root", root).contains("root"));
            ask_v2(&etcd, "PUT", "/auth/enable", "");
        }
        drop(etcd);
        assert_eq!(directory.status()["data"]["v2Auth"], *has_users);
        let mut command = directory.command(v3_6, &real.bin_dir);
        let plan = events::plan(command.env("V2_CONTENT", what));
        let way = if *has_users { "snapshot" } else { "delete" };
        assert_eq!(plan["steps"][1]["way"], way, "{plan}");
        real.migrate(directory, v3_6, &[&format!("--v2-content={what}")]);
        let etcd = real.start(directory, v3_6);
        let expected = if *what == "drop" { &content.dropped } else { &content.converted };
        check_keys(&etcd, expected);
        assert!(*has_users || cluster_id(&etcd) == before);
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn keys_that_cannot_be_written_are_refused_before_anything_changes() {
    let real = real();
    let [v3_5, v3_6] = [5, 6].map(|minor| real.version(minor));
    let cases = [(true, "authentication enabled"), (false, "NOSPACE alarm")];
    side_by_side(&cases, |(is_locked, cause)| {
        let content = content(real, v3_5, &[]);
        let directory = &content.directory;
        let quota = if *is_locked { "2000000000" } else { "1" };
        let quota = format!("--quota-backend-bytes={quota}");
        let mut etcd = start(real, directory, v3_5, &[&quota]);
        if *is_locked {
            etcd.run(&["user", "add", "root:secret"]);
            etcd.run(&["user", "grant-role", "root", "root"]);
            etcd.run(&["auth", "enable"]);
            etcd.credentials = vec!["--user=root:secret".to_owned()];
        } else {
            assert_eq!(etcd.try_run(&["put", "/more", "x"]), None);
            assert!(etcd.run(&["alarm", "list"]).contains("NOSPACE"));
        }
        let credentials = etcd.credentials.clone();
        drop(etcd);
        let mut command = directory.command(v3_6, &real.bin_dir);
        let (code, events) = events::run(command.arg("--v2-content=convert"));
        assert_eq!(code, Some(3), "{events:?}");
        assert!(events.error().message.contains(cause), "{events:?}");
        assert!(!directory.path("data.bak").exists());
        real.migrate(directory, v3_6, &["--v2-content=drop"]);
        let mut etcd = real.spawn_member(directory, v3_6, &[]);
        etcd.credentials = credentials;
        check_keys(&etcd.ready(directory), &content.dropped);
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn content_that_is_hard_to_see_is_seen() {
    let real = real();
    let [v3_5, v3_6] = [5, 6].map(|minor| real.version(minor));
    // An empty folder, and bytes that are no text, are as fatal for etcd 3.6 as any key.
    let cases = [
        ("/empty", "dir=true", "folders without keys in /empty", None),
        ("/a", "value=%FFb", "1 key in /a", Some(("/a", "\u{fffd}b"))),
        ("/%FFa", "value=b", "1 key in /\u{fffd}a", Some(("/\u{fffd}a", "b"))),
    ];
    side_by_side(&cases, |(path, form, what, key)| {
        let directory = Directory::new();
        let etcd = start(real, &directory, v3_5, &[]);
        ask(&etcd, "PUT", path, form);
        drop(etcd);
        refuse(real, &directory, v3_6, &format!("have stored {what}, and etcd 3.6"));
        let mut command = directory.command(v3_6, &real.bin_dir);
        let (code, events) = events::run(command.arg("--v2-content=convert"));
        if code == Some(4) {
            // The name that the server has in its memory is not the one that it writes: only after
            // a snapshot, which that run has made, are they the same.
            assert!(events.error().message.contains("is still there"), "{events:?}");
            real.migrate(&directory, v3_6, &["--v2-content=convert"]);
        } else {
            assert_eq!(code, Some(0), "{events:?}");
        }
        let expected = key.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        check_keys(&real.start(&directory, v3_6), &expected.collect());
    });
}
