//! Operations on directories with everything below them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::files::mounts;
use crate::platform;

/// What fsck puts into the root directory of a file system. It belongs to root.
pub const LOST_AND_FOUND: &str = "lost+found";

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

/// Removes a directory. One that does not exist is no error. Never removes what somebody has
/// mounted below it.
pub fn remove(directory: &Path) -> io::Result<()> {
    if let Some(mount) = mounts::below(directory).first() {
        let what = format!("{} is a mount point", mount.display());
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a durable copy of a directory and the files in it, with their owners; `to` must not exist.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            platform::copy_ownership(&entry.path(), &target)?;
        }
    }
    platform::copy_ownership(from, to)?;
    sync(to)
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
