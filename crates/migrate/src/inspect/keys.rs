//! Counts keys, revisions and leases in the database. Reports no key and no value.
//!
//! Entries that are in the log and not yet in the database are not counted.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek};

use crate::inspect::bolt::{Database, Error};
use crate::inspect::protobuf;

/// The length of `<main>_<sub>`, a revision in the database: 8, 1 and 8 bytes. A deletion has a `t`
/// after it.
const REVISION_BYTES: usize = 17;

/// How much a key space holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Keys that exist at the newest revision.
    pub live: u64,
    /// Revisions that are kept, deletions included.
    pub revisions: u64,
    /// The newest revision.
    pub revision: u64,
    /// The revision of the last compaction; older ones were removed.
    pub compacted: Option<u64>,
    pub leases: u64,
}

/// Reads every page of the database. Holds eight bytes of memory for each key, its hash.
pub fn count<R: Read + Seek>(database: &mut Database<R>) -> Result<Keys, Error> {
    let mut keys = Keys::default();
    if let Some(meta) = database.bucket("meta")? {
        keys.compacted =
            database.get(&meta, "finishedCompactRev")?.as_deref().and_then(main_revision);
    }
    let mut live = HashSet::new();
    let hasher = RandomState::new();
    if let Some(bucket) = database.bucket("key")? {
        database.each(&bucket, &mut |revision, value| {
            keys.revisions += 1;
            keys.revision = keys.revision.max(main_revision(revision).unwrap_or_default());
            // No key: `etcdutl snapshot restore --bump-revision` writes an empty record.
            if value.is_empty() {
                return;
            }
            // In `mvccpb.KeyValue` the key is the first field.
            let key = hasher.hash_one(protobuf::bytes(value, 1).unwrap_or_default());
            if revision.len() > REVISION_BYTES {
                live.remove(&key);
            } else {
                live.insert(key);
            }
        })?;
    }
    keys.live = live.len() as u64;
    // The revision of an empty store is 1, and a compacted one is at least at its compaction.
    keys.revision = keys.revision.max(keys.compacted.unwrap_or(1));
    if let Some(bucket) = database.bucket("lease")? {
        database.each(&bucket, &mut |_, _| keys.leases += 1)?;
    }
    Ok(keys)
}

fn main_revision(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::inspect::bolt::sample::database;

    fn revision(main: u8, end: &str) -> String {
        format!("\0\0\0\0\0\0\0{}_\0\0\0\0\0\0\0\0{end}", char::from(main))
    }

    fn put(key: &str) -> Vec<u8> {
        [&[0x0a, u8::try_from(key.len()).unwrap()], key.as_bytes(), &[0x2a, 1, b'v']].concat()
    }

    fn counted(file: Vec<u8>) -> Keys {
        count(&mut Database::open(Cursor::new(file)).unwrap()).unwrap()
    }

    #[test]
    fn deleted_keys_are_not_counted_as_live() {
        let [one, two, three, four, mark] =
            [(2, ""), (3, ""), (4, ""), (5, "t"), (9, "")].map(|(main, end)| revision(main, end));
        let (a, b) = (put("a"), put("b"));
        let keys: &[(&str, &[u8])] =
            &[(&one, &a), (&two, &b), (&three, &a), (&four, &b), (&mark, b"")];
        let compacted = revision(2, "");
        let meta: &[(&str, &[u8])] = &[("finishedCompactRev", compacted.as_bytes())];
        let leases: &[(&str, &[u8])] = &[("12345678", b"lease")];
        let file = database(&[("key", false, keys), ("lease", true, leases), ("meta", true, meta)]);
        assert_eq!(
            counted(file),
            Keys { live: 1, revisions: 5, revision: 9, compacted: Some(2), leases: 1 }
        );
    }

    #[test]
    fn an_empty_store_is_at_revision_1() {
        assert_eq!(counted(database(&[])), Keys { revision: 1, ..Keys::default() });
    }
}
