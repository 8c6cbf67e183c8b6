//! What the log holds beyond the database: which keys, leases and users a server may change when it
//! replays the log. Uncommitted entries count, too: a server may keep them or drop them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use super::puts::CertainPuts;
use super::record::{self, Framed, Record};
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
    /// The index of the last entry of the log, whether or not it is in the database.
    pub last_entry: u64,
    keys: HashSet<Vec<u8>>,
    /// The first key and the one behind the last; `None` if there is no last one.
    ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    granted: HashSet<u64>,
    revoked: HashSet<u64>,
    pub changes_users: bool,
    /// Keys that must be there afterwards.
    pub puts: CertainPuts,
}

/// Fields of `etcdserverpb.InternalRaftRequest`.
const V2: u64 = 2;
const PUT: u64 = 4;
const DELETE_RANGE: u64 = 5;
const TXN: u64 = 6;
const LEASE_GRANT: u64 = 8;
const LEASE_REVOKE: u64 = 9;
const ALARM: u64 = 10;
const AUTH_ENABLE: u64 = 1000;
const AUTH_DISABLE: u64 = 1011;
const USERS_AND_ROLES: std::ops::Range<u64> = 1100..1300;

/// The changes in entries after `index`. Damaged entries change nothing: no server replays them.
pub fn after(wal_dir: &Path, index: u64) -> io::Result<Writes> {
    let mut reader = WritesReader { index, writes: Writes::default(), has_begun: false };
    let mut checksum = None;
    let files = super::files(wal_dir)?;
    for path in &files[super::first_file(&files, index)..] {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        let source = BufReader::with_capacity(1 << 16, file);
        record::each(source, size_bytes, &mut checksum, &mut |framed| reader.add(framed))?;
    }
    Ok(reader.writes)
}

struct WritesReader {
    index: u64,
    writes: Writes,
    /// Whether an entry after `index` was read.
    has_begun: bool,
}

impl WritesReader {
    fn add(&mut self, framed: &Framed<'_>) {
        // The last records of a machine that lost its power may be torn.
        if self.has_begun && !framed.is_whole() {
            self.writes.puts.end();
        }
        match framed.record {
            Record::Entry(entry) => self.add_entry(entry, framed),
            Record::TooLong => self.writes.add_all(),
            Record::Committed(_) | Record::Snapshot(_) | Record::Other => {}
        }
    }

    /// Adds a `raftpb.Entry`.
    fn add_entry(&mut self, entry: &[u8], framed: &Framed<'_>) {
        let (kind, at) = (protobuf::number(entry, 1), protobuf::number(entry, 3));
        if at <= self.index {
            // It replaces all entries behind it, which were never committed.
            self.has_begun = false;
            self.writes = Writes { last_entry: at, ..Writes::default() };
            return;
        }
        if !self.has_begun && !framed.is_whole() {
            self.writes.puts.end();
        }
        self.has_begun = true;
        if at <= self.writes.last_entry {
            self.writes.puts.replace_from(at);
        }
        self.writes.last_entry = at;
        // The type of normal entries.
        if kind == 0 {
            self.writes.add(protobuf::bytes(entry, 4).unwrap_or_default());
        }
    }
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
                PUT => {
                    self.add_key(message);
                    self.puts.put(self.last_entry, message);
                }
                DELETE_RANGE => self.add_range(message),
                TXN => self.add_transaction(message, DEEPEST),
                LEASE_GRANT => {
                    self.granted.insert(protobuf::number(message, 2));
                }
                LEASE_REVOKE => {
                    self.revoked.insert(protobuf::number(message, 1));
                }
                ALARM => self.puts.end(),
                field if changes_users(field) => {
                    self.changes_users = true;
                    self.puts.end();
                }
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
        let key = protobuf::bytes(put, 1).unwrap_or_default();
        self.puts.forget(key);
        if self.keys.len() >= MOST_KEYS {
            return self.add_all();
        }
        self.keys.insert(key.to_vec());
    }

    /// `etcdserverpb.DeleteRangeRequest`: without an end it is one key, and the end `\0` is none.
    fn add_range(&mut self, delete: &[u8]) {
        let first = protobuf::bytes(delete, 1).unwrap_or_default();
        let end = match protobuf::bytes(delete, 2) {
            None | Some([]) => return self.add_key(delete),
            Some([0]) => None,
            Some(end) => Some(end),
        };
        self.puts.forget_range(first, end);
        if self.ranges.len() >= MOST_KEYS {
            return self.add_all();
        }
        self.ranges.push((first.to_vec(), end.map(<[u8]>::to_vec)));
    }

    fn add_all(&mut self) {
        self.puts.clear();
        self.keys.clear();
        self.ranges = vec![(Vec::new(), None)];
    }
}

fn changes_users(field: u64) -> bool {
    [AUTH_ENABLE, AUTH_DISABLE].contains(&field) || USERS_AND_ROLES.contains(&field)
}

#[cfg(test)]
#[path = "writes_tests.rs"]
mod tests;
