//! The raft snapshots that a log knows of. From etcd 3.8 on there are no files of them.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use super::record::{self, Record};
use crate::inspect::raft_snapshot::SnapshotName;

/// The newest one that is committed, which is where a server starts. Files are read from the last
/// one backwards, since the newest record is near the end.
pub fn newest(files: &[PathBuf]) -> io::Result<Option<SnapshotName>> {
    let mut committed = None;
    for path in files.iter().rev() {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        let mut snapshots = Vec::new();
        let mut last_committed = None;
        record::each(
            BufReader::with_capacity(1 << 16, file),
            size_bytes,
            &mut None,
            &mut |framed| match framed.record {
                Record::Committed(index) => last_committed = Some(index),
                Record::Snapshot(snapshot) => snapshots.push(snapshot),
                Record::Entry(_) | Record::TooLong | Record::Other => {}
            },
        )?;
        committed = committed.or(last_committed);
        let is_committed = |snapshot: &SnapshotName| Some(snapshot.index) <= committed;
        if let Some(newest) = snapshots.into_iter().filter(is_committed).max() {
            return Ok(Some(newest));
        }
    }
    Ok(None)
}
