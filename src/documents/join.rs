//! One index of several that were built apart. Pure.

use oci::document::Index;
use oci::json::canonical;

use super::tree::Parsed;
use super::{DocumentError, DocumentTree};
use crate::registry::RawDocument;

impl DocumentTree {
    /// The index that a single build of all platforms would have made.
    pub fn join(parts: Vec<Self>) -> Result<Self, DocumentError> {
        let mut parts = parts.into_iter();
        let first = parts
            .next()
            .ok_or_else(|| DocumentError::Descriptor("there is no layout".to_owned()))?;
        parts.try_fold(first, Self::join_two)
    }

    fn join_two(self, other: Self) -> Result<Self, DocumentError> {
        let (mut index, more) = (self.index()?.clone(), other.index()?.clone());
        let differs = |why: &str| Err(other.invalid(why));
        if index.annotations != more.annotations {
            return differs("it is of another build than the others: its annotations differ");
        }
        for child in more.manifests {
            match index.manifests.iter().find(|it| it.platform == child.platform) {
                Some(twin) if *twin != child => {
                    return differs("another layout has another image for the same platform");
                }
                Some(_) => {}
                None => index.manifests.push(child),
            }
        }
        // As `image::index` does it.
        index.sort_by_platform();
        let bytes = canonical(&serde_json::to_value(&index).unwrap_or_default());
        let (mut indexes, mut images) = (self.indexes, self.images);
        indexes.extend(other.indexes);
        for image in other.images {
            if !images.contains(&image) {
                images.push(image);
            }
        }
        let root = RawDocument::new(&*self.root.media_type, bytes);
        Ok(Self { root, parsed_root: Parsed::Index(Box::new(index)), indexes, images })
    }

    fn index(&self) -> Result<&Index, DocumentError> {
        match &self.parsed_root {
            Parsed::Index(index) => Ok(index),
            Parsed::Manifest(_) => {
                Err(self.invalid("it is no index, and only those can be joined"))
            }
        }
    }

    fn invalid(&self, why: &str) -> DocumentError {
        DocumentError::Invalid { digest: self.root.digest, why: why.to_owned() }
    }
}
