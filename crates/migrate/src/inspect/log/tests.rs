//! Tests of the log: what counts, and what a snapshot covers.

use super::*;
use crate::scratch::ScratchDirectory;
use std::fs;

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn numbers(pairs: &[(u8, u8)]) -> Vec<u8> {
    pairs.iter().flat_map(|(number, value)| [number << 3, *value]).collect()
}

fn request(method: &str, path: &str) -> Vec<u8> {
    [numbers(&[(1, 7)]), field(2, method.as_bytes()), field(3, path.as_bytes())].concat()
}

fn entry(index: u8, request: &[u8]) -> Vec<u8> {
    let entry = [numbers(&[(1, 0), (2, 1), (3, index)]), field(4, request)].concat();
    [numbers(&[(1, 2), (2, 0)]), field(3, &entry)].concat()
}

fn snapshot(index: u8) -> Vec<u8> {
    [numbers(&[(1, 5), (2, 0)]), field(3, &numbers(&[(1, index), (2, 1)]))].concat()
}

/// As etcd frames records: padded to eight bytes, and zeros up to the end of the file.
fn file(records: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for record in records {
        let padding = (8 - record.len() % 8) % 8;
        let mark = if padding == 0 { 0 } else { (0x80 | padding as u64) << 56 };
        file.extend((record.len() as u64 | mark).to_le_bytes());
        file.extend(record);
        file.resize(file.len() + padding, 0);
    }
    file.resize(file.len() + 64, 0);
    file
}

/// A file that has the raft snapshots `taken` beside it.
fn read(file: &[u8], taken: &[u64]) -> LogContents {
    let taken = taken.iter().map(|index| SnapshotName { term: 1, index: *index }).collect();
    let mut reader =
        LogReader { taken: &taken, snapshot: None, entries: vec![], member_names: BTreeMap::new() };
    record::each(file, file.len() as u64, &mut None, &mut |framed| reader.add(framed.record))
        .unwrap();
    reader.finish()
}

#[track_caller]
fn check(records: &[Vec<u8>], taken: &[u64], expected: Option<Series>) {
    assert_eq!(read(&file(records), taken).replayed_until, expected);
}

const V2_STORE: Option<Series> = Some(Series::new(3, 5));
const CONVERTED: Option<Series> = Some(Series::new(3, 6));

#[test]
fn requests_of_the_v2_api_end_at_3_5() {
    let health = request("QGET", "");
    check(&[entry(4, &health)], &[], V2_STORE);
    check(&[entry(4, &field(2, &health))], &[], V2_STORE);
    check(&[entry(4, &request("PUT", "/1/key"))], &[], V2_STORE);
    check(&[entry(4, &request("SYNC", ""))], &[], V2_STORE);
    // Another key than the attributes of a member, and another method than PUT.
    check(&[entry(4, &request("PUT", "/0/members/8e9e/raftAttributes"))], &[], V2_STORE);
    check(&[entry(4, &request("DELETE", "/0/version"))], &[], V2_STORE);
    check(&[], &[], None);
}

#[test]
fn requests_that_3_6_converts_end_there() {
    let attributes = request("PUT", "/0/members/8e9e05c52164694d/attributes");
    check(&[entry(4, &attributes)], &[], CONVERTED);
    check(&[entry(4, &field(2, &attributes))], &[], CONVERTED);
    check(&[entry(4, &request("PUT", "/0/version"))], &[], CONVERTED);
    // A put of the v3 API.
    check(&[entry(4, &field(4, b"key and value"))], &[], None);
}

#[test]
fn the_oldest_request_that_is_replayed_decides() {
    let (health, version) = (request("QGET", ""), request("PUT", "/0/version"));
    check(&[entry(4, &health), entry(5, &version)], &[], V2_STORE);
    check(&[entry(4, &version), entry(5, &health)], &[], V2_STORE);
    check(&[entry(4, &health), snapshot(4), entry(5, &version)], &[4], CONVERTED);
}

#[test]
fn what_a_snapshot_covers_is_not_replayed() {
    let health = request("QGET", "");
    let records = [entry(4, &health), snapshot(5), entry(6, &field(4, b"put"))];
    check(&records, &[5], None);
    // A snapshot whose file or whose record is missing is not used.
    check(&records, &[], V2_STORE);
    check(&records, &[9], V2_STORE);
    check(&[snapshot(5), entry(6, &health)], &[5], V2_STORE);
}

#[test]
fn entries_that_were_written_over_do_not_count() {
    let put = field(4, b"put");
    let health = request("QGET", "");
    check(&[entry(3, &health), entry(4, &health), entry(3, &put)], &[], None);
}

