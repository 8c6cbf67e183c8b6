//! Makes a backup: a copy of the data, made while no server runs, before the first step that may
//! change it.
//!
//! Shares blocks where the file system can, else copies inside the kernel. Never makes hard links:
//! etcd writes its database and its log in place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::tree;
use crate::inspect::member_files::{FileSource, MemberFiles};
use crate::platform;
use crate::report::event::{EventLog, timestamp};
use crate::run::file_copy::{CopyProgress, FileCopy};
use crate::run::signal::StopSignal;
use crate::run::space_check::SpaceCheck;
use crate::state::backup_store::{self, BackupStore};

const ELSEWHERE: &str =
    "nothing was changed; --backup-dir gives another directory, --no-backup makes no backup";

/// How backups of one data directory are made.
#[derive(Debug)]
pub struct Backup<'a> {
    /// What has to fit beside the copy, too.
    pub space: SpaceCheck<'a>,
    pub store: &'a BackupStore,
    pub log: EventLog,
    pub stop: &'a StopSignal,
}

impl Backup<'_> {
    /// Copies `member` and `version.txt` into a new directory of the store and returns that
    /// directory. Goes on with a copy that was interrupted. Fails early when there is no room.
    pub fn make(&self) -> Result<PathBuf, MigrateError> {
        let (partial, record) = self.store.begin().map_err(|error| self.failed(&error))?;
        let progress = CopyProgress::new(self.log);
        let mut copy = FileCopy { into: &partial, record, stop: self.stop, progress };
        let made = self.copy(&mut copy);
        // What was interrupted stays: the next run goes on with it.
        if made.as_ref().is_err_and(|failure| failure.kind == MigrateErrorKind::System) {
            let _ = backup_store::discard(&partial);
        }
        made
    }

    fn copy(&self, copy: &mut FileCopy<'_>) -> Result<PathBuf, MigrateError> {
        let failed = |error: io::Error| self.failed(&error);
        let partial = copy.into;
        let list = self.list().map_err(failed)?;
        prune(partial, &list).map_err(failed)?;
        make_directories(partial, &list).map_err(failed)?;
        let how = self.fill(copy, &list).map_err(|failure| {
            let is_interrupted = failure.kind != MigrateErrorKind::System;
            if is_interrupted { failure } else { failure.hint(ELSEWHERE) }
        })?;
        finish_directories(partial, &list).map_err(failed)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Windows allows no colon in a name.
        let complete = self.store.end(partial, &timestamp(now.as_secs()).replace(':', ""))?;
        let size_bytes = list.size_bytes();
        self.log.info(
            "backup",
            format_args!("{} holds a copy, {} MiB, {how}", complete.display(), size_bytes >> 20),
        );
        Ok(complete)
    }

    fn failed(&self, error: &io::Error) -> MigrateError {
        MigrateError::file("back up to", &self.store.directory, error).hint(ELSEWHERE)
    }

    /// What goes into the copy.
    fn list(&self) -> io::Result<MemberFiles> {
        let layout = self.space.layout;
        let mut list = MemberFiles::of(layout)?;
        for (path, why) in &list.left_out {
            self.log.warn("not-copied", format_args!("{} is not copied: {why}", path.display()));
        }
        match FileSource::of(layout.data_dir.join("version.txt"), "version.txt".into()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => list.files.push(file?),
        }
        Ok(list)
    }

    /// Copies all files, and says how.
    fn fill(
        &self,
        copy: &mut FileCopy<'_>,
        list: &MemberFiles,
    ) -> Result<&'static str, MigrateError> {
        let mut rest = Vec::new();
        for file in &list.files {
            if !copy.is_complete(file) && !copy.share(file)? {
                rest.push(file);
            }
        }
        let total_bytes = rest.iter().map(|file| file.bytes).sum::<u64>();
        let done_bytes = rest.iter().map(|file| copy.bytes_done(file)).sum::<u64>();
        let directory = &*self.store.directory;
        self.space.check(Some((directory, total_bytes - done_bytes)))?;
        copy.progress.begin(done_bytes, total_bytes);
        for file in &rest {
            self.stop.check()?;
            copy.copy(file)?;
        }
        // What was copied first may have changed while the rest was.
        list.files.iter().try_for_each(|file| copy.refuse_changed(file))?;
        let is_shared = rest.iter().all(|file| !file.to.starts_with("member"));
        Ok(if is_shared { "sharing its blocks" } else { "copied" })
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

/// Removes from an unfinished copy what the data does not have any more.
fn prune(partial: &Path, list: &MemberFiles) -> io::Result<()> {
    let directories = list.directories.iter().map(|directory| &*directory.to).collect();
    let files = list.files.iter().map(|file| &*file.to).collect();
    prune_below(partial, Path::new(""), &directories, &files)
}

fn prune_below(
    partial: &Path,
    below: &Path,
    directories: &BTreeSet<&Path>,
    files: &BTreeSet<&Path>,
) -> io::Result<()> {
    for entry in fs::read_dir(partial.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true if directories.contains(&*name) => {
                prune_below(partial, &name, directories, files)?;
            }
            true => tree::remove(&entry.path())?,
            false if files.contains(&*name) => {}
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

fn make_directories(partial: &Path, list: &MemberFiles) -> io::Result<()> {
    for directory in &list.directories {
        let to = partial.join(&directory.to);
        if !to.exists() {
            fs::create_dir(&to)?;
        }
        platform::copy_ownership(&directory.from, &to)?;
    }
    Ok(())
}

/// Makes all names durable, from the innermost directory on.
fn finish_directories(partial: &Path, list: &MemberFiles) -> io::Result<()> {
    for directory in list.directories.iter().rev() {
        platform::sync_directory(&partial.join(&directory.to))?;
    }
    platform::sync_directory(partial)
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
