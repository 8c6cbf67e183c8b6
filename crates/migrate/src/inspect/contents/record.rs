//! The records of the bucket `key`: revisions as etcd writes them, and `mvccpb.KeyValue`.

use crate::inspect::bolt::Error;
use crate::inspect::protobuf;

/// The length of `<main>_<sub>`: 8, 1 and 8 bytes. A deletion has a `t` after it.
const REVISION_BYTES: usize = 17;

/// The name of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    pub main: u64,
    pub is_deletion: bool,
}

impl Revision {
    pub fn parse(key: &[u8]) -> Result<Self, Error> {
        match key.first_chunk() {
            Some(main) if key.len() >= REVISION_BYTES => Ok(Self {
                main: u64::from_be_bytes(*main),
                is_deletion: key.len() > REVISION_BYTES,
            }),
            _ => Err(Error::Damaged("a revision is cut short")),
        }
    }
}

/// The main revision of a mark in the bucket `meta`; 0 if it is missing.
pub fn mark(value: Option<&[u8]>) -> u64 {
    value.and_then(<[u8]>::first_chunk).map_or(0, |main| u64::from_be_bytes(*main))
}

/// Fields of `mvccpb.KeyValue`. A deletion has only the first one.
const KEY: u64 = 1;
const VERSION: u64 = 4;
const LEASE: u64 = 6;

pub fn key(record: &[u8]) -> &[u8] {
    protobuf::bytes(record, KEY).unwrap_or_default()
}

/// Whether it is no key: `etcdutl snapshot restore --bump-revision` writes an empty record to raise
/// the revision.
pub fn is_mark(record: &[u8]) -> bool {
    record.is_empty()
}

/// How many puts the key has had since it was created, this one included.
pub fn version(record: &[u8]) -> u64 {
    protobuf::number(record, VERSION)
}

/// The lease that deletes the key when it ends; 0 if there is none.
pub fn lease(record: &[u8]) -> u64 {
    protobuf::number(record, LEASE)
}
