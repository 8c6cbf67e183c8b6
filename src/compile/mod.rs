//! Compiles programs from source, with the Go and Rust of this machine or with those of a builder
//! image, and keeps them in the store under the digest of everything that decides their bytes.
//! The builder is not part of that digest: both make the same bytes.
//!
//! Read it in this order: a [`recipe::Recipe`] says what is called and which file comes out; `go`
//! and `rust` write recipes for etcd and for `migrate`; `host` and `buildx` execute them.
//!
//! Not responsible for checking that the result is what the plan says: `program` does that.

mod buildx;
mod error;
mod go;
mod host;
mod options;
mod recipe;
mod rust;
mod scratch;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use buildx::ProgressLog;
pub use error::CompileError;
pub use go::{compile_etcd, download_modules, go_host, toolchain_sum};
pub use options::{
    Builder, BuildxOptions, COMPILER_VARIABLES, CompileOptions, DOCKER_VARIABLES, Network,
};
pub use rust::{compile_migrate, download_crates};

use crate::catalog::Lock;
use crate::digest::Digest;
use crate::store::Store;
use crate::ui::Ui;

/// A program in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    /// `etcd`, `etcdctl`, `etcdutl` or `migrate`.
    pub name: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// What compiling needs, whatever is compiled.
#[derive(Clone, Copy, Debug)]
pub struct CompileContext<'a> {
    pub store: &'a Store,
    pub options: &'a CompileOptions,
    /// Has the sums of the Go toolchains.
    pub lock: &'a Lock,
    pub ui: &'a Ui,
}
