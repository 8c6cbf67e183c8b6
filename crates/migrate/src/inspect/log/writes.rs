//! What the log holds beyond the database: which keys, leases and users a server may change when it
//! replays the log. Uncommitted entries count, too: a server may keep them or drop them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use super::record::{self, Record};
use crate::inspect::protobuf::{self, Value};

/// More keys than this are taken for all keys, so that memory has a limit.
const MOST_KEYS: usize = 100_000;
/// Transactions in transactions; a request cannot be so deep.
const DEEPEST: u32 = 64;

/// What entries may change.
#[derive(Debug, Default)]
pub struct Writes {
    /// How many there are.
    pub entries: u64,
    keys: HashSet<Vec<u8>>,
    /// The first key and the one behind the last; `None` if there is no last one.
    ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    granted: HashSet<u64>,
    revoked: HashSet<u64>,
    pub changes_users: bool,
}

/// Fields of `etcdserverpb.InternalRaftRequest`.
const V2: u64 = 2;
const PUT: u64 = 4;
const DELETE_RANGE: u64 = 5;
const TXN: u64 = 6;
const LEASE_GRANT: u64 = 8;
const LEASE_REVOKE: u64 = 9;
const AUTH_ENABLE: u64 = 1000;
const AUTH_DISABLE: u64 = 1011;
const USERS_AND_ROLES: std::ops::Range<u64> = 1100..1300;

/// The changes in entries after `index`. Damaged entries change nothing: no server replays them.
pub fn after(wal_dir: &Path, index: u64) -> io::Result<Writes> {
    let mut writes = Writes::default();
    let files = super::files(wal_dir)?;
    for path in &files[super::first_file(&files, index)..] {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        let source = BufReader::with_capacity(1 << 16, file);
        record::each(source, size_bytes, &mut |record| {
            let Record::Entry(entry) = record else { return };
            // `raftpb.Entry`: the type of normal entries is 0.
            if protobuf::number(entry, 3) > index && protobuf::number(entry, 1) == 0 {
                writes.add(protobuf::bytes(entry, 4).unwrap_or_default());
            }
        })?;
    }
    Ok(writes)
}

impl Writes {
    /// Whether a key may be written or deleted.
    pub fn may_write(&self, key: &[u8]) -> bool {
        let is_within = |(first, end): &(Vec<u8>, Option<Vec<u8>>)| {
            **first <= *key && end.as_ref().is_none_or(|end| *key < **end)
        };
        self.keys.contains(key) || self.ranges.iter().any(is_within)
    }

    /// Whether a lease of this id is asked for.
    pub fn grants(&self, lease: u64) -> bool {
        self.granted.contains(&lease)
    }

    /// Whether this lease is to end.
    pub fn revokes(&self, lease: u64) -> bool {
        self.revoked.contains(&lease)
    }

    pub fn changes_leases(&self) -> bool {
        !self.granted.is_empty() || !self.revoked.is_empty()
    }

    /// Adds an `etcdserverpb.InternalRaftRequest`.
    pub(crate) fn add(&mut self, request: &[u8]) {
        // A bare request of the v2 API has this field as well, and nothing else of it fits.
        if protobuf::bytes(request, V2).is_some() {
            return;
        }
        self.entries += u64::from(!request.is_empty());
        for (field, value) in protobuf::fields(request) {
            let Value::Bytes(message) = value else { continue };
            match field {
                PUT => self.add_key(message),
                DELETE_RANGE => self.add_range(message),
                TXN => self.add_transaction(message, DEEPEST),
                LEASE_GRANT => {
                    self.granted.insert(protobuf::number(message, 2));
                }
                LEASE_REVOKE => {
                    self.revoked.insert(protobuf::number(message, 1));
                }
                AUTH_ENABLE | AUTH_DISABLE => self.changes_users = true,
                field if USERS_AND_ROLES.contains(&field) => self.changes_users = true,
                _ => {}
            }
        }
    }

    /// `etcdserverpb.TxnRequest`: what is done in either case.
    fn add_transaction(&mut self, transaction: &[u8], depth: u32) {
        let Some(depth) = depth.checked_sub(1) else { return self.add_all() };
        for (field, value) in protobuf::fields(transaction) {
            let (2 | 3, Value::Bytes(operation)) = (field, value) else { continue };
            // `etcdserverpb.RequestOp`.
            for (field, value) in protobuf::fields(operation) {
                let Value::Bytes(message) = value else { continue };
                match field {
                    2 => self.add_key(message),
                    3 => self.add_range(message),
                    4 => self.add_transaction(message, depth),
                    _ => {}
                }
            }
        }
    }

    /// `etcdserverpb.PutRequest`.
    fn add_key(&mut self, put: &[u8]) {
        if self.keys.len() >= MOST_KEYS {
            return self.add_all();
        }
        self.keys.insert(protobuf::bytes(put, 1).unwrap_or_default().to_vec());
    }

    /// `etcdserverpb.DeleteRangeRequest`: without an end it is one key, and the end `\0` is none.
    fn add_range(&mut self, delete: &[u8]) {
        let first = protobuf::bytes(delete, 1).unwrap_or_default();
        match protobuf::bytes(delete, 2) {
            None | Some([]) => self.add_key(delete),
            _ if self.ranges.len() >= MOST_KEYS => self.add_all(),
            Some([0]) => self.ranges.push((first.to_vec(), None)),
            Some(end) => self.ranges.push((first.to_vec(), Some(end.to_vec()))),
        }
    }

    fn add_all(&mut self) {
        self.keys.clear();
        self.ranges = vec![(Vec::new(), None)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::ScratchDirectory;

    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut field = Vec::new();
        for mut rest in [number << 3 | 2, bytes.len() as u64] {
            while rest > 0x7f {
                field.push((rest & 0x7f | 0x80).to_le_bytes()[0]);
                rest >>= 7;
            }
            field.push(rest.to_le_bytes()[0]);
        }
        [field, bytes.to_vec()].concat()
    }

    fn range(first: &[u8], end: &[u8]) -> Vec<u8> {
        [field(1, first), field(2, end)].concat()
    }

    /// The changes of one request after another; the first has index 1.
    fn writes(requests: &[Vec<u8>], after: u64) -> Writes {
        let mut file = Vec::new();
        for (index, request) in (1..).zip(requests) {
            let entry = [&[8, 0, 16, 1, 24, index][..], &field(4, request)].concat();
            let record = [&[8, 2, 16, 0][..], &field(3, &entry)].concat();
            file.extend((record.len() as u64).to_le_bytes());
            file.extend(record);
        }
        file.extend([0; 64]);
        let scratch = ScratchDirectory::new();
        scratch.write("0000000000000000-0000000000000000.wal", &file);
        super::after(scratch.path(), after).unwrap()
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
}
