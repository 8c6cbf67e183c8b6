//! Data directories, whole and broken ones.

use super::*;
use crate::inspect::bolt::sample::{Pairs, database};
use crate::inspect::raft_snapshot::sample as snapshot;
use crate::scratch::ScratchDirectory;

fn read(data_dir: &Path) -> Result<DataDir, MigrateError> {
    super::read(&DataLayout::of(data_dir, None))
}

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
    let version: (&str, &[u8]) = ("version.txt", b"3.4.27/etcd3");
    for (lost, name) in [
        ("notes.txt", "notes.txt"),
        ("member.old/snap/db", "member.old"),
        (".bak/member/snap/db", ".bak"),
    ] {
        let expected = format!("DIR is not an etcd data directory: it holds `{name}`");
        check(&[version, (lost, b"")], &expected);
    }
    let many = ["a", "b", "c", "d", "e", "f", "g"].map(|name| (name, &b""[..]));
    check(&many, "DIR is not an etcd data directory: it holds `a`, `b`, `c`, `d`, `e` and 2 more");
    check(
        &[version, (".migrate/replaced/snap/db", b"")],
        "DIR/.migrate/replaced holds data, and there is no `member`",
    );
    let lost_log =
        "DIR has a database but no write-ahead log: an etcd would start as a new, empty cluster";
    let members: Pairs<'_> = &[("8e9e05c52164694d", b"{}")];
    let keys: Pairs<'_> = &[("12345678_12345678", b"")];
    for bucket in [("members", false, members), ("key", true, keys)] {
        check(&[("member/snap/db", &database(&[bucket]))], lost_log);
    }
    check(&[("member/snap/0000000000000001-0000000000000005.snap", b"")], lost_log);
    check(
        &[("member/wal/0.wal", b""), ("version.txt", b"3.5.9/etcd3")],
        "the database DIR/member/snap/db is missing",
    );
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
fn a_first_start_that_failed_leaves_a_fresh_directory() {
    let unused = database(&[("meta", false, &[("confState", b"{}")])]);
    for (name, content) in [
        ("member/snap/db", &unused[..]),
        ("member/snap/db", b""),
        ("member/wal.tmp/0.wal", b""),
        ("member/wal/0.tmp", b""),
        ("member/snap/x", b""),
    ] {
        let scratch = ScratchDirectory::new();
        scratch.write(name, content);
        assert_eq!(read(scratch.path()).unwrap().contents, DataDirContents::Empty, "{name}");
    }
}

#[test]
fn a_database_that_is_older_than_the_newest_raft_snapshot_is_refused() {
    let index = |number: u8| [0, 0, 0, 0, 0, 0, 0, number];
    let name = "member/snap/0000000000000001-0000000000000005.snap";
    // A record of type 5: a raft snapshot at the index 5 and the term 1.
    let wal = [&[8, 0, 0, 0, 0, 0, 0, 0, 8, 5, 0x1a, 4, 8, 5, 16, 1][..], &[0; 64]].concat();
    let tree = snapshot(br#"{"Root":{"ModifiedIndex":0,"Children":{}},"CurrentIndex":3}"#);
    let with_index = |applied: u8| {
        let scratch = with_db(&[], &[("consistent_index", &index(applied))]);
        scratch.write("member/wal/0000000000000000-0000000000000000.wal", &wal);
        scratch.write(name, &tree);
        scratch
    };
    assert!(read(with_index(5).path()).is_ok());
    let scratch = with_index(4);
    let failure = read(scratch.path()).unwrap_err();
    assert_eq!(failure.kind, MigrateErrorKind::NotMigratable);
    assert!(failure.cause.contains("ends at entry 4 of the log"), "{}", failure.cause);
    // One that came from another member is moved into place at the next start.
    scratch.write("member/snap/0000000000000005.snap.db", b"");
    assert!(read(scratch.path()).is_ok());
    // A damaged snapshot is passed over.
    let scratch = with_index(4);
    scratch.write(name, b"damage");
    assert!(read(scratch.path()).is_ok());
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

#[test]
fn a_place_for_a_log_apart_is_no_data() {
    let scratch = ScratchDirectory::new();
    scratch.write("log/lost+found/x", b"");
    let layout = DataLayout::of(scratch.path(), Some(&scratch.path().join("log/wal")));
    assert_eq!(super::read(&layout).unwrap().contents, DataDirContents::Empty);
    scratch.write("log/wal/0000000000000000-0000000000000000.wal", b"");
    assert!(super::read(&layout).is_err());
    assert!(read(scratch.path()).is_err());
}

#[test]
fn a_log_apart_counts_as_the_log() {
    let scratch = with_db(&[("clusterVersion", b"3.5.0")], &[]);
    let member: Pairs<'_> = &[("1", br#"{"id":1,"peerURLs":["http://a:2380"],"name":"m"}"#)];
    scratch.write("member/snap/db", &database(&[("members", true, member)]));
    let fast = scratch.path().join(".fast");
    let read = || super::read(&DataLayout::of(scratch.path(), Some(&fast)));
    // etcd would begin a new log there.
    let failure = read().unwrap_err();
    assert!(failure.cause.starts_with("the log is in "), "{}", failure.cause);
    fs::rename(scratch.path().join("member/wal"), &fast).unwrap();
    assert!(matches!(read().unwrap().contents, DataDirContents::Etcd3(_)));
    // Who does not know of it is told what to say.
    let failure = super::read(&DataLayout::of(scratch.path(), None)).unwrap_err();
    assert!(failure.hints.iter().any(|hint| hint.contains("ETCD_WAL_DIR")), "{failure:?}");
    fs::remove_dir_all(scratch.path().join("member")).unwrap();
    let failure = read().unwrap_err();
    assert_eq!(failure.kind, MigrateErrorKind::NotMigratable);
    assert!(failure.cause.contains("holds a log, as --wal-dir says"), "{}", failure.cause);
}

#[cfg(unix)]
#[test]
fn a_part_whose_volume_is_missing_is_named() {
    for part in ["member", "member/wal", "member/snap"] {
        let scratch = with_db(&[("clusterVersion", b"3.5.0")], &[]);
        fs::remove_dir_all(scratch.path().join(part)).unwrap();
        std::os::unix::fs::symlink("/no/volume", scratch.path().join(part)).unwrap();
        let failure = read(scratch.path()).unwrap_err();
        assert!(
            failure.cause.ends_with("is a link to /no/volume, which is not there"),
            "{failure:?}"
        );
    }
}
