use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError};
use crate::digest::Digest;

/// Records say what was made from what: small JSON files named by the digest of their inputs.
impl Store {
    /// A record, or nothing when it is missing or cannot be read: it can be made again.
    pub fn record<T: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Option<T> {
        serde_json::from_slice(&fs::read(self.record_path(kind, key)).ok()?).ok()
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

impl Store {
    /// Every digest that any record names: what was made, and is worth keeping.
    pub fn recorded(&self) -> Result<std::collections::BTreeSet<Digest>, StoreError> {
        let mut digests = std::collections::BTreeSet::new();
        let mut folders = vec![self.root.join("records")];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(StoreError::io("read", &folder))?;
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(text) = fs::read_to_string(&path) {
                    digests.extend(text.split('"').filter_map(|word| word.parse::<Digest>().ok()));
                }
            }
        }
        Ok(digests)
    }
}
