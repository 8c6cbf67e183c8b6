//! Reading a layout: what index.json names, and documents by their digest.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

use super::{Layout, LayoutError, REF_NAME};
use crate::digest::Digest;
use crate::document::Descriptor;

/// Documents are small; one that is not is no document.
const DOCUMENT_LIMIT: u64 = 4 << 20;

/// An entry of index.json as it was written, whether or not it can be read as a descriptor.
#[derive(Clone, Debug)]
pub struct IndexEntry(pub(super) Value);

impl IndexEntry {
    pub fn descriptor(&self) -> Result<Descriptor, serde_json::Error> {
        Descriptor::deserialize(&self.0)
    }

    /// The name of the entry, if it has one.
    pub(super) fn tag(&self) -> Option<&str> {
        self.0["annotations"][REF_NAME].as_str()
    }

    fn is_untagged(&self) -> bool {
        self.0["annotations"][REF_NAME].is_null()
    }
}

/// A document that index.json names.
#[derive(Clone, Debug)]
pub struct Tagged {
    pub tag: String,
    pub entry: IndexEntry,
}

impl Layout {
    /// Opens a layout that is there.
    pub fn open(root: &Path) -> Result<Self, LayoutError> {
        let why =
            |why: &str| LayoutError::NotALayout { path: root.to_owned(), why: why.to_owned() };
        let marker =
            fs::read(root.join("oci-layout")).map_err(|_| why("it has no file `oci-layout`"))?;
        let marker: Value =
            serde_json::from_slice(&marker).map_err(|_| why("`oci-layout` is not JSON"))?;
        if marker["imageLayoutVersion"] != "1.0.0" {
            return Err(why("`oci-layout` is of another version than 1.0.0"));
        }
        if !root.join("index.json").is_file() {
            return Err(why("it has no file `index.json`"));
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Everything that index.json names by a tag.
    pub fn tagged(&self) -> Result<Vec<Tagged>, LayoutError> {
        let entries = self.entries()?.into_iter();
        Ok(entries
            .filter_map(|entry| Some(Tagged { tag: entry.tag()?.to_owned(), entry }))
            .collect())
    }

    /// What a tag names; without one, the only tag that there is.
    pub fn only(&self, tag: Option<&str>) -> Result<Tagged, LayoutError> {
        let path = || self.root.clone();
        let mut tagged = self.tagged()?;
        if let Some(tag) = tag {
            let found = tagged.into_iter().find(|it| it.tag == tag);
            return found.ok_or_else(|| LayoutError::NoTag { path: path(), tag: tag.to_owned() });
        }
        match (tagged.pop(), tagged.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => Err(LayoutError::NotALayout {
                path: path(),
                why: "index.json names no image by a tag".to_owned(),
            }),
            (Some(last), _) => {
                let tags = tagged.into_iter().chain([last]).map(|it| it.tag).collect();
                Err(LayoutError::SeveralTags { path: path(), tags })
            }
        }
    }

    /// What index.json names without a tag: things that belong to others.
    pub fn untagged(&self) -> Result<Vec<IndexEntry>, LayoutError> {
        Ok(self.entries()?.into_iter().filter(IndexEntry::is_untagged).collect())
    }

    /// All entries of index.json; none when there is no such file yet.
    pub(super) fn entries(&self) -> Result<Vec<IndexEntry>, LayoutError> {
        let path = self.root.join("index.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(LayoutError::io("read", &path)(error)),
        };
        let not_a_layout = |why: String| LayoutError::NotALayout { path: self.root.clone(), why };
        let index: Value = serde_json::from_slice(&bytes)
            .map_err(|error| not_a_layout(format!("index.json: {error}")))?;
        let manifests = index["manifests"].as_array().cloned();
        let manifests =
            manifests.ok_or_else(|| not_a_layout("index.json has no `manifests`".to_owned()))?;
        Ok(manifests.into_iter().map(IndexEntry).collect())
    }

    /// A document by its digest, hashed before it is returned.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>, LayoutError> {
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(LayoutError::io("open", &path))?;
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(LayoutError::io("read", &path))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(LayoutError::WrongBlob { digest: *digest, actual });
        }
        Ok(bytes)
    }
}
