//! Why a program could not be compiled.

use std::io;
use std::path::{Path, PathBuf};

use crate::process::ProcessError;
use crate::store::StoreError;

/// Why a program could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A compiler, or something that a compiler needs, ended with an error.
    #[error("cannot compile {what}")]
    Process { what: String, source: ProcessError },
    /// A compiler lacks something that it may not download.
    #[error("{what}: an input is not in the cache, and --offline is set")]
    Offline { what: String, source: Box<ProcessError> },
    /// buildx always downloads what it compiles.
    #[error("{what}: buildx downloads its inputs, and --offline is set")]
    OfflineBuildx { what: String },
    #[error("{what} was compiled, but there is no program")]
    NoOutput { what: String },
    /// Nobody knows which of the sources are in the program.
    #[error("the sources of {what} changed while it was compiled")]
    SourcesChanged { what: &'static str },
    #[error("cannot find the program `{tool}` on PATH")]
    NoTool { tool: String },
    /// The release of Rust decides the bytes of `migrate`.
    #[error(
        "migrate must be compiled with the Rust release of versions.yaml\n  expected {expected}\n  received {received}"
    )]
    WrongRust { expected: String, received: String },
    #[error(
        "cannot compile migrate for {triple}: this machine has neither Rust's standard library for it nor the parts to compile that library"
    )]
    NoCross { triple: String, rust: String, zig: String },
    #[error(
        "the Go module sources/{version} is not the locked one: {file} differs\n  expected {expected}\n  received {received}"
    )]
    WrongModule { version: String, file: &'static str, expected: String, received: String },
    #[error(
        "the downloaded Go toolchain {go} is not the locked one\n  expected {expected}\n  received {received}"
    )]
    WrongToolchain { go: String, expected: String, received: String },
    #[error("etcdimg.lock has no Go toolchain {go} for {host}")]
    NoToolchain { go: String, host: String },
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CompileError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn process(what: impl Into<String>) -> impl FnOnce(ProcessError) -> Self {
        let what = what.into();
        move |source| Self::Process { what, source }
    }
}
