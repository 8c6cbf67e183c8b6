//! Data directories, whole and broken ones.

use super::*;
use crate::inspect::bolt::sample::{Pairs, database};
use crate::scratch::ScratchDirectory;

fn bytes(series: &str) -> &[u8] {
    series.as_bytes()
}

/// A directory with a database of the given `cluster` and `meta` buckets, and a WAL.
fn with_db(cluster: Pairs<'_>, meta: Pairs<'_>) -> ScratchDirectory {
    let scratch = ScratchDirectory::new();
    scratch
        .write("member/snap/db", &database(&[("cluster", true, cluster), ("meta", false, meta)]));
    scratch.write("member/wal/0000000000000000-0000000000000000.wal", b"");
    scratch
}

#[track_caller]
fn check_series(cluster: Pairs<'_>, meta: Pairs<'_>, expected: Option<&str>) {
    let scratch = with_db(cluster, meta);
    let DataDirContents::Etcd3(data) = read(scratch.path()).unwrap().contents else {
        panic!("no data")
    };
    assert_eq!(data.series().map(|series| series.to_string()).as_deref(), expected);
}

#[test]
fn the_data_tells_its_version() {
    let version = |text| [("clusterVersion", bytes(text))];
    check_series(&version("3.4.0"), &[], Some("3.4"));
    check_series(&version("3.5.0"), &[("term", &[0, 0, 0, 0, 0, 0, 0, 2])], Some("3.5"));
    check_series(&version("3.6.0"), &[("storageVersion", b"3.6.0")], Some("3.6"));
    // During a downgrade only the newer etcd can open it.
    check_series(&version("3.5.0"), &[("storageVersion", b"3.6.0")], Some("3.6"));
    // A rolling upgrade: the cluster is still at 3.4 although a 3.5 runs here.
    check_series(&version("3.4.0"), &[("term", &[0, 0, 0, 0, 0, 0, 0, 2])], Some("3.4"));
    check_series(&[], &[("storageVersion", b"3.7.0")], Some("3.7"));
    check_series(&[], &[("term", &[0, 0, 0, 0, 0, 0, 0, 2])], Some("3.5"));
    check_series(&[], &[("term", &[0, 0, 0, 0, 0, 0, 0, 0])], None);
    check_series(&version("3.0.0"), &[], None);
    check_series(&version("latest"), &[("term", &[1])], None);
    check_series(&[], &[], None);
}

