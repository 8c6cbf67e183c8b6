//! The raft snapshots in `member/snap`.

use std::fs;
use std::path::Path;

/// The name of the newest one: `<term>-<index>.snap` in hexadecimal, so the names sort by age.
pub fn newest(data_dir: &Path) -> Option<String> {
    let entries = fs::read_dir(data_dir.join("member").join("snap")).ok()?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "snap")).max()
}
