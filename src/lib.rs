//! etcdimg builds, tests and releases the etcd image that can move its own data.
//!
//! ARCHITECTURE.md has the picture and the order in which to read the modules.

pub mod archive;
pub mod assemble;
pub mod base;
pub mod catalog;
pub mod cli;
pub mod commands;
pub mod compile;
pub mod copy;
pub mod documents;
pub mod failure;
pub mod image;
pub mod layer;
pub mod lookup;
pub mod plan;
pub mod program;
pub mod push;
mod replace;
pub mod ui;
pub mod verify;

// Where everything inside looks for them.
pub use oci::{digest, layout, platform};
pub use {
    ::acceptance, ::docker, ::fetch, ::process, ::registry, ::store, kube_manifests as manifests,
};
