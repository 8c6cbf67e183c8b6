//! Tests of what the log may change, and of what it must.

use super::*;
use crate::inspect::crc32c::crc32c;
use crate::scratch::ScratchDirectory;

fn varint(mut rest: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push((rest & 0x7f | 0x80).to_le_bytes()[0]);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
    bytes
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn range(first: &[u8], end: &[u8]) -> Vec<u8> {
    [field(1, first), field(2, end)].concat()
}

/// The changes of one request after another; the first has index 1.
fn writes(requests: &[Vec<u8>], after: u64) -> Writes {
    let indexes: Vec<_> = (1..=u8::try_from(requests.len()).unwrap()).collect();
    writes_of(&file(&indexes.into_iter().zip(requests).collect::<Vec<_>>()), after)
}

fn writes_of(file: &[u8], after: u64) -> Writes {
    let scratch = ScratchDirectory::new();
    scratch.write("0000000000000000-0000000000000000.wal", file);
    super::after(scratch.path(), after).unwrap()
}

/// A file of the log with entries, each with its index.
fn file(entries: &[(u8, &Vec<u8>)]) -> Vec<u8> {
    file_after(7, entries).0
}

/// The same after a file with this checksum; and its own.
fn file_after(mut checksum: u32, entries: &[(u8, &Vec<u8>)]) -> (Vec<u8>, u32) {
    let record = |kind, checksum: u32, data: &[u8]| {
        let checksum = [&[16][..], &varint(u64::from(checksum))].concat();
        let record = [&[8, kind][..], &checksum, data].concat();
        [&(record.len() as u64).to_le_bytes()[..], &record].concat()
    };
    let mut file = record(4, checksum, b"");
    for (index, request) in entries {
        let entry = [&[8, 0, 16, 1, 24, *index][..], &field(4, request)].concat();
        checksum = crc32c(checksum, &entry);
        file.extend(record(2, checksum, &field(3, &entry)));
    }
    file.extend([0; 64]);
    (file, checksum)
}

fn puts(writes: &Writes) -> String {
    let keys = writes.puts.keys().map(String::from_utf8_lossy);
    keys.collect::<Vec<_>>().join(" ")
}

#[test]
fn requests_name_the_keys_that_they_change() {
    let put = field(PUT, &field(1, b"/put"));
    let delete = field(DELETE_RANGE, &field(1, b"/delete"));
    let several = field(DELETE_RANGE, &range(b"/a", b"/c"));
    let both =
        [field(2, &field(2, &field(1, b"/then"))), field(3, &field(3, &range(b"/x", b"\0")))];
    let inner = field(2, &field(4, &field(3, &field(2, &field(1, b"/inner")))));
    let transactions = [field(TXN, &both.concat()), field(TXN, &inner)];
    let requests = [vec![put, delete, several], transactions.to_vec()].concat();
    let all = writes(&requests, 0);
    assert_eq!(all.entries, 5);
    let names = ["/put", "/delete", "/a", "/b", "/bzz", "/then", "/x", "/z", "~", "/inner"];
    for key in names {
        assert!(all.may_write(key.as_bytes()), "{key}");
    }
    for key in ["", "/pu", "/put1", "/c", "/d", "/w"] {
        assert!(!all.may_write(key.as_bytes()), "{key}");
    }
    assert!(!all.changes_users && !all.changes_leases());
    let later = writes(&requests, 1);
    assert!(!later.may_write(b"/put") && later.may_write(b"/delete"));
    assert_eq!(writes(&requests, 5).entries, 0);
}

#[test]
fn requests_of_leases_and_users_are_known() {
    let requests = [field(LEASE_GRANT, &[8, 60, 16, 7]), field(LEASE_REVOKE, &[8, 9])];
    let writes = super::tests::writes(&requests, 0);
    assert!(writes.grants(7) && !writes.grants(9) && writes.revokes(9) && !writes.revokes(7));
    assert!(writes.changes_leases() && !writes.changes_users);
    for number in [AUTH_ENABLE, AUTH_DISABLE, 1100, 1204] {
        assert!(super::tests::writes(&[field(number, b"")], 0).changes_users, "{number}");
    }
    // A login, the version of the cluster, and a value of the v2 API in the place of a put.
    let v2 = [field(V2, b"PUT"), field(3, b"/v2"), field(PUT, b"\x0a\x02/v")].concat();
    let writes = super::tests::writes(&[field(1012, b""), field(1300, b""), v2], 0);
    assert!(!writes.changes_users && !writes.may_write(b"/v"));
}

#[test]
fn a_put_is_certain_until_something_else_may_happen_to_its_key() {
    let put = |key: &str| field(PUT, &field(1, key.as_bytes()));
    let delete =
        |first: &str, end: &str| field(DELETE_RANGE, &range(first.as_bytes(), end.as_bytes()));
    let transaction = |key: &str| field(TXN, &field(3, &field(2, &field(1, key.as_bytes()))));
    let certain = |last: &[Vec<u8>]| {
        let all = [&[put("/a"), put("/b"), put("/c")][..], last].concat();
        puts(&writes(&all, 1))
    };
    assert_eq!(certain(&[]), "/b /c");
    assert_eq!(certain(&[put("/b")]), "/b /c");
    assert_eq!(certain(&[delete("/b", "")]), "/c");
    assert_eq!(certain(&[delete("/b", "/c"), put("/b")]), "/b /c");
    assert_eq!(certain(&[delete("/", "\0")]), "");
    assert_eq!(certain(&[transaction("/c")]), "/b");
    for refuses in [ALARM, AUTH_ENABLE, 1100] {
        assert_eq!(certain(&[field(refuses, b""), put("/d")]), "/b /c", "{refuses}");
    }
}

#[test]
fn what_etcd_may_not_read_is_not_certain() {
    let put = |key: &str| field(PUT, &field(1, key.as_bytes()));
    let requests = ["/a", "/b", "/c", "/d"].map(put);
    let entries: Vec<_> = (1..).zip(&requests).collect();
    let whole = file(&entries);
    assert_eq!(puts(&writes_of(&whole, 0)), "/a /b /c /d");
    // A torn record: of the key `/b` nothing was written.
    let torn = whole.windows(2).position(|bytes| bytes == b"/b").unwrap();
    let mut damaged = whole.clone();
    damaged[torn..torn + 2].fill(0);
    assert_eq!(puts(&writes_of(&damaged, 0)), "/a");
    // A new leader has replaced the entries from index 2 on.
    let replacing = put("/e");
    let entries = [&entries[..], &[(2, &replacing)]].concat();
    assert_eq!(puts(&writes_of(&file(&entries), 0)), "/a /e");
}

#[test]
fn what_was_replaced_by_entries_that_the_database_has_changes_nothing() {
    let put = |key: &str| field(PUT, &field(1, key.as_bytes()));
    let requests = ["/a", "/b", "/c", "/d", "/e"].map(put);
    let indexes = [1, 2, 3, 4, 2];
    let replaced = file(&indexes.into_iter().zip(&requests).collect::<Vec<_>>());
    let writes = writes_of(&replaced, 2);
    assert_eq!((puts(&writes).as_str(), writes.entries, writes.last_entry), ("", 0, 2));
    assert!(!writes.may_write(b"/c") && !writes.may_write(b"/d"));
    let indexes = [1, 2, 3, 2, 3];
    let replaced = file(&indexes.into_iter().zip(&requests).collect::<Vec<_>>());
    let writes = writes_of(&replaced, 2);
    assert_eq!((puts(&writes).as_str(), writes.entries, writes.last_entry), ("/e", 1, 3));
    assert!(!writes.may_write(b"/c"));
}

#[test]
fn a_log_goes_on_in_its_next_file_and_in_no_other() {
    let put = |key: &str| field(PUT, &field(1, key.as_bytes()));
    let requests = ["/a", "/b"].map(put);
    let (first, checksum) = file_after(7, &[(1, &requests[0])]);
    let (second, _) = file_after(checksum, &[(2, &requests[1])]);
    let scratch = ScratchDirectory::new();
    scratch.write("0000000000000000-0000000000000000.wal", &first);
    scratch.write("0000000000000001-0000000000000002.wal", &second);
    let (strange, _) = file_after(checksum, &[(3, &put("/strange"))]);
    for name in ["old.wal", "backup-of-0.wal", "0000000000000002-3.wal", "1.tmp"] {
        scratch.write(name, &strange);
    }
    std::fs::create_dir(scratch.path().join("0000000000000002-0000000000000003.wal")).unwrap();
    let writes = super::after(scratch.path(), 0).unwrap();
    assert_eq!((puts(&writes).as_str(), writes.entries), ("/a /b", 2));
    // A file of another log is not the next one.
    let (other, _) = file_after(checksum ^ 1, &[(2, &requests[1])]);
    scratch.write("0000000000000001-0000000000000002.wal", &other);
    assert_eq!(puts(&super::after(scratch.path(), 0).unwrap()), "/a");
}

#[test]
fn what_is_too_long_to_be_read_may_have_written_everything() {
    const LENGTH: u64 = (16 << 20) + 8;
    let put = field(PUT, &field(1, b"/a"));
    let mut long = file(&[(1, &put)]);
    long.truncate(long.len() - 64);
    long.extend(LENGTH.to_le_bytes());
    long.resize(long.len() + usize::try_from(LENGTH).unwrap(), 1);
    let writes = writes_of(&long, 0);
    assert!(writes.may_write(b"/any") && puts(&writes).is_empty());
    // Unless it is in the database.
    long.extend(file(&[(3, &put)]));
    assert!(!writes_of(&long, 3).may_write(b"/any"));
}

#[test]
fn what_is_too_much_to_keep_is_everything() {
    let mut transaction = field(1, b"/deep");
    for _ in 0..=DEEPEST {
        transaction = field(2, &field(4, &transaction));
    }
    assert!(writes(&[field(TXN, &transaction)], 0).may_write(b"/any"));
    let mut many = Writes::default();
    for key in 0..=MOST_KEYS {
        many.add_key(&field(1, key.to_string().as_bytes()));
    }
    assert!(many.may_write(b"/any") && many.keys.is_empty());
}
