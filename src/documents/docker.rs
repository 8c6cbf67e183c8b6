//! The same image in Docker's own media types, for clients and registries that know no others
//! (distribution, "Image Manifest Version 2, Schema 2"). Pure.

use std::collections::BTreeMap;

use oci::document::{Descriptor, Index, Manifest};
use oci::json::canonical;
use oci::media_type::{
    DOCKER_CONFIG, DOCKER_FOREIGN_LAYER, DOCKER_LAYER, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST,
};
use serde::Serialize;
use serde_json::Map;

use super::tree::Parsed;
use super::{BlobDescriptor, DocumentError, DocumentTree, ListedImage};
use crate::digest::Digest;
use crate::registry::RawDocument;

impl DocumentTree {
    /// The blobs stay what they are; the documents change, and so do their digests. Annotations
    /// are lost, because Docker's types have none.
    pub fn in_docker_types(&self) -> Result<Self, DocumentError> {
        if !self.indexes.is_empty() {
            let why = "Docker has no index of indexes".to_owned();
            return Err(DocumentError::Invalid { digest: self.root.digest, why });
        }
        let mut images = Vec::new();
        let mut converted = BTreeMap::new();
        for image in &self.images {
            let manifest = manifest(image)?;
            let document = RawDocument::new(DOCKER_MANIFEST, bytes(&manifest));
            let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
            let blobs = blobs.map(Into::into).collect();
            images.push(ListedImage { manifest: document.clone(), blobs, ..image.clone() });
            converted.insert(image.manifest.digest, (document, manifest));
        }
        let (root, parsed_root) = match &self.parsed_root {
            Parsed::Index(index) => self.list(index, &converted)?,
            Parsed::Manifest(_) => {
                let (document, manifest) = self.find(&converted, &self.root.digest)?;
                (document.clone(), Parsed::Manifest(Box::new(manifest.clone())))
            }
        };
        Ok(Self { root, parsed_root, indexes: Vec::new(), images })
    }

    fn list(
        &self,
        index: &Index,
        converted: &BTreeMap<Digest, (RawDocument, Manifest)>,
    ) -> Result<(RawDocument, Parsed), DocumentError> {
        let mut manifests = Vec::new();
        for child in &index.manifests {
            let (document, _) = self.find(converted, &child.digest)?;
            let size = document.bytes.len() as u64;
            let descriptor = Descriptor::new(DOCKER_MANIFEST, document.digest, size);
            manifests.push(Descriptor { platform: child.platform.clone(), ..descriptor });
        }
        let list = Index {
            schema_version: 2,
            media_type: Some(DOCKER_MANIFEST_LIST.to_owned()),
            manifests,
            annotations: None,
            other: Map::new(),
        };
        Ok((RawDocument::new(DOCKER_MANIFEST_LIST, bytes(&list)), Parsed::Index(Box::new(list))))
    }

    fn find<'a>(
        &self,
        converted: &'a BTreeMap<Digest, (RawDocument, Manifest)>,
        digest: &Digest,
    ) -> Result<&'a (RawDocument, Manifest), DocumentError> {
        let why = "it names an image that is not there".to_owned();
        converted.get(digest).ok_or(DocumentError::Invalid { digest: self.root.digest, why })
    }
}

fn manifest(image: &ListedImage) -> Result<Manifest, DocumentError> {
    let invalid = |why: String| DocumentError::Invalid { digest: image.manifest.digest, why };
    let (config, layers) =
        image.blobs.split_first().ok_or_else(|| invalid("it names no config".to_owned()))?;
    let layer = |blob: &BlobDescriptor| {
        if !blob.media_type.ends_with("gzip") {
            return Err(invalid(format!("Docker has no media type for {}", blob.media_type)));
        }
        let media_type = if blob.is_foreign() { DOCKER_FOREIGN_LAYER } else { DOCKER_LAYER };
        let descriptor = Descriptor::new(media_type, blob.digest, blob.size);
        // The URLs of a foreign layer are the only place where it is.
        let urls = if blob.is_foreign() { blob.urls.clone() } else { Vec::new() };
        Ok(Descriptor { urls, ..descriptor })
    };
    Ok(Manifest {
        schema_version: 2,
        media_type: Some(DOCKER_MANIFEST.to_owned()),
        config: Descriptor::new(DOCKER_CONFIG, config.digest, config.size),
        layers: layers.iter().map(layer).collect::<Result<_, _>>()?,
        subject: None,
        annotations: None,
        other: Map::new(),
    })
}

fn bytes(document: &impl Serialize) -> Vec<u8> {
    canonical(&serde_json::to_value(document).unwrap_or_default())
}
