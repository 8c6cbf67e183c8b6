//! How large the parts of an image are.

use std::collections::BTreeMap;

use contract::labels::LAYER as LAYER_LABEL;
use oci::{Layout, Manifest, Platform};

use super::lookup::{ImageError, child, tagged_document};

/// How large the parts of an image are, compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub tag: String,
    pub total_bytes: u64,
    /// By the name of the part: the base, each minor of etcd, migrate.
    pub parts: BTreeMap<String, u64>,
}

impl Sizes {
    /// The sizes of a platform's image. Reads only documents, no layers.
    pub fn open(
        layout: &Layout,
        tag: Option<&str>,
        platform: &Platform,
    ) -> Result<Self, ImageError> {
        let tagged = layout.only(tag)?;
        let (mut bytes, index) = tagged_document(layout, &tagged)?;
        if let Some(index) = index {
            bytes = layout.document(&child(&tagged.tag, &index, platform)?.digest)?;
        }
        let manifest = serde_json::from_slice(&bytes)
            .map_err(|source| ImageError::Document { tag: tagged.tag.clone(), source })?;
        Ok(Self::of(tagged.tag, &manifest))
    }

    pub fn of(tag: String, manifest: &Manifest) -> Self {
        let mut parts = BTreeMap::new();
        for layer in &manifest.layers {
            let name = layer.annotations.get(LAYER_LABEL);
            *parts.entry(part(name.map_or("base", String::as_str))).or_default() += layer.size;
        }
        Self { tag, total_bytes: parts.values().sum(), parts }
    }
}

/// `etcd 3.6.14` and `etcd 3.6.15` are the same part.
fn part(layer: &str) -> String {
    match layer.rsplit_once('.') {
        Some((series, _)) if layer.starts_with("etcd ") => series.to_owned(),
        _ => layer.to_owned(),
    }
}
