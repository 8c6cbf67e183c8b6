//! Gives what root has written in a data directory to the owner of the data: root runs `migrate`, and
//! then an etcd starts that is another user.

use std::fs;
use std::io;
use std::path::Path;

use crate::platform;

/// Does so for `member`, and for the entries of this program that `own` names. Does nothing when root
/// owns the data, or when this user is not root.
pub fn restore(data_dir: &Path, own: &[&str]) -> io::Result<()> {
    let member = data_dir.join("member");
    let data = fs::metadata(&member).or_else(|_| fs::metadata(data_dir))?;
    if !platform::may_give_to(&data) {
        return Ok(());
    }
    let paths = own.iter().map(|name| data_dir.join(name)).chain([member]);
    paths.into_iter().try_for_each(|path| give(&path, &data))
}

/// Does so for one file, which is not below the data directory.
pub fn restore_file(path: &Path, data_dir: &Path) -> io::Result<()> {
    let data = fs::metadata(data_dir)?;
    if platform::may_give_to(&data) { give(path, &data) } else { Ok(()) }
}

/// A link itself is given, and not what it leads to.
fn give(path: &Path, data: &fs::Metadata) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    platform::give_from_root(path, &metadata, data)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), data)?;
        }
    }
    Ok(())
}
