//! An index or a manifest with everything below it.

use std::collections::BTreeSet;

use oci::document::{Annotations, Descriptor, Index, Manifest};
use oci::media_type::is_index;
use serde_json::Value;

use super::{DocumentError, ListedImage};
use crate::digest::Digest;
use crate::layout::{IndexEntry, Layout};
use crate::registry::RawDocument;

/// How deep indexes may be nested: a hostile layout may do it for ever.
const MOST_DEPTH: usize = 3;

/// An index or a manifest with everything that it names, each document parsed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentTree {
    /// The index, or the manifest of a single image.
    pub root: RawDocument,
    pub(super) parsed_root: Parsed,
    /// Indexes below the root, usually none, each before the one that names it.
    pub indexes: Vec<RawDocument>,
    pub images: Vec<ListedImage>,
}

/// A document, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Index(Box<Index>),
    Manifest(Box<Manifest>),
}

impl DocumentTree {
    /// Reads what an entry of index.json names.
    pub fn read_entry(layout: &Layout, entry: &IndexEntry) -> Result<Self, DocumentError> {
        let unreadable = |error: serde_json::Error| DocumentError::Descriptor(error.to_string());
        Self::read(layout, &entry.descriptor().map_err(unreadable)?)
    }

    /// Reads what a descriptor of a layout names.
    pub fn read(layout: &Layout, root: &Descriptor) -> Result<Self, DocumentError> {
        let get = |descriptor: &Descriptor| {
            let bytes = layout.document(&descriptor.digest)?;
            Ok::<_, DocumentError>(RawDocument::new(&*descriptor.media_type, bytes))
        };
        let mut reader = DocumentTreeReader::default();
        reader.add(root, get(root)?)?;
        while let Some(descriptor) = reader.next() {
            reader.add(&descriptor, get(&descriptor)?)?;
        }
        reader.finish()
    }

    /// All documents: the root, the indexes below it, and the manifests of the images. The root of
    /// a single image comes twice.
    pub fn documents(&self) -> impl Iterator<Item = &RawDocument> {
        let manifests = self.images.iter().map(|image| &image.manifest);
        std::iter::once(&self.root).chain(&self.indexes).chain(manifests)
    }

    /// The document that this one refers to, as a signature refers to an image.
    pub fn subject(&self) -> Option<Digest> {
        match &self.parsed_root {
            Parsed::Manifest(manifest) => Some(manifest.subject.as_ref()?.digest),
            Parsed::Index(index) => index.other.get("subject")?["digest"].as_str()?.parse().ok(),
        }
    }

    /// How a list of referrers names this document (distribution-spec, "Listing Referrers").
    pub fn referrer_descriptor(&self) -> Descriptor {
        let RawDocument { media_type, digest, bytes } = &self.root;
        let mut descriptor = Descriptor::new(&**media_type, *digest, bytes.len() as u64);
        let (annotations, other, config) = match &self.parsed_root {
            Parsed::Index(index) => (&index.annotations, &index.other, None),
            Parsed::Manifest(manifest) => {
                let config = Value::from(manifest.config.media_type.as_str());
                (&manifest.annotations, &manifest.other, Some(config))
            }
        };
        descriptor.annotations = annotations.as_ref().map_or_else(Annotations::new, Clone::clone);
        let artifact_type = other.get("artifactType").cloned().or(config);
        let named = artifact_type.map(|artifact_type| ("artifactType".to_owned(), artifact_type));
        descriptor.other.extend(named);
        descriptor
    }
}

/// Reads from a root down to its images. The caller gets each document that is asked for, from
/// wherever it is.
#[derive(Default)]
pub(super) struct DocumentTreeReader {
    /// The next step is the last one.
    steps: Vec<ReadStep>,
    seen: BTreeSet<Digest>,
    depth: usize,
    root: Option<(RawDocument, Parsed)>,
    indexes: Vec<RawDocument>,
    images: Vec<ListedImage>,
}

enum ReadStep {
    Enter(Box<Descriptor>),
    /// Everything below this index has been added.
    Leave(RawDocument),
}

impl DocumentTreeReader {
    /// The next document to add; each comes once.
    pub(super) fn next(&mut self) -> Option<Descriptor> {
        loop {
            match self.steps.pop()? {
                ReadStep::Enter(descriptor) if self.seen.insert(descriptor.digest) => {
                    return Some(*descriptor);
                }
                ReadStep::Enter(_) => {}
                ReadStep::Leave(index) => {
                    self.depth -= 1;
                    self.indexes.push(index);
                }
            }
        }
    }

    /// Adds the document that a descriptor names; the root comes first.
    pub(super) fn add(
        &mut self,
        descriptor: &Descriptor,
        document: RawDocument,
    ) -> Result<(), DocumentError> {
        let digest = descriptor.digest;
        let invalid = |why: String| DocumentError::Invalid { digest, why };
        self.seen.insert(digest);
        if document.digest != digest {
            return Err(invalid("its content does not match its digest".to_owned()));
        }
        let unreadable = |error: serde_json::Error| invalid(error.to_string());
        if !is_index(&document.media_type) {
            let manifest: Manifest = serde_json::from_slice(&document.bytes).map_err(unreadable)?;
            self.images.push(ListedImage::new(descriptor, document.clone(), &manifest));
            self.root.get_or_insert((document, Parsed::Manifest(Box::new(manifest))));
            return Ok(());
        }
        if self.depth > MOST_DEPTH {
            return Err(invalid("it is nested too deep".to_owned()));
        }
        let index: Index = serde_json::from_slice(&document.bytes).map_err(unreadable)?;
        self.depth += 1;
        self.steps.push(ReadStep::Leave(document.clone()));
        let children = index.manifests.iter().rev().cloned();
        self.steps.extend(children.map(|child| ReadStep::Enter(Box::new(child))));
        self.root.get_or_insert((document, Parsed::Index(Box::new(index))));
        Ok(())
    }

    pub(super) fn finish(self) -> Result<DocumentTree, DocumentError> {
        let nothing = || DocumentError::Descriptor("there is none".to_owned());
        let (root, parsed_root) = self.root.ok_or_else(nothing)?;
        let mut indexes = self.indexes;
        // The root itself is not below the root.
        indexes.retain(|index| index.digest != root.digest);
        Ok(DocumentTree { root, parsed_root, indexes, images: self.images })
    }
}

#[cfg(test)]
impl DocumentTree {
    /// An index that is not parsed, for tests of what is above.
    pub(crate) fn of_images(root: RawDocument, images: Vec<ListedImage>) -> Self {
        let parsed_root = Parsed::Index(Box::new(Index {
            schema_version: 2,
            media_type: None,
            manifests: Vec::new(),
            annotations: None,
            other: serde_json::Map::new(),
        }));
        Self { root, parsed_root, indexes: Vec::new(), images }
    }
}
