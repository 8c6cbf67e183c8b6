//! etcdimg builds, tests and releases the etcd image that can move its own data.
//!
//! ARCHITECTURE.md has the picture and the order in which to read the modules.

pub mod archive;
mod assemble;
mod base;
pub mod catalog;
pub mod cli;
pub mod commands;
pub mod compile;
mod copy;
pub mod documents;
mod failure;
pub mod image;
pub mod layer;
mod lookup;
mod package;
mod plan;
pub mod program;
pub mod push;
mod replace;
pub mod ui;
mod verify;

// Where everything inside looks for them.
pub use ::{acceptance, fetch, registry, store};
use ::{docker, process};
pub use kube_manifests as manifests;
use oci::platform;
pub use oci::{digest, layout};
