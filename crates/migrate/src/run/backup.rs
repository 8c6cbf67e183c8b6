//! Makes a backup: a copy of the data, made while no server runs, before the first step that may
//! change it.
//!
//! Shares blocks where the file system can, else copies inside the kernel. Never makes hard links:
//! etcd writes its database and its log in place.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::compare::has_same_bytes;
use crate::files::tree;
use crate::inspect::data_dir::is_leftover;
use crate::inspect::disk_space;
use crate::platform;
use crate::report::event::{EventLog, timestamp};
use crate::run::signal::StopSignal;
use crate::state::backup_store::BackupStore;

const ELSEWHERE: &str =
    "nothing was changed; --backup-dir gives another directory, --no-backup makes no backup";

/// How backups of one data directory are made.
#[derive(Debug)]
pub struct Backup<'a> {
    pub data_dir: &'a Path,
    pub store: &'a BackupStore,
    pub log: EventLog,
    pub stop: &'a StopSignal,
}

impl Backup<'_> {
    /// Copies `member` and `version.txt` into a new directory of the store and returns that
    /// directory. Fails early when there is no room for the copy and for the `step_bytes` that the
    /// steps write.
    pub fn make(&self, step_bytes: u64) -> Result<PathBuf, MigrateError> {
        let store = self.store;
        let failed = |error: &io::Error| {
            MigrateError::file("back up to", &store.directory, error).hint(ELSEWHERE)
        };
        let partial = store.begin().map_err(|error| failed(&error))?;
        let member = self.data_dir.join("member");
        let shares = shares_blocks(&member.join("snap").join("db"), &partial.join("probe"));
        let size_bytes = tree::size_bytes(&member, &is_leftover).map_err(|error| failed(&error))?;
        let made = self
            .check_room(if shares { 0 } else { size_bytes }, step_bytes)
            .and_then(|()| self.copy(&member, &partial));
        let complete = made.inspect_err(|_| {
            // Half a copy is useless and fills the disk.
            let _ = tree::remove(&partial);
        })?;
        let how = if shares { "sharing its blocks" } else { "copied" };
        self.log.info(
            "backup",
            format_args!("{} holds a copy, {} MiB, {how}", complete.display(), size_bytes >> 20),
        );
        Ok(complete)
    }

    fn copy(&self, member: &Path, partial: &Path) -> Result<PathBuf, MigrateError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Windows allows no colon in a name.
        let name = timestamp(now.as_secs()).replace(':', "");
        let copied = copy_directory(member, &partial.join("member"), self.stop)
            .and_then(|()| copy_version_file(self.data_dir, partial))
            .and_then(|()| self.store.end(partial, &name));
        copied.map_err(|failure| {
            let is_interrupted = failure.kind != MigrateErrorKind::System;
            if is_interrupted { failure } else { failure.hint(ELSEWHERE) }
        })
    }

    fn check_room(&self, copy_bytes: u64, step_bytes: u64) -> Result<(), MigrateError> {
        let directory = &self.store.directory;
        let file_system = |path: &Path| {
            platform::file_system(path).map_err(|error| MigrateError::file("look at", path, &error))
        };
        let checked = if file_system(self.data_dir)? == file_system(directory)? {
            let what = "a copy of the data with what the steps write";
            disk_space::check(directory, copy_bytes + step_bytes, what)
        } else {
            disk_space::check(directory, copy_bytes, "a copy of the data")
                .and_then(|()| disk_space::check(self.data_dir, step_bytes, "what the steps write"))
        };
        checked.map_err(|failure| failure.hint(ELSEWHERE))
    }

    /// Removes all backups of the data directory except the newest `count` and `keep`. One that
    /// cannot be removed is a warning.
    pub fn retain(&self, count: usize, keep: &Path) {
        for copy in self.store.expired(count, keep) {
            let name = copy.display();
            match tree::remove(&copy) {
                Ok(()) => self.log.info("retain", format_args!("removed the old copy {name}")),
                Err(error) => {
                    self.log.warn("retain", format_args!("cannot remove {name}: {error}"));
                }
            }
        }
    }
}

fn shares_blocks(db: &Path, probe: &Path) -> bool {
    let share = || platform::reflink(&File::open(db)?, &File::create(probe)?);
    let shares = share().is_ok();
    let _ = fs::remove_file(probe);
    shares
}