#[test]
fn damage_ends_a_file_and_nothing_else() {
    let whole = file(&[entry(4, &request("QGET", "")), snapshot(5)]);
    for length in 0..whole.len() {
        let until = read(&whole[..length], &[]).replayed_until;
        assert!(until.is_none() || until == V2_STORE);
    }
    assert_eq!(read(&[0xff; 100], &[]), LogContents::default());
}

/// The cluster version as a request of the v3 API sets it.
fn version_set(version: &str) -> Vec<u8> {
    // The tag of field 1300 takes two bytes.
    let set = field(1, version.as_bytes());
    [&[0xa2, 0x51, u8::try_from(set.len()).unwrap()], &set[..]].concat()
}

#[test]
fn the_newest_version_in_the_log_counts_if_the_database_does_not_have_it() {
    let old = [request("PUT", "/0/version"), field(4, b"3.5.0")].concat();
    let records = [entry(4, &old), entry(5, &field(4, b"put")), entry(6, &version_set("3.6.0"))];
    let contents = read(&file(&records), &[]);
    let after = |index| contents.cluster_version_after(index).map(|it| it.to_string());
    assert_eq!(after(0).as_deref(), Some("3.6"));
    assert_eq!(after(5).as_deref(), Some("3.6"));
    assert_eq!(after(6), None);
    // It went down again.
    let records = [entry(4, &version_set("3.7.0")), entry(5, &version_set("3.6.0"))];
    let contents = read(&file(&records), &[]);
    assert_eq!(contents.cluster_version_after(3).map(|it| it.to_string()).unwrap(), "3.6");
}

#[test]
fn the_newest_usable_snapshot_is_named() {
    let records = [snapshot(2), entry(3, b""), snapshot(5), snapshot(9)];
    let named = |taken: &[u64]| read(&file(&records), taken).snapshot.map(|name| name.index);
    assert_eq!(named(&[]), None);
    assert_eq!(named(&[2, 7]), Some(2));
    assert_eq!(named(&[2, 5]), Some(5));
}

#[test]
fn requests_after_the_snapshot_change_its_tree() {
    let [first, second] = [("/1/a", "1"), ("/1/b", "2")]
        .map(|(path, value)| [request("PUT", path), field(4, value.as_bytes())].concat());
    let health = request("QGET", "/1/c");
    let contents = read(&file(&[entry(4, &first), entry(5, &health), entry(6, &second)]), &[]);
    let store = contents.v2_store().unwrap();
    let paths: Vec<_> = store.keys().into_iter().map(|key| key.path).collect();
    assert_eq!(paths, ["/a", "/b"]);
    let contents = read(&file(&[entry(4, &first), snapshot(5), entry(6, &second)]), &[5]);
    assert_eq!(contents.v2_store(), None);
    let tree = br#"{"Root":{"ModifiedIndex":0,"Children":{"1":{"ModifiedIndex":0,"Children":{}}}},
        "CurrentIndex":3}"#;
    let store = LogContents { tree: tree.to_vec(), ..contents }.v2_store().unwrap();
    assert_eq!(store.keys().into_iter().map(|key| key.path).collect::<Vec<_>>(), ["/b"]);
}

fn committed(index: u8) -> Vec<u8> {
    [numbers(&[(1, 3), (2, 0)]), field(3, &numbers(&[(1, 1), (2, 1), (3, index)]))].concat()
}

#[test]
fn without_files_of_snapshots_a_log_begins_at_its_newest_committed_record() {
    let scratch = ScratchDirectory::new();
    let old = [entry(4, &request("QGET", "")), committed(4), snapshot(4)];
    // A snapshot that a leader sent, and that was never committed here, is none.
    let new = [entry(5, &field(4, b"key and value")), committed(5), snapshot(9)];
    scratch.write("wal/0000000000000000-0000000000000000.wal", &file(&old));
    scratch.write("wal/0000000000000001-0000000000000005.wal", &file(&new));
    let [wal, snap] = ["wal", "snap"].map(|name| scratch.path().join(name));
    fs::create_dir(&snap).unwrap();
    let [v3_7, v3_8] = [7, 8].map(|minor| Series::new(3, minor));
    let at_3_8 = super::read(&wal, &snap, Some(v3_8)).unwrap();
    let record = Some(SnapshotName { term: 1, index: 4 });
    assert_eq!((at_3_8.replayed_until, at_3_8.snapshot), (None, record));
    assert_eq!(newest_snapshot(&wal, &snap, v3_8), record);
    // Up to 3.7 only a file counts.
    let at_3_7 = super::read(&wal, &snap, Some(v3_7)).unwrap();
    assert_eq!((at_3_7.replayed_until, at_3_7.snapshot), (V2_STORE, None));
    assert_eq!(newest_snapshot(&wal, &snap, v3_7), None);
}
