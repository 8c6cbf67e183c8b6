//! Content of the v2 API: seen before anything is changed, in the raft snapshot and in the log, and
//! the same as the server itself has.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use etcd_migrate::inspect::log;
use serde_json::Value;

use crate::directory::{Directory, outcome};
use crate::etcd::{Etcd, Real, real, succeed};

/// A server with the v2 API. Only 3.4 and 3.5 have it.
pub fn start(real: &Real, directory: &Directory, version: &str, more: &[&str]) -> Etcd {
    real.spawn_member(directory, version, &[&["--enable-v2"], more].concat()).ready(directory)
}

/// A request for a key of the v2 API; the body of the answer, whatever its status is.
pub fn ask(etcd: &Etcd, method: &str, path: &str, form: &str) -> String {
    ask_v2(etcd, method, &format!("/keys{path}"), form)
}

/// The same for everything that the v2 API has.
pub fn ask_v2(etcd: &Etcd, method: &str, path: &str, form: &str) -> String {
    let address = etcd.endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "{method} /v2{path} HTTP/1.0\r\nHost: {address}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// One request of every kind that the API has, some of which are refused.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("PUT", "/registry/pods/a", "value=1"),
    ("PUT", "/registry/pods/a", "value=2&prevValue=1"),
    ("PUT", "/registry/pods/a", "value=3&prevValue=1"),
    ("PUT", "/registry/pods/b", "value=1&prevExist=false"),
    ("PUT", "/registry/pods/b", "value=2&prevExist=false"),
    ("PUT", "/registry/pods/c", "value=1&prevExist=true"),
    ("PUT", "/registry/pods/b", "value=3&prevExist=true"),
    ("POST", "/queue", "value=first"),
    ("POST", "/queue", "value=second"),
    ("PUT", "/empty", "dir=true"),
    ("PUT", "/gone/x/y", "value=1"),
    ("DELETE", "/gone?dir=true", ""),
    ("DELETE", "/gone?recursive=true", ""),
    ("PUT", "/_hidden/key", "value=unseen"),
    ("PUT", "/leased", "value=1&ttl=3600"),
    ("PUT", "/leased", "ttl=7200&refresh=true&prevExist=true"),
    ("PUT", "/short", "value=1&ttl=1"),
    ("PUT", "/deleted", "value=1"),
    ("DELETE", "/deleted?prevValue=0", ""),
    ("DELETE", "/deleted?prevValue=1", ""),
    ("PUT", "/ünïcode \"key\"", "value=%00%0A%E2%82%AC"),
];

/// Each key of the server with its value; the server lists no hidden ones.
fn served(etcd: &Etcd) -> Vec<(String, String)> {
    fn collect(node: &Value, keys: &mut Vec<(String, String)>) {
        let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
        if node["value"].is_string() {
            keys.push((text("key"), text("value")));
        }
        node["nodes"].as_array().into_iter().flatten().for_each(|node| collect(node, keys));
    }
    let answer: Value = serde_json::from_str(&ask(etcd, "GET", "/?recursive=true", "")).unwrap();
    let mut keys = Vec::new();
    collect(&answer["node"], &mut keys);
    keys.sort();
    keys
}

/// Each key in the files, without hidden ones.
fn stored(directory: &Directory) -> Vec<(String, String)> {
    let [wal, snap] = ["wal", "snap"].map(|name| directory.path("data/member").join(name));
    let store = log::read(&wal, &snap, None).unwrap().v2_store().unwrap();
    let keys = store.keys().into_iter().filter(|key| !key.path.starts_with("/_"));
    keys.map(|key| (key.path, key.value.to_owned())).collect()
}

