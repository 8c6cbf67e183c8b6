//! What the OCI specifications define and etcdimg uses: digests, platforms, documents (index,
//! manifest, config), references, and the image layout on disk.
//!
//! Not responsible for: the network (`registry`), or what an image contains.

pub mod digest;
pub mod docker_archive;
pub mod document;
pub mod json;
pub mod layout;
pub mod media_type;
pub mod platform;
pub mod reference;

pub use digest::Digest;
pub use document::{Descriptor, Document, ImageConfig, Index, Manifest};
pub use layout::{Layout, LayoutError};
pub use platform::Platform;
pub use reference::{PinnedReference, Reference, Repository};
