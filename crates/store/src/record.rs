//! Records of the store: what was made from what.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError};
use oci::digest::Digest;

/// A record says what was made from what: a small file whose name is the digest of the inputs. Its
/// first line is a digest of the key and of the JSON that follows. A record decides what is in an
/// image, so one that was changed or renamed is ignored.
impl Store {
    /// Reads a record; `None` if it is missing or cannot be read, since it can be made again.
    /// Reading it counts as use, so that `cache gc` keeps it.
    pub fn record<T: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Option<T> {
        let path = self.record_path(kind, key);
        let text = fs::read_to_string(&path).ok()?;
        let (seal, json) = text.split_once('\n')?;
        let is_sealed = seal == self::seal(kind, key, json);
        let record = is_sealed.then(|| serde_json::from_str(json).ok())??;
        // Only a hint for `cache gc`, so errors do not matter.
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
        let mut file = self.temporary()?;
        let json = serde_json::to_string(value)
            .map_err(|error| StoreError::io("write", &path)(error.into()))?;
        write!(file, "{}\n{json}", seal(kind, key, &json))
            .map_err(StoreError::io("write", &path))?;
        file.persist(&path).map_err(|error| StoreError::io("rename to", &path)(error.error))?;
        Ok(())
    }

    fn record_path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.root.join("records").join(kind).join(key.hex())
    }
}

fn seal(kind: &str, key: &Digest, json: &str) -> String {
    Digest::of(format!("{kind} {key}\n{json}")).to_string()
}
