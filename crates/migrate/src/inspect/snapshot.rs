//! Reads a snapshot: the file of `etcdctl snapshot save`, or a copied `member/snap/db`.

use std::fs;
use std::path::Path;

use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::member_data::{self, MemberData};

/// A database has whole pages, each a multiple of this.
const SECTOR_BYTES: u64 = 512;
/// What `etcdctl snapshot save` adds behind the database.
const SHA256_BYTES: u64 = 32;

/// A snapshot.
#[derive(Debug)]
pub struct Snapshot {
    /// What its database says; it has no log.
    pub data: MemberData,
    /// Whether its checksum follows the database.
    pub has_sum: bool,
    pub size_bytes: u64,
}

/// Reads a snapshot. An error if the file is cut off, or is none.
pub fn read(path: &Path) -> Result<Snapshot, MigrateError> {
    let unreadable = |error| MigrateError::file("read the snapshot", path, &error);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let size_bytes = metadata.len();
    let has_sum = match size_bytes % SECTOR_BYTES {
        0 if size_bytes > 0 => false,
        SHA256_BYTES => true,
        _ => {
            let what = format_args!(
                "{} is not a whole snapshot: {size_bytes} bytes are neither a database nor one with \
                 its checksum",
                path.display()
            );
            return Err(MigrateError::new(MigrateErrorKind::NotMigratable, what)
                .hint("copy it again from where it was made"));
        }
    };
    Ok(Snapshot { data: member_data::read_db(path)?, has_sum, size_bytes })
}