#[test]
#[ignore = "needs etcd servers"]
fn the_files_hold_what_the_server_has() {
    let real = real();
    // All in the log, all but the last few in a raft snapshot, and a mix of both.
    for (version, count) in [(4, "100000"), (4, "1"), (4, "7"), (5, "100000"), (5, "5")] {
        let version = real.version(version);
        let directory = Directory::new();
        let etcd = start(real, &directory, version, &[&format!("--snapshot-count={count}")]);
        for (method, path, form) in REQUESTS {
            let path = path.replace(' ', "%20").replace('"', "%22").replace('ü', "%C3%BC");
            ask(&etcd, method, &path.replace('ï', "%C3%AF"), form);
        }
        // The key with a second to live goes by a request of the server's own.
        let started = std::time::Instant::now();
        let mut keys = served(&etcd);
        while keys.iter().any(|(key, _)| key == "/short") {
            assert!(started.elapsed().as_secs() < 60, "{keys:?}");
            std::thread::sleep(std::time::Duration::from_millis(100));
            keys = served(&etcd);
        }
        etcd.kill();
        assert!(keys.len() >= 6, "{keys:?}");
        assert_eq!(stored(&directory), keys, "{version} with a snapshot each {count}");
    }
}

#[track_caller]
pub fn refuse(real: &Real, directory: &Directory, to: &str, cause: &str) {
    let before = directory.version();
    for flag in ["--plan", "--no-backup"] {
        let mut command = directory.command(to, &real.bin_dir);
        let (code, _, stderr) = outcome(&command.arg(flag).output().unwrap());
        assert_eq!(code, Some(3), "{stderr}");
        assert!(stderr.contains(cause), "{stderr}");
    }
    assert_eq!(directory.version(), before);
    assert!(!Path::new(&directory.path("data.bak")).exists());
}

#[test]
#[ignore = "needs etcd servers"]
fn content_is_refused_before_anything_changes_and_goes_on_when_it_is_deleted() {
    let real = real();
    let [v3_4, v3_5, v3_6, v3_7] = [4, 5, 6, 7].map(|minor| real.version(minor));
    for version in [v3_4, v3_5] {
        let directory = Directory::new();
        let etcd = start(real, &directory, version, &[]);
        etcd.run(&["put", "/registry/key", "value"]);
        ask(&etcd, "PUT", "/foo", "value=1");
        ask(&etcd, "PUT", "/folder/bar", "value=2");
        // Only the log has it.
        etcd.kill();
        let what = "clients of the v2 API have stored 2 keys in /folder, /foo, and";
        let dies = format!("{what} etcd 3.6 does not start on that");
        for to in [v3_6, v3_7] {
            refuse(real, &directory, to, &dies);
        }
        if version == v3_5 {
            let loses = format!("{what} a downgrade to {v3_4} would lose it");
            refuse(real, &directory, v3_4, &loses);
        }
        let status = directory.status();
        assert_eq!(status["data"]["v2Keys"], 2, "{status}");
        assert_eq!(status["data"]["v2Names"], serde_json::json!(["/folder", "/foo"]));

        // What the hint says.
        let etcd = start(real, &directory, version, &["--snapshot-count=1"]);
        ask(&etcd, "DELETE", "/foo", "");
        ask(&etcd, "DELETE", "/folder?recursive=true", "");
        etcd.run(&["put", "/registry/key", "new value"]);
        drop(etcd);
        succeed(&directory, &mut directory.command(v3_6, &real.bin_dir), v3_6);
        let etcd = real.start(&directory, v3_6);
        assert!(etcd.run(&["get", "/registry/key"]).contains("new value"));
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn deleted_content_in_the_log_counts_more_than_who_has_recorded_the_next_version() {
    let real = real();
    let [v3_5, v3_6] = [5, 6].map(|minor| real.version(minor));
    let directory = Directory::new();
    let etcd = start(real, &directory, v3_5, &[]);
    ask(&etcd, "PUT", "/foo", "value=1");
    ask(&etcd, "DELETE", "/foo", "");
    etcd.run(&["put", "/registry/key", "value"]);
    drop(etcd);
    // As an image of somebody else, and a run of ours, have left it.
    directory.write("data/version.txt", b"3.6.4/etcd3");
    directory.write("data/.migrate/lock", b"");
    let events = succeed(&directory, &mut directory.command(v3_6, &real.bin_dir), v3_6);
    assert!(events.started().contains(&v3_5), "{events:?}");
    let etcd = real.start(&directory, v3_6);
    assert!(etcd.run(&["get", "/registry/key"]).contains("value"));
}
