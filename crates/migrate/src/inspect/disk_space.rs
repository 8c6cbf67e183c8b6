//! How much room there is on a disk.

use std::fs;
use std::path::Path;

use crate::error::{MigrateError, MigrateErrorKind};
use crate::platform;

/// The size of the log file that a killed server has allocated and that the next one will use, in
/// bytes.
pub fn allocated_log_bytes(wal_dir: &Path) -> u64 {
    fs::metadata(wal_dir.join("0.tmp")).map_or(0, |metadata| metadata.len())
}

/// An error unless the file system of `place` has `needed` bytes free. `what` says for what.
pub fn check(place: &Path, needed: u64, what: &str) -> Result<(), MigrateError> {
    let free = platform::free_bytes(place)
        .map_err(|error| MigrateError::file("look at the free space of", place, &error))?;
    match free {
        Some(free) if free < needed => Err(MigrateError::new(
            MigrateErrorKind::System,
            format_args!(
                "{} has {} MiB free, and {what} needs {} MiB",
                place.display(),
                free >> 20,
                (needed >> 20) + 1
            ),
        )),
        _ => Ok(()),
    }
}
