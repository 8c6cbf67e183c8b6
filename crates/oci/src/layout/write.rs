//! Writing a layout: blobs first, then index.json, each by rename.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{IndexEntry, Layout, LayoutError, REF_NAME};
use crate::digest::Digest;
use crate::document::{Annotations, Descriptor, Document};
use crate::json::canonical;
use crate::media_type;

/// A build that died is noticed by its unlocked file and swept by the next one.
const TEMPORARY: &str = ".etcdimg-";

impl Layout {
    /// Opens a layout for writing and creates it if it does not exist. No other process writes
    /// while the returned lock is held.
    pub fn create(root: &Path) -> Result<(Self, File), LayoutError> {
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(LayoutError::io("create", &blobs))?;
        let layout = Self { root: root.to_owned() };
        let guard = layout.lock()?;
        if !root.join("oci-layout").exists() {
            let version = canonical(&json!({ "imageLayoutVersion": "1.0.0" }));
            layout.replace("oci-layout", &version)?;
        }
        Ok((layout, guard))
    }

    /// Two builds into one layout take turns. The folder itself is locked, so
    /// that no lock file is needed in it.
    fn lock(&self) -> Result<File, LayoutError> {
        let folder = File::open(&self.root).map_err(LayoutError::io("open", &self.root))?;
        folder.lock().map_err(LayoutError::io("lock", &self.root))?;
        self.sweep()?;
        Ok(folder)
    }

    /// Copies a blob of `size` bytes (`None`: not known) from a reader whose bytes are verified.
    /// `open` is not called when the layout has a blob of this name and size.
    pub fn add_blob<R: Read, E: From<LayoutError>>(
        &self,
        digest: &Digest,
        size: Option<u64>,
        open: impl FnOnce() -> Result<R, E>,
    ) -> Result<(), E> {
        let path = self.blob_path(digest);
        if fs::metadata(&path).is_ok_and(|known| Some(known.len()) == size) {
            return Ok(());
        }
        let mut blob = open()?;
        Ok(self.write(&path, |file| io::copy(&mut blob, file).map(drop))?)
    }

    /// Writes a document that was made in memory.
    pub fn add_bytes(&self, document: &Document) -> Result<Digest, LayoutError> {
        let digest = document.digest();
        let path = self.blob_path(&digest);
        if fs::metadata(&path).is_ok_and(|known| known.len() == document.bytes.len() as u64) {
            return Ok(digest);
        }
        self.write(&path, |file| file.write_all(&document.bytes))?;
        Ok(digest)
    }

    /// Makes index.json name a document by a tag, beside what it names by other tags.
    pub fn tag(&self, entries: &[(String, Descriptor)]) -> Result<(), LayoutError> {
        let mut manifests = self.entries()?;
        for (name, descriptor) in entries {
            manifests.retain(|entry| entry.tag() != Some(name));
            let annotations = Annotations::from([(REF_NAME.to_owned(), name.clone())]);
            let named = Descriptor { annotations, ..descriptor.clone() };
            manifests.push(IndexEntry(serde_json::to_value(named).unwrap_or_default()));
        }
        let mut manifests: Vec<Value> = manifests.into_iter().map(|entry| entry.0).collect();
        manifests.sort_by_key(|entry| entry["annotations"][REF_NAME].to_string());
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::INDEX,
            "manifests": manifests,
        });
        let bytes = canonical(&index);
        // Unchanged: leave the file alone, times and all.
        if fs::read(self.root.join("index.json")).is_ok_and(|known| known == bytes) {
            return Ok(());
        }
        self.replace("index.json", &bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        self.write(&self.root.join(name), |file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
    }

    /// Writes beside the final place, then renames. The mode does not depend on the umask.
    fn write(
        &self,
        path: &Path,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), LayoutError> {
        let mut temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(&self.root)
            .map_err(LayoutError::io("create a file in", &self.root))?;
        fill(temporary.as_file_mut()).map_err(LayoutError::io("write", path))?;
        temporary
            .as_file()
            .set_permissions(Permissions::from_mode(0o644))
            .map_err(LayoutError::io("write", path))?;
        persist(temporary, path)
    }

    /// Removes what a killed build left. Only the holder of the lock writes, so nothing is in use.
    fn sweep(&self) -> Result<(), LayoutError> {
        let entries = fs::read_dir(&self.root).map_err(LayoutError::io("read", &self.root))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path()).map_err(LayoutError::io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

fn persist(file: NamedTempFile, path: &Path) -> Result<(), LayoutError> {
    file.persist(path).map(drop).map_err(|error| LayoutError::io("rename to", path)(error.error))
}
