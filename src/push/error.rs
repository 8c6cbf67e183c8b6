use crate::digest::Digest;
use crate::layout::LayoutError;
use crate::registry::RemoteError;

/// Why a push was not begun, or not finished. No tag has moved, but where it says so.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("{repository} has another image tagged {tag}\n  expected {ours}\n  received {known}")]
    Taken {
        repository: Box<str>,
        tag: Box<str>,
        ours: Digest,
        known: Digest,
        /// The tag that the next revision of the same etcd would have.
        next: Option<Box<str>>,
    },
    #[error("the layout has no image for {0}")]
    NoPlatform(String),
    #[error("`{0}` is not a tag")]
    Tag(String),
    #[error("the document {digest} cannot be pushed: {why}")]
    Document { digest: Digest, why: String },
    #[error("the layout lacks the blob {0}")]
    Lacks(Digest),
    #[error("{0} is not there")]
    Nothing(String),
    #[error("only these tags are set: {done}")]
    Partly { done: String, source: Box<PushError> },
    #[error("nobody knows whether the tag {tag} is set")]
    Unsure { tag: String, source: Box<PushError> },
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
}
