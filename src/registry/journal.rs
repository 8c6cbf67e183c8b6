//! Which uploads are on their way, so that a process that comes after a killed one goes on where
//! the registry says that it is.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::Repository;
use crate::digest::Digest;

/// The upload of one blob into one repository. Only one process works in a repository at a time
/// (`Host::lock`).
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    entry: Entry,
}

/// The location may hold what opens it, so the file is for its owner alone.
#[derive(Serialize, Deserialize)]
struct Entry {
    repository: String,
    digest: Digest,
    location: Option<String>,
    /// `Upload::at_least`, which the registry says only once.
    #[serde(default)]
    smallest: u64,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl Journal {
    pub(super) fn open(folder: &Path, repository: &Repository, digest: Digest) -> Self {
        let repository = repository.to_string();
        let name = Digest::of(format!("{repository}@{digest}")).hex();
        let path = folder.join("uploads").join(name);
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let is_ours = |entry: &Entry| entry.repository == repository && entry.digest == digest;
        let entry = known.filter(is_ours).unwrap_or(Entry {
            repository,
            digest,
            location: None,
            smallest: 0,
        });
        Self { path, entry }
    }

    pub(super) fn location(&self) -> Option<Url> {
        Url::parse(self.entry.location.as_deref()?).ok()
    }

    pub(super) fn smallest(&self) -> u64 {
        self.entry.smallest
    }

    /// The registry will know the upload by this, and takes no smaller pieces.
    pub(super) fn note(&mut self, location: &Url, smallest: u64) -> io::Result<()> {
        if self.entry.location.as_deref() == Some(location.as_str()) {
            return Ok(());
        }
        self.entry.location = Some(location.to_string());
        self.entry.smallest = smallest;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        // A temporary file is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(&self.entry)?)?;
        file.persist(&self.path)?;
        Ok(())
    }

    pub(super) fn forget(&mut self) {
        if self.entry.location.take().is_some() {
            // A stale one costs a question next time.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_remembered_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let open = |repository: &str| {
            Journal::open(folder.path(), &repository.parse().unwrap(), Digest::of(b""))
        };
        let location = Url::parse("https://a.example/u1?_state=secret").unwrap();
        open("a.example/etcd").note(&location, 7).unwrap();
        assert_eq!(open("a.example/etcd").location(), Some(location));
        assert_eq!(open("a.example/etcd").smallest(), 7);
        assert_eq!(open("a.example/other").location(), None);
        assert!(!format!("{:?}", open("a.example/etcd")).contains("secret"));
        open("a.example/etcd").forget();
        assert_eq!(open("a.example/etcd").location(), None);
        assert_eq!(fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
    }
}
