//! Windows.

use std::fs::{self, File};
use std::io;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

/// The directory of the programs in the image; with the drive, because a pod may start on another.
pub const BIN_DIR: &str = r"C:\usr\local\bin";

/// The suffix of a program's file name.
pub const PROGRAM_SUFFIX: &str = ".exe";

/// Does nothing: NTFS keeps a journal of names, and std cannot open a directory here.
pub fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

pub fn set_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "Windows has no file modes"))
}

/// Does nothing: a new directory inherits its rights here.
pub fn copy_ownership(_from: &Path, _to: &Path) -> io::Result<()> {
    Ok(())
}

/// Never: a new file inherits its owner and rights here.
pub fn may_give_to(_owner: &fs::Metadata) -> bool {
    false
}

/// Does nothing, for the same reason.
pub fn give_from_root(
    _path: &Path,
    _metadata: &fs::Metadata,
    _owner: &fs::Metadata,
) -> io::Result<()> {
    Ok(())
}

/// Always true: it is not known.
pub fn can_write<T>(_file: &T, _patience: Duration) -> bool {
    true
}

/// Whether a file that another process has open can neither be moved nor removed.
pub const OPEN_FILES_STAY: bool = true;

/// `ERROR_SHARING_VIOLATION` and `ERROR_LOCK_VIOLATION`.
const OPEN_ELSEWHERE: [i32; 2] = [32, 33];

const FILE_SHARE_READ: u32 = 1;
const FILE_SHARE_WRITE: u32 = 2;
const FILE_SHARE_DELETE: u32 = 4;
const DELETE: u32 = 0x1_0000;

/// Whether a call failed because another process has the file open.
pub fn is_open_elsewhere(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| OPEN_ELSEWHERE.contains(&code))
}

/// Whether another process has a database open to write to it. bbolt locks the last of all possible
/// bytes, which no lock of std reaches; but a file that another process may write to cannot be
/// opened without sharing writes.
pub fn is_written_elsewhere(database: &Path) -> bool {
    let share = FILE_SHARE_READ | FILE_SHARE_DELETE;
    let opened = File::options().read(true).share_mode(share).open(database);
    opened.is_err_and(|error| is_open_elsewhere(&error))
}

/// Whether another process has a file open in such a way that it cannot be moved.
pub fn is_kept_elsewhere(path: &Path) -> bool {
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let opened = File::options().access_mode(DELETE).share_mode(share).open(path);
    opened.is_err_and(|error| is_open_elsewhere(&error))
}

/// The events that ask this program to stop, as the C library passes them on, each with its number.
pub fn stop_signals() -> impl Iterator<Item = (i32, usize)> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    // `SIGBREAK`: the end of the console, of the session and of a container, too.
    [(SIGTERM, 15), (SIGINT, 2), (21, 21)].into_iter()
}

/// Always an error; the caller then ends the server. There are console events, but etcd for Windows
/// has no handler for them (its `HandleInterrupts` is empty there), so they end it just as
/// abruptly. It loses nothing: its log is durable before it answers anything. It writes to its
/// database ten times a second, so a moment is waited for that; who needs the database alone looks
/// whether it has caught up with the log.
pub fn ask_to_stop(_child: &Child) -> io::Result<()> {
    thread::sleep(Duration::from_millis(300));
    Err(io::ErrorKind::Unsupported.into())
}

pub fn is_stop(status: ExitStatus) -> bool {
    status.success()
}

pub fn ask_process_to_stop(_id: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub fn kill_process(_id: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Empty: other processes are not looked at.
pub fn processes() -> Vec<u32> {
    Vec::new()
}

pub fn command_line(_id: u32) -> Option<Vec<String>> {
    None
}

/// The path itself: processes have one view of the file system here.
pub fn as_seen_by(_id: u32, path: &Path) -> PathBuf {
    path.to_owned()
}

pub fn reflink(_from: &File, _to: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not known. A copy that does not fit fails before anything was changed.
pub fn free_bytes(_path: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}

/// Never: it is not known, and the first write says so.
pub fn is_read_only(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Empty: a volume has its own drive letter here, and one that is mounted in a directory is a link.
pub fn mount_points() -> Vec<PathBuf> {
    Vec::new()
}

/// NTFS writes the time of the last change when the file is closed, so at the latest when its
/// server has ended.
pub fn change_mark(_path: &Path, metadata: &fs::Metadata) -> String {
    let (bytes, created) = (metadata.file_size(), metadata.creation_time());
    format!("{bytes}:{created}:{}", metadata.last_write_time())
}

/// Always the same, for the same reason.
pub fn file_system(_path: &Path) -> io::Result<u64> {
    Ok(0)
}

/// Always false, because it is not known. The caller then replaces the file, which is never wrong.
pub fn same_file(_one: &fs::Metadata, _other: &fs::Metadata) -> bool {
    false
}
