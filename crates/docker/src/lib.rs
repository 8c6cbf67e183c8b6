//! The Docker engine: connecting to it, and loading an image into it.

mod engine;

pub use engine::{EngineError, connect, load};
pub use oci::docker_archive::{ArchiveSource, write_archive};
