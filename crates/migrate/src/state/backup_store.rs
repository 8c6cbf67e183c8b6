//! Where the copies of one data directory lie, and which of what lies there are its own: the
//! operator may have several directories, also those of several machines, copied to one place.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::files::durable::{self, beside};
use crate::platform;
use crate::report::event::Log;
use crate::run::backup;
use crate::state::lock::state_dir;

/// What a copy is called until it is complete.
const PARTIAL: &str = "partial";
/// Says in a copy which directory it was made of.
const LABEL: &str = "data-directory";

#[derive(Clone, Debug)]
pub struct Shelf {
    pub directory: PathBuf,
    data_dir: PathBuf,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// That of this data directory alone.
    Own,
    /// Chosen by the operator.
    Given,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Ours,
    /// It has no label.
    Unknown,
    Another,
}

impl Shelf {
    pub fn of(data_dir: &Path, given: Option<&Path>) -> Self {
        let own = own_directory(data_dir);
        let given = given.filter(|given| *given != own);
        Self {
            directory: given.map(Path::to_owned).unwrap_or(own),
            data_dir: data_dir.to_owned(),
            place: if given.is_some() { Place::Given } else { Place::Own },
        }
    }

    /// Makes the place, and in it an empty directory for a copy that is about to be made.
    pub fn begin(&self) -> io::Result<PathBuf> {
        let partial = match self.place {
            Place::Own => self.directory.join(PARTIAL),
            Place::Given => self.directory.join(format!("{PARTIAL}-{}", self.id()?)),
        };
        let is_there = self.directory.exists();
        backup::remove(&partial)?;
        fs::create_dir_all(&partial)?;
        if !is_there {
            platform::copy_ownership(&self.data_dir, &self.directory)?;
        }
        platform::copy_ownership(&self.data_dir, &partial)?;
        Ok(partial)
    }

    /// Gives a complete copy its label and its name, which is a time.
    pub fn end(&self, partial: &Path, name: &str) -> Result<PathBuf, Failure> {
        let label = self.id().and_then(|id| self.label(&id));
        let label = label.map_err(|error| Failure::file("label", partial, &error))?;
        durable::replace(&partial.join(LABEL), label.as_bytes())?;
        let complete = self.directory.join(name);
        let later = (1..).map(|count| beside(&complete, &format!("-{count}")));
        for complete in [complete.clone()].into_iter().chain(later) {
            if complete.exists() {
                continue;
            }
            match fs::rename(partial, &complete) {
                // Another one was faster.
                Err(_) if complete.exists() => {}
                renamed => {
                    return renamed
                        .and_then(|()| platform::sync_directory(&self.directory))
                        .map(|()| complete)
                        .map_err(|error| Failure::file("back up to", &self.directory, &error));
                }
            }
        }
        unreachable!("the names never end")
    }

    /// The complete copies of this data directory, and those of which nobody knows, the oldest
    /// first.
    pub fn copies(&self) -> Vec<PathBuf> {
        self.all(|owner| owner != Owner::Another)
    }

    /// Removes all but the newest copies of this data directory and the one to keep.
    pub fn retain(&self, count: usize, keep: &Path, log: Log) {
        let mut copies = self.all(|owner| owner == Owner::Ours);
        copies.truncate(copies.len().saturating_sub(count));
        for copy in copies.into_iter().filter(|copy| copy != keep) {
            match backup::remove(&copy) {
                Ok(()) => {
                    log.info("retain", format_args!("removed the old copy {}", copy.display()));
                }
                Err(error) => {
                    log.warn("retain", format_args!("cannot remove {}: {error}", copy.display()));
                }
            }
        }
    }

    /// Their names sort by time.
    fn all(&self, is_wanted: impl Fn(Owner) -> bool) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        let mut copies: Vec<_> =
            paths.filter(|path| is_copy(path) && is_wanted(self.owner(path))).collect();
        copies.sort();
        copies
    }

    fn owner(&self, copy: &Path) -> Owner {
        if self.place == Place::Own {
            return Owner::Ours;
        }
        let own = fs::read_to_string(self.id_path()).and_then(|id| self.label(&id));
        match fs::read_to_string(copy.join(LABEL)) {
            Ok(label) if own.is_ok_and(|own| own == label) => Owner::Ours,
            Ok(_) => Owner::Another,
            Err(_) => Owner::Unknown,
        }
    }

    /// A path alone is the same on many machines, and a number alone is copied with a directory.
    fn label(&self, id: &str) -> io::Result<String> {
        let path = fs::canonicalize(&self.data_dir)?;
        Ok(format!("{id} {}\n", path.display()))
    }

    /// The number of the data directory; it gets one now if it has none.
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

/// Beside the data directory; inside it when that is a file system of its own, since what lies
/// beside a mount point is somewhere else, in a container gone with the container.
fn own_directory(data_dir: &Path) -> PathBuf {
    let is_mount =
        matches!(platform::is_same_file_system(data_dir, durable::parent(data_dir)), Ok(false));
    if is_mount { state_dir(data_dir).join("backup") } else { beside(data_dir, ".bak") }
}

/// Only what this program named: the old one left other things under the same name.
fn is_copy(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() >= 18 && name.as_bytes()[10] == b'T' && path.join("member").is_dir()
}
