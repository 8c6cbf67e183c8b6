//! Layers: deterministic tar, compressed and hashed in one streaming pass.
//!
//! Not responsible for: what goes into a layer (the plan's), or where its bytes come from.

mod deflate;
pub mod format;
mod gzip;
mod ustar;
pub mod windows;
mod writer;

pub use deflate::{LastBlock, last_block};
pub use gzip::GzipWriter;
pub use ustar::HeaderError;
pub use writer::{Dialect, Layer, LayerError, LayerWriter, NONDISTRIBUTABLE_TYPE};
