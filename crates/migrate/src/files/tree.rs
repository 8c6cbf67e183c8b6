//! Operations on directories with everything below them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::platform;

/// The length of all files below a directory together, in bytes, without those that `is_skipped`
/// names.
pub fn size_bytes(directory: &Path, is_skipped: &dyn Fn(&Path) -> bool) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            total += size_bytes(&path, is_skipped)?;
        } else if !is_skipped(&path) {
            total += metadata.len();
        }
    }
    Ok(total)
}

/// Removes a directory. One that does not exist is no error.
pub fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes all files below a directory, and their names, durable.
pub fn sync(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            File::options().write(true).open(entry.path())?.sync_all()?;
        }
    }
    platform::sync_directory(directory)
}
