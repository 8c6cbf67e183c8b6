//! Finds the documents of one platform in a layout, and says why there are none.

use std::io;

use oci::layout::{Layout, LayoutError, Tagged};
use oci::platform::Platform;
use oci::{Descriptor, Index, media_type};

/// Why an image cannot be tested at all.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("`{tag}` has no image for {platform}, only for {}", others.join(", "))]
    NoPlatform { tag: String, platform: String, others: Vec<String> },
    #[error("a document of `{tag}` cannot be read")]
    Document { tag: String, source: serde_json::Error },
    #[error("{name} of `{tag}` cannot be read")]
    Layer { tag: String, name: String, source: io::Error },
    #[error("`{tag}` does not say which versions of etcd it bundles: {why}")]
    Bundled { tag: String, why: String },
}

/// The document that a tag names, and the parsed index if it is one.
pub(super) fn tagged_document(
    layout: &Layout,
    tagged: &Tagged,
) -> Result<(Vec<u8>, Option<Index>), ImageError> {
    let unreadable = |source| ImageError::Document { tag: tagged.tag.clone(), source };
    let descriptor = tagged.entry.descriptor().map_err(unreadable)?;
    let bytes = layout.document(&descriptor.digest)?;
    let is_index = descriptor.media_type == media_type::INDEX;
    let index = is_index.then(|| serde_json::from_slice(&bytes)).transpose();
    Ok((bytes, index.map_err(unreadable)?))
}

pub(super) fn child(tag: &str, index: &Index, wanted: &Platform) -> Result<Descriptor, ImageError> {
    let known = |it: &Descriptor| {
        let platform = it.platform.as_ref()?;
        let parts = [Some(&platform.os), Some(&platform.architecture), platform.variant.as_ref()];
        let parts = parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
        let text = parts.join("/");
        text.parse::<Platform>().ok()
    };
    let found = index.manifests.iter().find(|it| known(it).as_ref() == Some(wanted));
    found.cloned().ok_or_else(|| ImageError::NoPlatform {
        tag: tag.to_owned(),
        platform: wanted.to_string(),
        others: index.manifests.iter().filter_map(known).map(|it| it.to_string()).collect(),
    })
}
