use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

/// Where an image has its programs; with the drive, because a pod may start on another one.
pub const BIN_DIR: &str = r"C:\usr\local\bin";

/// What a program's file name ends with.
pub const PROGRAM_SUFFIX: &str = ".exe";

/// NTFS journals its names by itself, and std cannot open a directory here.
pub fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

pub fn set_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "Windows has no file modes"))
}

/// A new directory inherits its rights here.
pub fn copy_ownership(_from: &Path, _to: &Path) -> io::Result<()> {
    Ok(())
}

/// There is no signal to send: the caller ends the server instead, which etcd survives, because
/// its log is durable before anything is answered. Ten times a second it puts what was agreed on
/// into its database as well, and that is waited for.
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

/// Other processes are not looked at.
pub fn processes() -> Vec<u32> {
    Vec::new()
}

pub fn command_line(_id: u32) -> Option<Vec<String>> {
    None
}

pub fn reflink(_from: &File, _to: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Unknown: a copy that does not fit fails on its own, before anything was changed.
pub fn free_bytes(_path: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}

/// A volume has its own drive letter here, so a sibling is on the same one.
pub fn is_same_file_system(_one: &Path, _other: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Never known to be the same: the caller then replaces the file, which is always right.
pub fn same_file(_one: &fs::Metadata, _other: &fs::Metadata) -> bool {
    false
}
