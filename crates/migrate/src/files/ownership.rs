//! Gives what root has written in a data directory to the owner of the data: root runs `migrate`,
//! and then an etcd starts that is another user.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::tree;
use crate::platform;

/// Does so for these paths and what is below them. Does nothing when root owns `data`, or when this
/// user is not root.
pub fn restore(data: &Path, paths: &[PathBuf]) -> io::Result<()> {
    let owner = fs::metadata(data)?;
    if !platform::may_give_to(&owner) {
        return Ok(());
    }
    paths.iter().try_for_each(|path| give(path, &owner))
}

/// Does so for one file, which is not below the data directory.
pub fn restore_file(path: &Path, data_dir: &Path) -> io::Result<()> {
    let data = fs::metadata(data_dir)?;
    if platform::may_give_to(&data) { give(path, &data) } else { Ok(()) }
}

/// A link stays as it is: this program makes none.
fn give(path: &Path, data: &fs::Metadata) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if metadata.is_symlink() {
        return Ok(());
    }
    platform::give_from_root(path, &metadata, data)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_name() != tree::LOST_AND_FOUND {
                give(&entry.path(), data)?;
            }
        }
    }
    Ok(())
}
