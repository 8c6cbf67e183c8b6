//! Cleaning of the store: `cache ls` and `cache gc`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::{Store, StoreError};
use oci::digest::Digest;

/// One blob, as `cache ls` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredBlob {
    pub digest: Digest,
    pub size_bytes: u64,
}

/// What `cache gc` removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    pub files: u64,
    pub size_bytes: u64,
}

impl Store {
    /// All blobs, in the order of their digests.
    pub fn entries(&self) -> Result<Vec<StoredBlob>, StoreError> {
        let folder = self.root.join("blobs/sha256");
        let mut entries: Vec<_> = files(&folder)?
            .into_iter()
            .filter_map(|(path, size_bytes)| {
                let name = path.file_name()?.to_str()?;
                let digest = Digest::from_str(&format!("sha256:{name}")).ok()?;
                Some(StoredBlob { digest, size_bytes })
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    /// Removes records and blobs that were not used for this long, incomplete downloads, the state
    /// of uploads that were not continued, and files of killed processes. Files that another
    /// process is writing are kept.
    pub fn sweep(&self, unused: Duration) -> Result<SweepReport, StoreError> {
        let mut swept = SweepReport::default();
        let keep = self.sweep_records(unused, &mut swept)?;
        for entry in self.entries()? {
            if is_recent(&self.blob_path(&entry.digest), unused) {
                continue;
            }
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
        // Registries forget an upload that is not continued after about a week.
        for (path, size_bytes) in files(&self.root.join("uploads"))? {
            if !is_recent(&path, unused) {
                swept.remove(&path, size_bytes)?;
            }
        }
        self.sweep_compiles(&mut swept)?;
        Ok(swept)
    }

    /// Removes folders of killed compiles; a running compile holds a lock on its folder.
    fn sweep_compiles(&self, swept: &mut SweepReport) -> Result<(), StoreError> {
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

impl Store {
    /// Removes unused records and returns the digests that the remaining ones name.
    fn sweep_records(
        &self,
        unused: Duration,
        swept: &mut SweepReport,
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let mut keep = BTreeSet::new();
        for kind in folders(&self.root.join("records"))? {
            for (path, size_bytes) in files(&kind)? {
                if is_recent(&path, unused) {
                    let text = fs::read_to_string(&path).unwrap_or_default();
                    keep.extend(text.split('"').filter_map(|word| word.parse::<Digest>().ok()));
                } else {
                    swept.remove(&path, size_bytes)?;
                }
            }
        }
        Ok(keep)
    }
}

/// The time, only for `cache gc`: nothing that is built depends on it.
#[expect(clippy::disallowed_methods, reason = "how long something was unused is a matter of time")]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

fn is_recent(path: &Path, unused: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| now().duration_since(time).is_ok_and(|age| age < unused))
}

impl SweepReport {
    fn remove(&mut self, path: &Path, size_bytes: u64) -> Result<(), StoreError> {
        fs::remove_file(path).map_err(StoreError::io("remove", path))?;
        self.files += 1;
        self.size_bytes += size_bytes;
        Ok(())
    }
}

/// Whether a running process holds a lock on the file or folder.
fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::io("read", folder))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_used_record_names_stays_and_the_rest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let [kept, lost] = ["kept", "lost"].map(|text| store.write(text.as_bytes()).unwrap());
        let key = Digest::of("key");
        store.put_record("layer", &key, &kept).unwrap();
        fs::write(store.partial_path(&lost), "half").unwrap();
        let held = store.writer().unwrap();
        let day = Duration::from_hours(24);
        let long_ago = now() - 2 * day;
        for path in [store.blob_path(&kept), store.blob_path(&lost)] {
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        assert_eq!(store.sweep(day).unwrap(), SweepReport { files: 2, size_bytes: 8 });
        assert!(store.has(&kept) && !store.has(&lost));
        held.commit().unwrap();
        assert_eq!(store.sweep(Duration::ZERO).unwrap().files, 3);
        assert_eq!(store.record::<Digest>("layer", &key), None);
    }
}