#[test]
fn members_are_read_as_json() {
    for (json, name, peer_urls) in [
        (r#"{"id":1,"peerURLs":["http://a:2380"],"name":"n"}"#, "n", &["http://a:2380"][..]),
        // As Go writes what browsers could mistake for HTML.
        (r#"{"peerURLs":["http://[::1]:2380"],"name":"a\u0026b"}"#, "a&b", &["http://[::1]:2380"]),
        (
            r#"{"name":"\"\\ü\ud83d\ude00","peerURLs":[ "http://a:1" , "" ]}"#,
            "\"\\ü😀",
            &["http://a:1"],
        ),
        // It has not started yet.
        (r#"{"id":18446744073709551615,"peerURLs":["http://a:1"]}"#, "", &["http://a:1"]),
        (r#"{"peerURLs":null,"name":"#, "", &[]),
        (r#"{"attributes":{"name":"x"},"name":"n"}"#, "n", &[]),
    ] {
        let member = member(json.as_bytes());
        assert_eq!(
            (member.name.as_str(), &member.peer_urls[..]),
            (name, &peer_urls.iter().map(|&url| url.to_owned()).collect::<Vec<_>>()[..]),
            "{json}"
        );
    }
    let deep = "[".repeat(1 << 20);
    assert_eq!(member(deep.as_bytes()), Member::default());
}

#[test]
fn only_an_enabled_downgrade_counts() {
    let to = |json: &str| downgrade(json.as_bytes()).map(|series| series.to_string());
    assert_eq!(to(r#"{"target-version":"3.6.0","enabled":true}"#).as_deref(), Some("3.6"));
    assert_eq!(to(r#"{ "enabled" : true, "target-version" : "3.6.0" }"#).as_deref(), Some("3.6"));
    for json in
        [r#"{"target-version":"3.6.0","enabled":false}"#, r#"{"target-version":"3.6.0"}"#, "", "{"]
    {
        assert_eq!(to(json), None, "{json}");
    }
}

#[test]
fn a_fresh_directory_holds_nothing() {
    let scratch = ScratchDirectory::new();
    assert_eq!(read(&scratch.path().join("missing")).unwrap(), DataDir::default());
    assert_eq!(read(scratch.path()).unwrap(), DataDir::default());
    for name in [
        "lost+found/x",
        "System Volume Information/x",
        ".migrate/lock",
        ".migrate/backup/2026-08-01T120000Z/member/snap/db",
        "version.txt-next",
        // As file servers and volumes of Kubernetes have them.
        ".snapshot/hourly.0/member/snap/db",
        "..data/x",
        "fixtures/peer/cert.pem",
    ] {
        scratch.write(name, b"3.5");
        assert_eq!(read(scratch.path()).unwrap().contents, DataDirContents::Empty, "{name}");
    }
    scratch.write("version.txt", b"");
    let found = DataDir { is_ours: true, ..DataDir::default() };
    assert_eq!(read(scratch.path()).unwrap(), found);
    scratch.write("version.txt", b"3.4.27/etcd3\n");
    let found = read(scratch.path()).unwrap();
    assert_eq!(found.contents, DataDirContents::Empty);
    assert_eq!(found.file.unwrap().to_string(), "3.4.27/etcd3");
}

#[test]
fn an_empty_version_file_says_nothing() {
    let scratch = with_db(&[("clusterVersion", b"3.5.0")], &[]);
    scratch.write("version.txt", b"");
    assert_eq!(read(scratch.path()).unwrap().file, None);
}

#[test]
fn what_is_no_data_directory_is_refused() {
    #[track_caller]
    fn check(files: &[(&str, &[u8])], expected: &str) {
        let scratch = ScratchDirectory::new();
        for (name, content) in files {
            scratch.write(name, content);
        }
        let failure = read(scratch.path()).unwrap_err();
        assert_eq!(failure.kind, MigrateErrorKind::NotMigratable);
        let path = scratch.path().display().to_string();
        assert_eq!(failure.cause.replace(&path, "DIR"), expected);
    }
    check(&[("notes.txt", b"")], "DIR is not an etcd data directory");
    let version: (&str, &[u8]) = ("version.txt", b"3.4.27/etcd3");
    for lost in ["notes.txt", "member.old/snap/db", ".bak/member/snap/db"] {
        check(&[version, (lost, b"")], "DIR is not an etcd data directory");
    }
    check(
        &[version, (".migrate/replaced/snap/db", b"")],
        "DIR/.migrate/replaced holds data, and there is no `member`",
    );
    check(
        &[("member/snap/db", b"")],
        "DIR has a database but no write-ahead log: an etcd would start as a new, empty cluster",
    );
    check(&[("member/snap/x", b"")], "DIR/member holds neither a database nor a write-ahead log");
    check(
        &[("member/snap/db", b"x"), ("member/wal/0.wal", b"")],
        "cannot read DIR/member/snap/db: not a whole bbolt file: \
         neither of its two first pages is valid",
    );
    check(
        &[("version.txt", b"3.5/etcd3")],
        "failed to parse etcd '<version>/<storage-version>' string from version.txt file contents \
         '3.5/etcd3': malformed version file, expected <major>.<minor>.<patch>/<storage> but got \
         3.5/etcd3: `3.5` is not an etcd version, for example `3.6.14`",
    );
}

#[test]
fn a_log_without_database_is_etcd2() {
    let scratch = ScratchDirectory::new();
    scratch.write("member/wal/0.wal", b"");
    assert_eq!(read(scratch.path()).unwrap().contents, DataDirContents::Etcd2);
}

#[test]
fn arbitrary_version_files_never_panic() {
    let scratch = ScratchDirectory::new();
    for length in 0..300_usize {
        let content: Vec<u8> = (0..length).map(|at| (at * 37 + length).to_le_bytes()[0]).collect();
        scratch.write("version.txt", &content);
        let _ = read_version_file(scratch.path());
    }
}