/// Copies a directory with everything below it; `to` must not exist.
fn copy_directory(from: &Path, to: &Path, stop: &StopSignal) -> Result<(), MigrateError> {
    let failed = |error: &io::Error| {
        MigrateError::new(
            MigrateErrorKind::System,
            format_args!("cannot copy {} to {}: {error}", from.display(), to.display()),
        )
    };
    fs::create_dir(to).map_err(|error| failed(&error))?;
    for entry in fs::read_dir(from).map_err(|error| failed(&error))? {
        stop.check()?;
        let entry = entry.map_err(|error| failed(&error))?;
        let target = to.join(entry.file_name());
        if is_leftover(&entry.path()) {
            continue;
        }
        if entry.file_type().map_err(|error| failed(&error))?.is_dir() {
            copy_directory(&entry.path(), &target, stop)?;
        } else {
            copy_file(&entry.path(), &target).map_err(|error| failed(&error))?;
        }
    }
    platform::copy_ownership(from, to)
        .and_then(|()| platform::sync_directory(to))
        .map_err(|error| failed(&error))
}

fn copy_version_file(data_dir: &Path, partial: &Path) -> Result<(), MigrateError> {
    let path = data_dir.join("version.txt");
    match copy_file(&path, &partial.join("version.txt")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(MigrateError::file("copy", &path, &error))
        }
        _ => platform::sync_directory(partial)
            .map_err(|error| MigrateError::file("write", partial, &error)),
    }
}

