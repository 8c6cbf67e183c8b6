//! The content-addressed store below the cache directory.
//!
//! A blob is a file whose name is its digest. It gets this name by a rename, after it was verified:
//! two processes can write at the same time, and a killed process leaves no incomplete blob. Bytes
//! are hashed again when they are read: a blob that does not match its name is removed.
//!
//! Not responsible for where bytes come from, or what a record means.

mod blob;
mod record;
mod sweep;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

pub use blob::{BlobWriter, Verified};
pub use sweep::{StoredBlob, SweepReport};

use oci::digest::Digest;

/// A store on disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused something.
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A download has other bytes than it should have.
    #[error("`{name}` has the wrong digest\n  expected {expected}\n  received {actual}")]
    Mismatch { name: String, expected: Digest, actual: Digest },
    /// A blob changed on disk.
    #[error("the cache entry {digest} was corrupted and has been removed\n  received {actual}")]
    Corrupt { digest: Digest, actual: Digest },
    /// A blob is not in the store.
    #[error("the cache has no {0}")]
    Missing(Digest),
}

impl StoreError {
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl Store {
    /// Opens the store and creates missing folders.
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

    /// The size of a blob in bytes, or `None` if the store does not have it.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().filter(fs::Metadata::is_file).map(|m| m.len())
    }

    /// Opens a blob after hashing all of it.
    pub fn open_verified(&self, digest: &Digest) -> Result<Verified, StoreError> {
        Verified::open(self.blob_path(digest), *digest)
    }

    /// The bytes of a small blob (a config or a manifest).
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let path = self.blob_path(digest);
        self.open_verified(digest)?
            .read_to_end(&mut bytes)
            .map_err(StoreError::io("read", path))?;
        Ok(bytes)
    }

    /// Writes a small blob and returns its digest.
    pub fn write(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        use std::io::Write;
        let mut writer = self.writer()?;
        let path = self.root.join("tmp");
        writer.write_all(bytes).map_err(StoreError::io("write in", path))?;
        Ok(writer.commit()?.0)
    }

    /// A new blob whose digest is not known yet.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        BlobWriter::new(self.clone())
    }

    /// Where the resumable download of a blob collects its bytes.
    pub fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.hex())
    }

    /// Moves a partial download to its final name, if its bytes are the expected ones.
    /// A wrong download is removed, since it cannot be completed.
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

    /// A lock for the work on a blob or a record: a second process waits, and then finds the work
    /// done. Released when dropped, and by the system if the process dies.
    pub fn lock(&self, key: &str) -> Result<File, StoreError> {
        let path = self.root.join("tmp").join(format!("{key}.lock"));
        let file = File::create(&path).map_err(StoreError::io("create", &path))?;
        file.lock().map_err(StoreError::io("lock", &path))?;
        Ok(file)
    }

    /// The path of a blob, whether or not it exists. Its bytes are not verified: use it only if the
    /// receiver verifies them, as a registry does.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_with_other_bytes_gets_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let expected = Digest::of("right");
        fs::write(store.partial_path(&expected), "wrong").unwrap();
        let error = store.commit_partial("etcd", &expected).unwrap_err();
        assert!(
            matches!(error, StoreError::Mismatch { actual, .. } if actual == Digest::of("wrong"))
        );
        assert!(!store.has(&expected) && !store.partial_path(&expected).exists());

        fs::write(store.partial_path(&expected), "right").unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&store.partial_path(&expected));
        assert_eq!(store.commit_partial("etcd", &expected).unwrap(), 5);
        // The same file by another name: nobody ever sees a part of it.
        assert_eq!(inode(&store.path(&expected)), before);
        assert_eq!(store.read(&expected).unwrap(), b"right");
    }

    #[test]
    fn a_blob_that_changed_on_disk_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = store.write(b"right").unwrap();
        fs::write(store.path(&digest), "wrong").unwrap();
        let error = store.read(&digest).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(matches!(store.read(&digest), Err(StoreError::Missing(_))));
    }
}
