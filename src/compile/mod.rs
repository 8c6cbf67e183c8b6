//! Makes programs from source, with the machine's own Go and Rust or with those of a builder
//! image, and keeps them in the store by the digest of everything that decides their bytes: the
//! builder is not part of it.
//!
//! Not responsible for: whether the result is what the plan says; `program` looks.

mod buildx;
mod cross;
mod go;
mod rust;
mod tool;

use serde::{Deserialize, Serialize};

pub use buildx::{Builder, Buildx, DOCKER_PASSED_ON};
pub use go::{compile_etcd, download_modules, host, toolchain_sum};
pub use rust::{compile_migrate, download_crates};
pub use tool::{CompileError, Network, PASSED_ON, Toolchains};

use crate::digest::Digest;

/// A program in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    pub name: String,
    pub digest: Digest,
    pub size: u64,
}
