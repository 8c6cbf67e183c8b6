//! Why the documents of an image cannot be used.

use crate::digest::Digest;
use crate::layout::LayoutError;
use crate::registry::RegistryError;

/// Why the documents of an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("the document {digest} cannot be used: {why}")]
    Invalid { digest: Digest, why: String },
    #[error("the descriptor of a document cannot be used: {0}")]
    Descriptor(String),
    #[error("the layout does not contain the blob {0}")]
    MissingBlob(Digest),
    #[error("{0} does not exist")]
    NotFound(String),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
}
