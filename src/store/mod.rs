//! The content-addressed store below the cache directory.
//!
//! Blobs are files named by their digest and arrive by rename after they were verified, so two
//! processes may fill the store at once and a killed one leaves nothing under a final name.
//! Bytes are hashed again when they are read: a blob that no longer matches its name is removed.
//! Not responsible for: where bytes come from, or what a record means.

mod blob;
mod record;
mod sweep;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

pub use blob::{BlobWriter, Verified};
pub use sweep::{StoredBlob, Swept};

use crate::digest::Digest;

/// A store on disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("`{name}` has the wrong digest\n  expected {expected}\n  received {actual}")]
    Mismatch { name: String, expected: Digest, actual: Digest },
    #[error("the cache entry {digest} was corrupted and has been removed\n  received {actual}")]
    Corrupt { digest: Digest, actual: Digest },
    #[error("the cache has no {0}")]
    Missing(Digest),
}

impl StoreError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl Store {
    /// Opens the store, making its folders where they are missing.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { root: root.into() };
        for folder in ["blobs/sha256", "partial", "records", "tmp", "uploads"] {
            let path = store.root.join(folder);
            fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        }
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn has(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// The size of a blob, unless it is missing.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().filter(fs::Metadata::is_file).map(|m| m.len())
    }

    /// Opens a blob after hashing all of it.
    pub fn open_verified(&self, digest: &Digest) -> Result<Verified, StoreError> {
        Verified::open(self.blob_path(digest), *digest)
    }

    /// Small blobs (configs, manifests) as bytes.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let path = self.blob_path(digest);
        self.open_verified(digest)?
            .read_to_end(&mut bytes)
            .map_err(StoreError::io("read", path))?;
        Ok(bytes)
    }

    /// Writes a small blob whose digest is what its bytes say.
    pub fn write(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        use std::io::Write;
        let mut writer = self.writer()?;
        let path = self.root.join("tmp");
        writer.write_all(bytes).map_err(StoreError::io("write in", path))?;
        Ok(writer.commit()?.0)
    }

    /// A new blob of unknown digest.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        BlobWriter::new(self.clone())
    }

    /// Where the resumable download of a blob collects its bytes.
    pub fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.hex())
    }

    /// Moves a partial download to its final name, if its bytes are the expected ones.
    /// A wrong one is removed, since no later byte can mend it.
    pub fn commit_partial(&self, name: &str, expected: &Digest) -> Result<u64, StoreError> {
        let path = self.partial_path(expected);
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        let (actual, size) = Digest::of_reader(file).map_err(StoreError::io("read", &path))?;
        if actual != *expected {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            let name = name.to_owned();
            return Err(StoreError::Mismatch { name, expected: *expected, actual });
        }
        fs::rename(&path, self.blob_path(expected)).map_err(StoreError::io("rename", &path))?;
        Ok(size)
    }

    /// Held while one process works on a blob or a record, so that a second one waits
    /// and then finds the work done. Released when dropped, and by the system at a crash.
    pub fn lock(&self, key: &str) -> Result<File, StoreError> {
        let path = self.root.join("tmp").join(format!("{key}.lock"));
        let file = File::create(&path).map_err(StoreError::io("create", &path))?;
        file.lock().map_err(StoreError::io("lock", &path))?;
        Ok(file)
    }

    /// Where the bytes of a blob are, if it is there. Who reads them unverified must have somebody
    /// who verifies them at the other end, as a registry does.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blob_path(digest)
    }

    /// A new file in `tmp`. Its lock tells `cache gc` that it is in use.
    fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        let folder = self.root.join("tmp");
        let file =
            NamedTempFile::new_in(&folder).map_err(StoreError::io("create a file in", folder))?;
        file.as_file().lock().map_err(StoreError::io("lock", file.path()))?;
        Ok(file)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }
}
