use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError};
use crate::digest::Digest;

/// Records say what was made from what: small JSON files named by the digest of their inputs.
impl Store {
    /// A record, or nothing when it is missing or cannot be read: it can be made again.
    /// Reading it counts as use, which keeps it from being swept.
    pub fn record<T: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Option<T> {
        let path = self.record_path(kind, key);
        let record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        // Only a hint for the sweep: a file system that keeps no times loses nothing.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(super::sweep::now()));
        Some(record)
    }

    pub fn put_record<T: Serialize>(
        &self,
        kind: &str,
        key: &Digest,
        value: &T,
    ) -> Result<(), StoreError> {
        let path = self.record_path(kind, key);
        let folder = self.root.join("records").join(kind);
        fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        let tmp = self.root.join("tmp");
        let mut file = tempfile::NamedTempFile::new_in(&tmp)
            .map_err(StoreError::io("create a file in", &tmp))?;
        serde_json::to_writer(&mut file, value)
            .map_err(|error| StoreError::io("write", &path)(error.into()))?;
        file.persist(&path).map_err(|error| StoreError::io("rename to", &path)(error.error))?;
        Ok(())
    }

    fn record_path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.root.join("records").join(kind).join(format!("{}.json", key.hex()))
    }
}
