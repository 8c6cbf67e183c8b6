//! The grammar of etcd versions and of the image's tags, and what differs between versions
//! (`etcd-versions.json`).
//!
//! Shared by `etcdimg` (which writes the list of bundled versions into the image) and `migrate`
//! (which reads it), so that both mean the same thing by `3.6.14`.
//! Not responsible for: deciding which versions may be bundled or which upgrades are allowed.

mod bundled;
pub mod facts;
mod tag;
mod version;

pub use bundled::{BUNDLED_PATH, Bundled};
pub use facts::{
    ALL_PROGRAMS, Facts, go_package, programs_of, release_linker_flags, supports_architecture,
};
pub use tag::ImageTag;
pub use version::{EtcdVersion, ParseError, Series};
