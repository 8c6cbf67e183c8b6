//! Unfinished uploads, remembered on disk: a process that runs after a killed one continues each
//! upload at the offset that the registry reports.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use oci::Repository;
use oci::digest::Digest;

/// The upload of one blob into one repository. Only one process of this machine writes into a
/// repository at a time (`Registry::lock`).
#[derive(Debug)]
pub(super) struct UploadJournal {
    path: PathBuf,
    entry: UploadRecord,
}

/// The location may contain a secret, so only the owner can read the file.
#[derive(Serialize, Deserialize)]
struct UploadRecord {
    repository: String,
    digest: Digest,
    location: Option<String>,
    /// The smallest chunk that the registry accepts, in bytes, which it states only once.
    #[serde(default, rename = "smallest")]
    min_chunk: u64,
}

impl std::fmt::Debug for UploadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl UploadJournal {
    pub(super) fn open(cache_dir: &Path, repository: &Repository, digest: Digest) -> Self {
        let repository = repository.to_string();
        let name = Digest::of(format!("{repository}@{digest}")).hex();
        let path = cache_dir.join("uploads").join(name);
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let is_same =
            |entry: &UploadRecord| entry.repository == repository && entry.digest == digest;
        let entry = known.filter(is_same).unwrap_or(UploadRecord {
            repository,
            digest,
            location: None,
            min_chunk: 0,
        });
        Self { path, entry }
    }

    pub(super) fn location(&self) -> Option<Url> {
        Url::parse(self.entry.location.as_deref()?).ok()
    }

    /// The smallest chunk that the registry accepts, in bytes.
    pub(super) fn min_chunk(&self) -> u64 {
        self.entry.min_chunk
    }

    /// Writes down where the upload continues.
    pub(super) fn record(&mut self, location: &Url, min_chunk: u64) -> io::Result<()> {
        if self.entry.location.as_deref() == Some(location.as_str()) {
            return Ok(());
        }
        self.entry.location = Some(location.to_string());
        self.entry.min_chunk = min_chunk;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        // Temporary files have mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(&self.entry)?)?;
        file.persist(&self.path)?;
        Ok(())
    }

    pub(super) fn forget(&mut self) {
        if self.entry.location.take().is_some() {
            // A stale file only costs a request next time.
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
            UploadJournal::open(folder.path(), &repository.parse().unwrap(), Digest::of(b""))
        };
        let location = Url::parse("https://a.example/u1?_state=secret").unwrap();
        open("a.example/etcd").record(&location, 7).unwrap();
        assert_eq!(open("a.example/etcd").location(), Some(location));
        assert_eq!(open("a.example/etcd").min_chunk(), 7);
        assert_eq!(open("a.example/other").location(), None);
        assert!(!format!("{:?}", open("a.example/etcd")).contains("secret"));
        open("a.example/etcd").forget();
        assert_eq!(open("a.example/etcd").location(), None);
        assert_eq!(fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
    }

    #[test]
    fn files_of_older_versions_are_read_and_broken_ones_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let repository: Repository = "a.example/etcd".parse().unwrap();
        let open = || UploadJournal::open(folder.path(), &repository, Digest::of(b""));
        fs::create_dir_all(folder.path().join("uploads")).unwrap();
        let (digest, location) = (Digest::of(b""), "https://a.example/u1");
        let old = format!(
            r#"{{"repository": "a.example/etcd", "digest": "{digest}", "location": "{location}",
                "smallest": 7}}"#
        );
        fs::write(open().path, old).unwrap();
        assert_eq!(open().location().unwrap().as_str(), location);
        assert_eq!(open().min_chunk(), 7);
        for broken in ["", "{}", r#"{"repository": 1}"#] {
            fs::write(open().path, broken).unwrap();
            assert_eq!(open().location(), None, "{broken}");
        }
    }
}