/// Makes a durable copy with the owner and mode of the original. It is compared with the original
/// byte by byte, unless both share their blocks.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = File::create(to)?;
    let is_shared = platform::reflink(&source, &target).is_ok();
    drop((source, target));
    if !is_shared {
        fs::copy(from, to)?;
    }
    platform::copy_ownership(from, to)?;
    File::options().write(true).open(to)?.sync_all()?;
    if !is_shared && !has_same_bytes(from, to)? {
        return Err(io::Error::other("the copy differs from the original"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::format::OutputFormat;
    use crate::scratch::ScratchDirectory;

    fn example() -> ScratchDirectory {
        let scratch = ScratchDirectory::new();
        scratch.write("data/member/snap/db", &[7; 5000]);
        scratch.write("data/member/wal/0.wal", b"log");
        scratch.write("data/version.txt", b"3.4.27/etcd3");
        scratch.write("data/.migrate/lock", b"");
        scratch
    }

    fn backup<'a>(store: &'a BackupStore, data_dir: &'a Path, stop: &'a StopSignal) -> Backup<'a> {
        Backup { data_dir, store, log: EventLog::new(OutputFormat::Text), stop }
    }

    fn make_on(store: &BackupStore, data_dir: &Path) -> Result<PathBuf, MigrateError> {
        backup(store, data_dir, &StopSignal::default()).make(0)
    }

    fn make_in(scratch: &ScratchDirectory) -> Result<PathBuf, MigrateError> {
        let data_dir = scratch.path().join("data");
        make_on(&BackupStore::of(&data_dir, None), &data_dir)
    }

    #[test]
    fn a_copy_is_whole_and_does_not_change_with_the_data() {
        let scratch = example();
        let copy = make_in(&scratch).unwrap();
        scratch.write("data/member/snap/db", b"changed");
        assert_eq!(fs::read(copy.join("member/snap/db")).unwrap(), [7; 5000]);
        assert_eq!(fs::read(copy.join("member/wal/0.wal")).unwrap(), b"log");
        assert_eq!(fs::read(copy.join("version.txt")).unwrap(), b"3.4.27/etcd3");
        let left = fs::read_dir(scratch.path().join("data.bak")).unwrap().flatten();
        let is_partial = |name: std::ffi::OsString| name.to_string_lossy().starts_with("partial");
        assert!(!left.map(|entry| entry.file_name()).any(is_partial));
    }

    #[test]
    fn only_the_newest_copies_stay_and_nothing_else_goes() {
        let scratch = example();
        scratch.write("data.bak/member/snap/db", b"of the old program");
        let copies: Vec<_> = (0..4).map(|_| make_in(&scratch).unwrap()).collect();
        // A copy of earlier code has no label.
        fs::remove_file(copies[1].join("data-directory")).unwrap();
        let data_dir = scratch.path().join("data");
        let store = BackupStore::of(&data_dir, None);
        assert_eq!(store.copies(), copies);
        backup(&store, &data_dir, &StopSignal::default()).retain(2, &copies[0]);
        let kept: Vec<_> = copies.iter().map(|copy| copy.exists()).collect();
        // Only what has our label goes.
        assert_eq!(kept, [true, true, true, true]);
        backup(&store, &data_dir, &StopSignal::default()).retain(1, &copies[3]);
        let kept: Vec<_> = copies.iter().map(|copy| copy.exists()).collect();
        assert_eq!(kept, [false, true, false, true]);
        assert!(scratch.path().join("data.bak/member/snap/db").exists());
    }

    #[test]
    fn a_place_for_several_directories_loses_no_copy_of_another_and_keeps_its_mode() {
        let place = ScratchDirectory::new();
        place.write("notes.txt", b"mine");
        let kept = place.path().join("2020-01-01T000000Z");
        place.write("2020-01-01T000000Z/member/snap/db", b"of whom?");
        let directories = [example(), example()];
        let stores = directories.each_ref().map(|directory| {
            let data_dir = directory.path().join("data");
            (BackupStore::of(&data_dir, Some(place.path())), data_dir)
        });
        let [one, other] =
            stores.each_ref().map(|(store, data_dir)| make_on(store, data_dir).unwrap());
        let newest = make_on(&stores[0].0, &stores[0].1).unwrap();
        // An unfinished copy of the other, which may be running now.
        let half = stores[1].0.begin().unwrap();
        backup(&stores[0].0, &stores[0].1, &StopSignal::default()).retain(1, &newest);
        assert!(!one.exists() && newest.exists() && other.exists() && kept.exists());
        make_on(&stores[0].0, &stores[0].1).unwrap();
        assert!(half.exists());
        assert_eq!(stores[1].0.copies(), [kept, other]);
    }

    #[test]
    fn what_etcd_removes_at_its_start_is_not_copied() {
        let scratch = example();
        let leftovers =
            ["tmp158215125", "db.tmp123", "0000000000000001-0000000000000002.snap.broken"];
        for name in leftovers {
            scratch.write(&format!("data/member/snap/{name}"), &[0; 100]);
        }
        scratch.write("data/member/tmp1", b"not in snap");
        let copy = make_in(&scratch).unwrap();
        assert!(leftovers.iter().all(|name| !copy.join("member/snap").join(name).exists()));
        assert!(copy.join("member/tmp1").exists());
    }

    #[cfg(unix)]
    #[test]
    fn only_a_place_that_was_made_for_the_copies_is_like_the_data() {
        use std::os::unix::fs::PermissionsExt;

        let scratch = example();
        let mode = |name: &str| fs::metadata(scratch.path().join(name)).unwrap().permissions();
        let set = |name: &str, mode| platform::set_mode(&scratch.path().join(name), mode).unwrap();
        set("data", 0o700);
        scratch.write("shared/notes.txt", b"");
        set("shared", 0o755);
        for (place, expected) in [("shared", 0o755), ("new", 0o700)] {
            let data_dir = scratch.path().join("data");
            let store = BackupStore::of(&data_dir, Some(&scratch.path().join(place)));
            let copy = make_on(&store, &data_dir).unwrap();
            assert_eq!(mode(place).mode() & 0o777, expected, "{place}");
            assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_half_made_copy_is_cleared_away_first() {
        let scratch = example();
        let store = BackupStore::of(&scratch.path().join("data"), None);
        let half = store.begin().unwrap();
        fs::create_dir(half.join("member")).unwrap();
        scratch.write("data.bak/partial/notes", b"of somebody else");
        let copy = make_in(&scratch).unwrap();
        assert_eq!(fs::read(copy.join("member/snap/db")).unwrap(), [7; 5000]);
        assert!(!half.exists() && scratch.path().join("data.bak/partial/notes").exists());
    }

    #[test]
    fn a_copy_that_cannot_be_made_is_an_error() {
        let scratch = example();
        scratch.write("data.bak", b"a file");
        assert_eq!(make_in(&scratch).unwrap_err().kind, MigrateErrorKind::System);
    }

    #[test]
    fn a_copy_of_what_somebody_writes_to_is_an_error() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let scratch = ScratchDirectory::new();
        scratch.write("db", &vec![7; 4 << 20]);
        let [from, to] = ["db", "copy"].map(|name| scratch.path().join(name));
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut file = File::options().write(true).open(&from).unwrap();
                for byte in (0..=255).cycle() {
                    if is_done.load(Ordering::Relaxed) {
                        break;
                    }
                    io::Seek::rewind(&mut file).unwrap();
                    io::Write::write_all(&mut file, &[byte; 64]).unwrap();
                }
            });
            // Where blocks are shared nothing is compared, and nothing needs to be.
            let probe = scratch.path().join("probe");
            let shares = shares_blocks(&from, &probe);
            let is_noticed = (0..200).any(|_| copy_file(&from, &to).is_err());
            is_done.store(true, Ordering::Relaxed);
            assert!(is_noticed || shares);
        });
    }
}
