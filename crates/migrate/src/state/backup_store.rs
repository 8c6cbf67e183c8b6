//! The directory with the backups of one data directory. It may hold the backups of other data
//! directories too, also those of other machines, if the operator gives one place for all of them.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::MigrateError;
use crate::files::durable::{self, beside};
use crate::files::{mounts, ownership, tree};
use crate::platform;
use crate::state::copy_record::CopyRecord;
use crate::state::lock::state_dir;

/// The name of a backup until it is complete.
const PARTIAL: &str = "partial";
/// The file in a backup that says of which data directory it was made.
const LABEL: &str = "data-directory";

/// Where the backups of one data directory are.
#[derive(Clone, Debug)]
pub struct BackupStore {
    /// It need not exist.
    pub directory: PathBuf,
    data_dir: PathBuf,
    location: StoreLocation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreLocation {
    /// The default, for this data directory alone.
    Default,
    /// Given by the operator. Others may use it, too.
    Given,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BackupOwner {
    /// It was made of this data directory.
    Ours,
    /// It has no label: somebody else has made it, or earlier code.
    Unknown,
    /// It was made of another data directory.
    Another,
}

impl BackupStore {
    /// `given` is the directory that the operator chose. Touches nothing.
    pub fn of(data_dir: &Path, given: Option<&Path>) -> Self {
        let own = own_directory(data_dir);
        let given = given.filter(|given| *given != own);
        Self {
            directory: given.map(Path::to_owned).unwrap_or(own),
            data_dir: data_dir.to_owned(),
            location: if given.is_some() { StoreLocation::Given } else { StoreLocation::Default },
        }
    }

    /// The directory for a new backup, and the record of what is in it. It holds what an earlier
    /// run has copied that was interrupted. Makes the store itself if it is missing.
    pub fn begin(&self) -> io::Result<(PathBuf, CopyRecord)> {
        let partial = self.partial()?;
        let is_there = self.directory.exists();
        if !partial.exists() {
            // It would be about another copy.
            remove_file(&record_of(&partial))?;
        }
        fs::create_dir_all(&partial)?;
        if !is_there {
            platform::copy_ownership(&self.data_dir, &self.directory)?;
        }
        platform::copy_ownership(&self.data_dir, &partial)?;
        let record = CopyRecord::open(&record_of(&partial))?;
        ownership::restore_file(&record_of(&partial), &self.data_dir)?;
        Ok((partial, record))
    }

    /// Does `discard` for what an earlier run has left, unless another process goes on with it.
    pub fn discard_left(&self) -> io::Result<()> {
        if !self.id_path().exists() || !self.partial()?.exists() {
            return Ok(());
        }
        let partial = self.partial()?;
        let _record = CopyRecord::open(&record_of(&partial))?;
        discard(&partial)
    }

    /// With the number of the data directory in its name, so that it is surely ours.
    fn partial(&self) -> io::Result<PathBuf> {
        Ok(self.directory.join(format!("{PARTIAL}-{}", self.id()?)))
    }

    /// Gives a complete backup its label and its final name, `name` or `name-<number>`.
    pub fn end(&self, partial: &Path, name: &str) -> Result<PathBuf, MigrateError> {
        let label = self.id().and_then(|id| self.label(&id));
        let label = label.map_err(|error| MigrateError::file("label", partial, &error))?;
        let label_path = partial.join(LABEL);
        durable::replace(&label_path, label.as_bytes())?;
        ownership::restore_file(&label_path, &self.data_dir)
            .map_err(|error| MigrateError::file("label", partial, &error))?;
        let complete = self.directory.join(name);
        let later = (1..).map(|count| beside(&complete, &format!("-{count}")));
        for complete in [complete.clone()].into_iter().chain(later) {
            if complete.exists() {
                continue;
            }
            match fs::rename(partial, &complete) {
                // Another `migrate` has taken this name meanwhile.
                Err(_) if complete.exists() => {}
                renamed => {
                    // One that stays is removed by the next backup.
                    let _ = remove_file(&record_of(partial));
                    return renamed
                        .and_then(|()| platform::sync_directory(&self.directory))
                        .map(|()| complete)
                        .map_err(|error| {
                            MigrateError::file("back up to", &self.directory, &error)
                        });
                }
            }
        }
        unreachable!("the names never end")
    }

    /// The complete backups, oldest first, except those of other data directories.
    pub fn copies(&self) -> Vec<PathBuf> {
        self.all(|owner| owner != BackupOwner::Another)
    }

    /// The backups of this data directory that may go: all but the newest `count` and `keep`.
    pub fn expired(&self, count: usize, keep: &Path) -> Vec<PathBuf> {
        let mut copies = self.all(|owner| owner == BackupOwner::Ours);
        copies.truncate(copies.len().saturating_sub(count));
        copies.retain(|copy| copy != keep);
        copies
    }

    /// The complete backups, oldest first: their names are times.
    fn all(&self, is_wanted: impl Fn(BackupOwner) -> bool) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        let mut copies: Vec<_> =
            paths.filter(|path| is_copy(path) && is_wanted(self.owner(path))).collect();
        copies.sort();
        copies
    }

    fn owner(&self, copy: &Path) -> BackupOwner {
        let Ok(label) = fs::read_to_string(copy.join(LABEL)) else { return BackupOwner::Unknown };
        let Ok(id) = fs::read_to_string(self.id_path()) else { return BackupOwner::Another };
        let is_ours = match self.location {
            // The path is another one in another container.
            StoreLocation::Default => label.split(' ').next() == Some(&*id),
            StoreLocation::Given => self.label(&id).is_ok_and(|own| own == label),
        };
        if is_ours { BackupOwner::Ours } else { BackupOwner::Another }
    }

    /// Number and path together name a data directory: a path alone is the same on many machines,
    /// and the number is copied when somebody copies the directory.
    fn label(&self, id: &str) -> io::Result<String> {
        let path = fs::canonicalize(&self.data_dir)?;
        Ok(format!("{id} {}\n", path.display()))
    }

    /// The random number of the data directory, made now if there is none.
    fn id(&self) -> io::Result<String> {
        let path = self.id_path();
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        let id = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        durable::replace(&path, id.as_bytes())
            .map_err(|failure| io::Error::other(failure.cause))?;
        Ok(id)
    }

    fn id_path(&self) -> PathBuf {
        state_dir(&self.data_dir).join("id")
    }
}

/// Removes a copy that will not go on: half a copy is useless and fills the disk. The caller holds
/// its record.
pub fn discard(partial: &Path) -> io::Result<()> {
    tree::remove(partial)?;
    remove_file(&record_of(partial))
}

/// Beside the partial backup, because it is no part of the backup.
fn record_of(partial: &Path) -> PathBuf {
    beside(partial, ".record")
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Beside the data directory. Inside it when it is a mount point: what is beside a mount point is
/// on another file system, and in a container it is lost when the container ends.
fn own_directory(data_dir: &Path) -> PathBuf {
    let file_system = |path: &Path| platform::file_system(path).ok();
    let is_on_another =
        data_dir.exists() && file_system(data_dir) != file_system(durable::parent(data_dir));
    if is_on_another || mounts::is_mount_point(data_dir) {
        state_dir(data_dir).join("backup")
    } else {
        beside(data_dir, ".bak")
    }
}

/// Whether the name is one that `end` gives. The old image left other things in the same directory.
fn is_copy(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() >= 18 && name.as_bytes()[10] == b'T' && path.join("member").is_dir()
}
