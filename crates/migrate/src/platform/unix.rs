//! Linux and other Unix systems.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

/// The directory of the programs in the image.
pub const BIN_DIR: &str = "/usr/local/bin";

/// The suffix of a program's file name.
pub const PROGRAM_SUFFIX: &str = "";

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Sets the permission bits.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Gives a copied directory the owner and mode of its original, as far as this user may.
pub fn copy_ownership(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::metadata(from)?;
    // Only root may give files away. For other users the copy is their own, and can be restored.
    let _ = std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid()));
    fs::set_permissions(to, metadata.permissions())
}

/// Whether this is root, and the owner of a file is somebody else.
pub fn may_give_to(owner: &fs::Metadata) -> bool {
    owner.uid() != 0 && rustix::process::geteuid().is_root()
}

/// Gives a file that belongs to root to the owner of another one.
pub fn give_from_root(
    path: &Path,
    metadata: &fs::Metadata,
    owner: &fs::Metadata,
) -> io::Result<()> {
    if metadata.uid() != 0 {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
}

/// Whether a write to a file returns at once, within this time. Yes, if it cannot be known.
pub fn can_write(file: &impl AsFd, patience: Duration) -> bool {
    let mut files = [PollFd::new(file, PollFlags::OUT)];
    let patience = Timespec::try_from(patience).ok();
    // A signal ends the wait early, and then this program is asked to stop.
    !matches!(rustix::event::poll(&mut files, patience.as_ref()), Ok(0) | Err(Errno::INTR))
}

/// Whether a file that another process has open can neither be moved nor removed.
pub const OPEN_FILES_STAY: bool = false;

/// Never: a file can be open in several processes here.
pub fn is_open_elsewhere(_error: &io::Error) -> bool {
    false
}

/// Whether another process has a database open to write to it: bbolt locks its file while it does.
pub fn is_written_elsewhere(database: &Path) -> bool {
    let Ok(file) = File::open(database) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Never: an open file can be moved here.
pub fn is_kept_elsewhere(_path: &Path) -> bool {
    false
}

/// The signals that ask this program to stop, each with its number. Not the end of the terminal if
/// somebody has told this program to ignore that, as `nohup` does.
pub fn stop_signals() -> impl Iterator<Item = (i32, usize)> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let ignores_hangup = ignored_signals() & 1 == 1;
    [(SIGTERM, 15), (SIGINT, 2)].into_iter().chain((!ignores_hangup).then_some((SIGHUP, 1)))
}

/// One bit for each signal, beginning with that of signal 1; 0 on a system without `/proc`.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Asks a server to stop, by SIGTERM.
pub fn ask_to_stop(child: &Child) -> io::Result<()> {
    ask_process_to_stop(child.id())
}

/// Whether a server ended because it was asked to. etcd then ends itself by the same signal.
pub fn is_stop(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::TERM.as_raw())
}

/// The same for a process that is not our child.
pub fn ask_process_to_stop(id: u32) -> io::Result<()> {
    signal(id, Signal::TERM)
}

/// Kills a process, by SIGKILL.
pub fn kill_process(id: u32) -> io::Result<()> {
    signal(id, Signal::KILL)
}

fn signal(id: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// The ids of all processes; empty on a system without `/proc`.
pub fn processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// The command line of a process; `None` if there is none or it may not be read.
pub fn command_line(id: u32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{id}/cmdline")).ok().filter(|bytes| !bytes.is_empty())?;
    let words = bytes.split(|byte| *byte == 0);
    Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// The path by which this process finds what another one sees under `path`: it may have another
/// root and another working directory.
pub fn as_seen_by(id: u32, path: &Path) -> PathBuf {
    let process = Path::new("/proc").join(id.to_string());
    match path.strip_prefix("/") {
        Ok(relative) => process.join("root").join(relative),
        Err(_) => process.join("cwd").join(path),
    }
}

/// Lets a new file share the blocks of another one. An error on file systems that cannot.
#[cfg(target_os = "linux")]
pub fn reflink(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

#[cfg(not(target_os = "linux"))]
pub fn reflink(_from: &File, _to: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How many bytes this user may still write to the file system of a path; `None` if not known.
pub fn free_bytes(path: &Path) -> io::Result<Option<u64>> {
    let status = rustix::fs::statvfs(path)?;
    Ok(Some(status.f_bavail.saturating_mul(status.f_frsize)))
}

/// Whether a path is on a file system that cannot be written to.
pub fn is_read_only(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statvfs(path)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Where file systems are mounted, as this process sees it; empty on a system without `/proc`.
pub fn mount_points() -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    table.split(|byte| *byte == b'\n').filter_map(mount_point).collect()
}

/// The fifth word of a line, in which blanks are written as octal numbers: `/a\040b`.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let word = line.split(|byte| *byte == b' ').nth(4)?;
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some((first, more)) = rest.split_first() {
        let number = more
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(number.unwrap_or(*first));
        rest = if number.is_some() { &more[3..] } else { more };
    }
    Some(OsString::from_vec(bytes).into())
}

/// What changes whenever somebody writes to a file, or puts another one in its place. Without
/// blanks.
pub fn change_mark(path: &Path, metadata: &fs::Metadata) -> String {
    let (bytes, inode) = (metadata.len(), metadata.ino());
    let [written, changed] = change_times(path).unwrap_or([
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    ]);
    format!("{bytes}:{inode}:{}.{}:{}.{}", written.0, written.1, changed.0, changed.1)
}

/// When a file was written to, and when anything of it was changed, in seconds and nanoseconds.
/// Other calls lose the nanoseconds in an emulated machine.
#[cfg(target_os = "linux")]
fn change_times(path: &Path) -> Option<[(i64, i64); 2]> {
    use rustix::fs::{AtFlags, CWD, StatxFlags};
    let wanted = StatxFlags::MTIME | StatxFlags::CTIME;
    let status = rustix::fs::statx(CWD, path, AtFlags::empty(), wanted).ok()?;
    Some([status.stx_mtime, status.stx_ctime].map(|time| (time.tv_sec, time.tv_nsec.into())))
}

#[cfg(not(target_os = "linux"))]
fn change_times(_path: &Path) -> Option<[(i64, i64); 2]> {
    None
}

/// A number for the file system of a path.
pub fn file_system(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.dev())
}

/// Whether two paths lead to one file.
pub fn same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_may_have_any_name() {
        for (line, expected) in [
            ("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw", Some("/mnt2")),
            ("36 35 98:0 / /a\\040b\\134c\\ rw - tmpfs t rw", Some("/a b\\c\\")),
            ("36 35 98:0 / /a\\999 rw - tmpfs t rw", Some("/a\\999")),
            ("36 35", None),
            ("", None),
        ] {
            assert_eq!(mount_point(line.as_bytes()).as_deref(), expected.map(Path::new), "{line}");
        }
    }
}
