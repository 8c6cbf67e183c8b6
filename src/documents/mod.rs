//! The documents of an image (indexes and manifests), and the blobs that they name: read from an
//! OCI image layout or from a registry, joined, or written in Docker's media types.
//!
//! Not responsible for: requests to registries (`registry`), or where an image is to go (`push`).

mod docker;
mod error;
mod image;
mod join;
mod pull;
mod tree;

pub use error::DocumentError;
pub use image::{BlobDescriptor, ListedImage, WindowsBase};
pub use tree::DocumentTree;
