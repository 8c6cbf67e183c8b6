//! Lets only one `migrate` work on a data directory, and notices running servers.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::data_dir::STATE_DIR;
use crate::inspect::layout::DataLayout;
use crate::inspect::member_files::MemberFiles;
use crate::platform;

/// The lock of one data directory, held until the value is dropped or the process ends. The file
/// itself stays: if it were removed, two processes could lock two files of the same name.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// The directory of this program inside a data directory.
pub fn state_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(STATE_DIR)
}

impl DataDirLock {
    /// Takes the lock. Fails at once when another `migrate` holds it.
    pub fn take(data_dir: &Path) -> Result<Self, MigrateError> {
        let directory = state_dir(data_dir);
        fs::create_dir_all(&directory)
            .map_err(|error| MigrateError::file("create", &directory, &error))?;
        let path = directory.join("lock");
        let unwritable = |error| MigrateError::file("lock", &path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(data_dir, &path)),
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        // Only for the message of a second `migrate`, so a full disk is no reason to stop here.
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "this machine".to_owned());
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = write!(file, "process {} on {host}", std::process::id());
        Ok(Self { _file: file })
    }
}

/// Which `migrate` works here now, as `process <id> on <host>`. Changes nothing.
pub fn holder(data_dir: &Path) -> Option<String> {
    let path = state_dir(data_dir).join("lock");
    let file = File::open(&path).ok()?;
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| name(&path))
}

fn name(path: &Path) -> String {
    let holder = fs::read_to_string(path).ok().filter(|text| !text.is_empty());
    holder.map_or("another process".to_owned(), |text| text.trim().to_owned())
}

fn held(data_dir: &Path, path: &Path) -> MigrateError {
    MigrateError::new(
        MigrateErrorKind::Locked,
        format_args!("{} is being migrated by {}", data_dir.display(), name(path)),
    )
    .hint("wait until it has ended; nothing was changed")
}

/// An error if another `migrate` or a server works here now. Changes nothing.
pub fn in_use(data_dir: &Path) -> Option<MigrateError> {
    if holder(data_dir).is_some() {
        return Some(held(data_dir, &state_dir(data_dir).join("lock")));
    }
    is_served(&data_dir.join("member").join("snap").join("db")).then(|| served(data_dir))
}

/// The error when a server runs.
pub fn served(data_dir: &Path) -> MigrateError {
    MigrateError::new(
        MigrateErrorKind::Locked,
        format_args!("an etcd server is running on {}", data_dir.display()),
    )
    .hint("stop it first; nothing was changed")
}

/// Whether an etcd server has the database open.
pub fn is_served(db: &Path) -> bool {
    platform::is_written_elsewhere(db)
}

/// A file of the data that another process keeps from being moved, as only Windows allows it.
/// Changes nothing.
pub fn kept_file(layout: &DataLayout) -> Option<PathBuf> {
    if !platform::OPEN_FILES_STAY {
        return None;
    }
    // A directory that cannot be listed is reported later, when its files are read.
    let files = MemberFiles::of(layout).unwrap_or_default().files;
    files.into_iter().map(|file| file.from).find(|path| platform::is_kept_elsewhere(path))
}

/// The error when another process keeps a file of the data open.
pub fn kept(path: &Path) -> MigrateError {
    MigrateError::new(
        MigrateErrorKind::Locked,
        format_args!("another process has {} open", path.display()),
    )
    .hint("end it, for example a backup or a scanner; nothing was changed")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::scratch::ScratchDirectory;

    #[test]
    fn the_second_learns_who_holds_it_and_may_have_it_afterwards() {
        let scratch = ScratchDirectory::new();
        let first = DataDirLock::take(scratch.path()).unwrap();
        let failure = DataDirLock::take(scratch.path()).unwrap_err();
        assert_eq!(failure.kind, MigrateErrorKind::Locked);
        let holder = format!("is being migrated by process {} on ", std::process::id());
        assert!(failure.cause.contains(&holder), "{}", failure.cause);
        assert!(super::holder(scratch.path()).is_some_and(|name| name.starts_with("process ")));
        drop(first);
        assert!(comes_true(|| super::holder(scratch.path()).is_none()));
        assert!(comes_true(|| DataDirLock::take(scratch.path()).is_ok()));
    }

    /// Whether it becomes true when no other test is just starting a process, which has all files
    /// of this one open until its `exec`.
    fn comes_true(is_true: impl Fn() -> bool) -> bool {
        const LONGER_THAN_A_FORK: Duration = Duration::from_secs(30);
        let started = Instant::now();
        while !is_true() {
            if started.elapsed() > LONGER_THAN_A_FORK {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    #[test]
    fn an_open_database_is_noticed() {
        let scratch = ScratchDirectory::new();
        scratch.write("db", b"");
        let path = scratch.path().join("db");
        assert!(!is_served(&path));
        let server = File::open(&path).unwrap();
        server.lock().unwrap();
        assert!(is_served(&path));
    }
}
