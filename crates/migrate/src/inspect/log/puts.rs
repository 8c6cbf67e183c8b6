//! Puts of the log that every server carries out when it replays it, and after which the key is
//! there. What may fail is left out: a put with a lease, which may be gone; one that keeps a value
//! or a lease; one in a transaction; and all that the log has after users, roles or alarms were
//! changed.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::inspect::protobuf::{self, Value};

/// More keys than this are not remembered, so that memory has a limit.
const MOST_KEYS: usize = 100_000;

/// Fields of `etcdserverpb.PutRequest`.
const KEY: u64 = 1;
const LEASE: u64 = 3;
const IGNORE_VALUE: u64 = 5;
const IGNORE_LEASE: u64 = 6;

/// Keys that are there, and newer than the database, once a server has replayed the log.
#[derive(Debug, Default)]
pub struct CertainPuts {
    /// Each with the index of its last entry.
    keys: BTreeMap<Vec<u8>, u64>,
    /// Whether the later ones may fail.
    is_over: bool,
}

impl CertainPuts {
    /// Forgets the entries from an index on, which were never committed: another one replaces them.
    pub fn replace_from(&mut self, index: u64) {
        self.keys.retain(|_, last| *last < index);
    }

    /// Takes an `etcdserverpb.PutRequest`, which is the request of the entry at `index`.
    pub fn put(&mut self, index: u64, put: &[u8]) {
        let may_fail =
            |(field, _): (u64, Value<'_>)| [LEASE, IGNORE_VALUE, IGNORE_LEASE].contains(&field);
        if !self.is_over && self.keys.len() < MOST_KEYS && !protobuf::fields(put).any(may_fail) {
            let key = protobuf::bytes(put, KEY).unwrap_or_default();
            self.keys.insert(key.to_vec(), index);
        }
    }

    /// Something may become of this key that is not known.
    pub fn forget(&mut self, key: &[u8]) {
        self.keys.remove(key);
    }

    /// Forgets the keys from the first to the one before `end`; without an end, all after the first.
    pub fn forget_range(&mut self, first: &[u8], end: Option<&[u8]>) {
        if end.is_some_and(|end| end <= first) {
            return;
        }
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.keys.range::<[u8], _>((Bound::Included(first), end));
        let keys: Vec<_> = range.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.forget(&key);
        }
    }

    /// What follows may be refused: by an alarm, because a user may not, or by nobody reading it.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// No put is certain.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.end();
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.keys().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, more: &[u8]) -> Vec<u8> {
        let length = u8::try_from(key.len()).unwrap();
        [&[10, length], key.as_bytes(), more].concat()
    }

    fn keys(puts: &CertainPuts) -> String {
        let keys = puts.keys().map(String::from_utf8_lossy);
        keys.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_may_fail_is_no_certain_put() {
        let mut puts = CertainPuts::default();
        puts.put(5, &put("value", &[18, 1, b'v', 32, 1]));
        puts.put(5, &put("lease", &[24, 7]));
        puts.put(5, &put("same-value", &[40, 1]));
        puts.put(5, &put("same-lease", &[48, 1]));
        assert_eq!(keys(&puts), "value");
        puts.end();
        puts.put(6, &put("later", &[]));
        assert_eq!(keys(&puts), "value");
        puts.clear();
        assert_eq!(keys(&puts), "");
    }

    #[test]
    fn an_entry_replaces_those_from_its_index_on() {
        let mut puts = CertainPuts::default();
        for (index, key) in (5..).zip(["a", "b", "c"]) {
            puts.put(index, &put(key, &[]));
        }
        puts.replace_from(6);
        assert_eq!(keys(&puts), "a");
    }

    #[test]
    fn ranges_end_before_their_end() {
        let mut puts = CertainPuts::default();
        for key in ["a", "b", "c", "d"] {
            puts.put(5, &put(key, &[]));
        }
        puts.forget_range(b"b", Some(b"d"));
        assert_eq!(keys(&puts), "a d");
        puts.forget_range(b"c", None);
        puts.forget_range(b"b", Some(b"a"));
        assert_eq!(keys(&puts), "a");
        puts.forget(b"a");
        assert_eq!(keys(&puts), "");
    }
}
