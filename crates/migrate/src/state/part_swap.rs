//! Replaces the data inside of the directories that hold it, because they cannot be renamed: a link
//! or a mount point stays what it is, and so does everything that is not etcd's.
//!
//! In each directory the old files are moved out, and then the new ones in. A file says how far
//! that is, so that the next run finishes what a kill has left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::lock::state_dir;
use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::{durable, tree};
use crate::inspect::layout::{self, DataLayout, Part, WORK_DIR};
use crate::platform;

/// The replacement of the data in its parts.
#[derive(Debug)]
pub struct PartSwap {
    layout: DataLayout,
    /// Says that all new data is in place to be moved, and what is moved.
    marker: PathBuf,
}

/// What is being moved, as the marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Out,
    In,
}

impl Phase {
    const fn text(self) -> &'static str {
        match self {
            Self::Out => "moving the old data out",
            Self::In => "moving the restored data in",
        }
    }
}

impl PartSwap {
    /// The paths for a data directory. Touches nothing.
    pub fn of(layout: &DataLayout) -> Self {
        Self { marker: state_dir(&layout.data_dir).join("swap"), layout: layout.clone() }
    }

    /// The directory in which tools write, on the file system of the database.
    pub fn work(&self) -> PathBuf {
        self.work_in(Part::Snap)
    }

    /// Makes that directory.
    pub fn prepare(&self) -> io::Result<()> {
        self.create_work(Part::Snap)
    }

    /// Whether a run ended while it moved files.
    pub fn is_pending(&self) -> bool {
        self.marker.exists()
    }

    /// Replaces the data by that of a complete data directory below `work`, or goes on with it.
    pub fn finish(&self, restored: &Path) -> Result<(), MigrateError> {
        if !self.is_pending() {
            self.stage(restored).map_err(|error| {
                MigrateError::file("move the restored log to", &self.layout.wal, &error)
            })?;
            self.note(Phase::Out)?;
        }
        for part in Part::ALL {
            self.refuse_absent(part, restored)?;
        }
        if self.phase()? == Phase::Out {
            self.each(|part| self.move_out(part))?;
            self.note(Phase::In)?;
        }
        self.each(|part| self.move_in(part, restored))?;
        let removed = fs::remove_file(&self.marker)
            .and_then(|()| platform::sync_directory(durable::parent(&self.marker)));
        removed.map_err(|error| MigrateError::file("remove", &self.marker, &error))
    }

    /// Removes what earlier runs left. Removes nothing while a replacement is pending.
    pub fn clear(&self) -> Result<(), MigrateError> {
        if self.is_pending() {
            return Ok(());
        }
        for part in Part::ALL {
            let work = self.work_in(part);
            tree::remove(&work).map_err(|error| MigrateError::file("remove", &work, &error))?;
        }
        Ok(())
    }

    fn phase(&self) -> Result<Phase, MigrateError> {
        let text = fs::read_to_string(&self.marker);
        let phase = text.and_then(|text| {
            let phase = [Phase::Out, Phase::In].into_iter().find(|phase| phase.text() == text);
            phase.ok_or(io::Error::from(io::ErrorKind::InvalidData))
        });
        phase.map_err(|error| MigrateError::file("read", &self.marker, &error))
    }

    fn each(&self, work: impl Fn(Part) -> io::Result<()>) -> Result<(), MigrateError> {
        Part::ALL.into_iter().try_for_each(|part| {
            let directory = self.layout.directory(part);
            work(part).map_err(|error| MigrateError::file("replace the data in", directory, &error))
        })
    }

    /// Brings the restored log to the file system of the log, where it can be renamed.
    fn stage(&self, restored: &Path) -> io::Result<()> {
        self.create_work(Part::Wal)?;
        let from = restored.join("member").join(Part::Wal.name());
        let staged = self.staged(Part::Wal, restored);
        tree::remove(&staged)?;
        match fs::rename(&from, &staged) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                tree::copy(&from, &staged)?;
            }
            renamed => renamed?,
        }
        // The names of all that the marker relies on.
        Part::ALL.into_iter().try_for_each(|part| {
            platform::sync_directory(&self.work_in(part))?;
            platform::sync_directory(self.layout.directory(part))
        })
    }

    fn move_out(&self, part: Part) -> io::Result<()> {
        let directory = self.layout.directory(part);
        let replaced = self.work_in(part).join("replaced");
        fs::create_dir_all(&replaced)?;
        for path in layout::part_entries(part, directory)? {
            fs::rename(&path, replaced.join(path.file_name().unwrap_or_default()))?;
        }
        platform::sync_directory(&replaced)?;
        platform::sync_directory(directory)
    }

    fn move_in(&self, part: Part, restored: &Path) -> io::Result<()> {
        let directory = self.layout.directory(part);
        let staged = self.staged(part, restored);
        for entry in fs::read_dir(&staged)? {
            let entry = entry?;
            let target = directory.join(entry.file_name());
            if fs::symlink_metadata(&target).is_ok() {
                let what = format!("{} has come into being meanwhile", target.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
            fs::rename(entry.path(), target)?;
        }
        platform::sync_directory(directory)?;
        platform::sync_directory(&staged)
    }

    /// An error if the new data of a part is not where it was put: its volume is not mounted, or
    /// `--wal-dir` is another one than before.
    fn refuse_absent(&self, part: Part, restored: &Path) -> Result<(), MigrateError> {
        let staged = self.staged(part, restored);
        if staged.is_dir() {
            return Ok(());
        }
        let what = format_args!(
            "a downgrade was interrupted while it moved the restored data into place, and {} is not \
             there",
            staged.display()
        );
        Err(MigrateError::new(MigrateErrorKind::NotMigratable, what)
            .hint("mount the same volumes and give the same --wal-dir as before"))
    }

    fn note(&self, phase: Phase) -> Result<(), MigrateError> {
        durable::replace(&self.marker, phase.text().as_bytes())
    }

    fn staged(&self, part: Part, restored: &Path) -> PathBuf {
        match part {
            Part::Snap => restored.join("member").join(part.name()),
            Part::Wal => self.work_in(part).join("log"),
        }
    }

    fn work_in(&self, part: Part) -> PathBuf {
        self.layout.directory(part).join(WORK_DIR)
    }

    fn create_work(&self, part: Part) -> io::Result<()> {
        let work = self.work_in(part);
        fs::create_dir_all(&work)?;
        platform::copy_ownership(self.layout.directory(part), &work)
    }
}

#[cfg(test)]
#[path = "part_swap_tests.rs"]
mod tests;
