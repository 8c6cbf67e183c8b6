//! Replaces the plain `etcd`, `etcdctl` and `etcdutl` by those of the target version, for callers
//! that start programs without a version in their name. Each is replaced by one rename, so nobody
//! ever sees a half-written program.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use etcd_version::EtcdVersion;

use crate::error::MigrateError;
use crate::files::compare::has_same_bytes;
use crate::files::durable::beside;
use crate::platform::{self, PROGRAM_SUFFIX};
use crate::report::event::EventLog;

/// Replaces them where they differ. A read-only file system or missing rights are only a warning.
pub fn place(bin_dir: &Path, version: &EtcdVersion, log: EventLog) -> Result<(), MigrateError> {
    for name in ["etcd", "etcdctl", "etcdutl"] {
        let from = bin_dir.join(format!("{name}-{version}{PROGRAM_SUFFIX}"));
        let to = bin_dir.join(format!("{name}{PROGRAM_SUFFIX}"));
        // etcdutl exists from 3.5 on, and outside of an image there may be none of the programs.
        if !from.is_file() || is_same(&from, &to) {
            continue;
        }
        match replace(&from, &to) {
            Ok(()) => log.info("placed", format_args!("{} is {version} now", to.display())),
            Err(error) if is_refused(&error) => {
                log.warn(
                    "not-placed",
                    format_args!(
                        "{} stays as it is ({error}): start {} instead",
                        to.display(),
                        from.display()
                    ),
                );
            }
            Err(error) => return Err(MigrateError::file("replace", &to, &error)),
        }
    }
    Ok(())
}

/// A read-only root file system, a user who is not root, or a program that runs on Windows. All are
/// common, so this is no failure.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
        || platform::is_open_elsewhere(error)
}

/// Links, which takes no space, or copies where links are not possible.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let next = beside(to, "-next");
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if fs::hard_link(from, &next).is_err() {
        fs::copy(from, &next)?;
        File::open(&next)?.sync_all()?;
    }
    fs::rename(&next, to).inspect_err(|_| {
        let _ = fs::remove_file(&next);
    })
}

fn is_same(one: &Path, other: &Path) -> bool {
    let (Ok(first), Ok(second)) = (fs::metadata(one), fs::metadata(other)) else { return false };
    platform::same_file(&first, &second)
        || (first.len() == second.len() && has_same_bytes(one, other).unwrap_or(false))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::report::format::OutputFormat;
    use crate::scratch::ScratchDirectory;

    fn place_in(scratch: &ScratchDirectory, version: &str) -> Result<(), MigrateError> {
        place(scratch.path(), &version.parse().unwrap(), EventLog::new(OutputFormat::Text))
    }

    #[test]
    fn the_plain_programs_become_those_of_the_target() {
        let scratch = ScratchDirectory::new();
        for name in ["etcd", "etcdctl"] {
            scratch.write(name, b"new");
            scratch.write(&format!("{name}-3.4.27"), b"old");
        }
        place_in(&scratch, "3.4.27").unwrap();
        for name in ["etcd", "etcdctl"] {
            assert_eq!(fs::read(scratch.path().join(name)).unwrap(), b"old");
        }
        assert!(!scratch.path().join("etcdutl").exists());
        assert!(!scratch.path().join("etcd-next").exists());
    }

    #[test]
    fn a_link_to_another_version_is_replaced_and_not_written_through() {
        let scratch = ScratchDirectory::new();
        scratch.write("etcd-3.4.27", b"old");
        scratch.write("etcd-3.6.14", b"new");
        std::os::unix::fs::symlink("etcd-3.6.14", scratch.path().join("etcd")).unwrap();
        place_in(&scratch, "3.4.27").unwrap();
        assert_eq!(fs::read(scratch.path().join("etcd-3.6.14")).unwrap(), b"new");
        assert_eq!(fs::read(scratch.path().join("etcd")).unwrap(), b"old");
    }

    #[test]
    fn what_is_the_same_already_is_left_alone() {
        let scratch = ScratchDirectory::new();
        scratch.write("etcd", b"same");
        scratch.write("etcd-3.6.14", b"same");
        let inode = || fs::metadata(scratch.path().join("etcd")).unwrap();
        let before = inode();
        place_in(&scratch, "3.6.14").unwrap();
        assert!(platform::same_file(&before, &inode()));
    }
}
