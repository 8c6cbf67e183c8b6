use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Store, StoreError};
use crate::digest::Digest;

/// One blob, as `cache ls` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub digest: Digest,
    pub size_bytes: u64,
}

/// What `cache gc` took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub files: u64,
    pub size_bytes: u64,
}

impl Store {
    /// All blobs, in the order of their digests.
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let folder = self.root.join("blobs/sha256");
        let mut entries: Vec<_> = files(&folder)?
            .into_iter()
            .filter_map(|(path, size_bytes)| {
                let name = path.file_name()?.to_str()?;
                let digest = Digest::from_str(&format!("sha256:{name}")).ok()?;
                Some(Entry { digest, size_bytes })
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    /// Removes every blob that is not to be kept, every download that ended half-way, every
    /// record and every file that a killed process left. What another process writes stays.
    pub fn sweep(&self, keep: &BTreeSet<Digest>) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for entry in self.entries()? {
            if !keep.contains(&entry.digest) {
                swept.remove(&self.blob_path(&entry.digest), entry.size_bytes)?;
            }
        }
        for folder in ["partial", "tmp"] {
            for (path, size_bytes) in files(&self.root.join(folder))? {
                if !is_held(&path) {
                    swept.remove(&path, size_bytes)?;
                }
            }
        }
        self.sweep_compiles(&mut swept)?;
        Ok(swept)
    }

    /// A killed compile leaves its folder; a living one holds a lock on it.
    fn sweep_compiles(&self, swept: &mut Swept) -> Result<(), StoreError> {
        let Ok(entries) = fs::read_dir(self.root.join("compile")) else { return Ok(()) };
        for folder in entries.flatten().map(|entry| entry.path()) {
            if is_held(&folder) {
                continue;
            }
            for (path, size_bytes) in files(&folder)? {
                swept.remove(&path, size_bytes)?;
            }
            fs::remove_dir_all(&folder).map_err(StoreError::io("remove", &folder))?;
        }
        Ok(())
    }
}

impl Swept {
    fn remove(&mut self, path: &Path, size_bytes: u64) -> Result<(), StoreError> {
        fs::remove_file(path).map_err(StoreError::io("remove", path))?;
        self.files += 1;
        self.size_bytes += size_bytes;
        Ok(())
    }
}

/// Writers hold a lock on their file; a killed writer's lock is gone.
fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::io("read", folder))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("read", folder))?;
        let metadata = entry.metadata().map_err(StoreError::io("read", entry.path()))?;
        if metadata.is_file() {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(files)
}
