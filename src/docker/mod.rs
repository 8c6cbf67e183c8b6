//! Docker's own archive, and loading it into an engine.
//!
//! The archive is both at once: an OCI image layout for new engines, and `manifest.json` for
//! those that know nothing else. Only one platform fits into it.

mod archive;
mod engine;

pub use archive::{ArchiveSource, write_archive};
pub use engine::{EngineError, connect, load};
