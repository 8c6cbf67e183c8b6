//! Why a push was not begun, or not finished.

use crate::digest::Digest;
use crate::documents::DocumentError;
use crate::layout::LayoutError;
use crate::registry::RegistryError;

/// Why a push was not begun, or not finished. No tag has moved, unless the error says so.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error(
        "{repository} has another image tagged {tag}\n  expected {expected}\n  received {received}"
    )]
    Taken {
        repository: Box<str>,
        tag: Box<str>,
        expected: Digest,
        received: Digest,
        /// The tag that the next revision of the same etcd would have.
        next: Option<Box<str>>,
    },
    #[error("the layout has no image for {0}")]
    NoPlatform(String),
    #[error("`{0}` is not a tag")]
    Tag(String),
    #[error("only these tags are set: {done}")]
    PartlyTagged { done: String, source: Box<PushError> },
    #[error("cannot determine whether tag {tag} was updated")]
    TagUnknown { tag: String, source: Box<PushError> },
    #[error(transparent)]
    Documents(#[from] DocumentError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
}
