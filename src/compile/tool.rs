use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::process::ProcessError;
use crate::store::{Store, StoreError};

use super::Compiled;
use super::buildx::Builder;

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("cannot compile {what}")]
    Process { what: String, source: ProcessError },
    #[error("{what}: something is not in the cache, and --offline forbids to fetch it")]
    Offline { what: String, source: Box<ProcessError> },
    #[error("{what}: buildx fetches what it compiles, and --offline forbids that")]
    OfflineBuildx { what: String },
    #[error("{tool} is not on this machine")]
    NoTool { tool: String },
    #[error(
        "migrate is compiled with Rust {expected}, which decides its bytes\n  expected {expected}\n  received {received}"
    )]
    WrongRust { expected: String, received: String },
    #[error(
        "migrate cannot be compiled for {triple}: this machine has neither Rust's standard library for it nor the means to make it"
    )]
    NoCross { triple: String, rust: String, zig: String },
    #[error(
        "the module of etcd {version} below sources/ is not the locked one: {file}\n  expected {expected}\n  received {received}"
    )]
    WrongModule { version: String, file: &'static str, expected: String, received: String },
    #[error(
        "the Go toolchain {go} is not the locked one\n  expected {expected}\n  received {received}"
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
}

/// Where the compilers are and what they may use of the environment, read once at the edge.
#[derive(Clone, Debug)]
pub struct Toolchains {
    /// The repository: `sources/` and the crates are below.
    pub root: PathBuf,
    /// Build folders and caches of the compilers.
    pub work: PathBuf,
    /// `PATH`, `HOME`, proxies and the like: what a compiler needs to find tools and modules,
    /// and nothing that decides bytes.
    pub environment: BTreeMap<String, OsString>,
    /// Whether compilers may ask the network for modules.
    pub network: Network,
    /// How many jobs each compiler may run.
    pub jobs: usize,
    /// How many compilers may run at once, where a person said so.
    pub at_once: Option<usize>,
    /// Whose compilers they are.
    pub builder: Builder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Allowed,
    Forbidden,
}

/// Names of the environment that reach a compiler.
pub const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "GOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "GOPRIVATE",
    "GONOPROXY",
    "GOINSECURE",
    "GOAUTH",
    "NETRC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

impl Toolchains {
    /// Why a compiler failed: offline, what it lacks is not its fault.
    pub(super) fn failed(&self, what: String) -> impl FnOnce(ProcessError) -> CompileError {
        const LACKS: [&str; 3] =
            ["disabled by GOPROXY=off", "toolchain not available", "--offline"];
        let is_offline = self.network == Network::Forbidden;
        move |source| {
            if is_offline && LACKS.iter().any(|words| source.tail().contains(words)) {
                CompileError::Offline { what, source: Box::new(source) }
            } else {
                CompileError::Process { what, source }
            }
        }
    }

    /// A program on `PATH`.
    pub(super) fn find(&self, tool: &str) -> Result<PathBuf, CompileError> {
        let path = self.environment.get("PATH").cloned().unwrap_or_default();
        let candidates = std::env::split_paths(&path).map(|folder| folder.join(tool));
        candidates
            .into_iter()
            .find(|candidate| candidate.is_file())
            .ok_or(CompileError::NoTool { tool: tool.to_owned() })
    }

    /// A folder for one compile's output, empty and removed afterwards.
    pub(super) fn scratch(&self) -> Result<Scratch, CompileError> {
        let folder = self.work.join("compile");
        fs::create_dir_all(&folder).map_err(CompileError::io(&folder))?;
        let folder = tempfile::tempdir_in(&folder).map_err(CompileError::io(&folder))?;
        let lock = File::open(folder.path()).map_err(CompileError::io(folder.path()))?;
        lock.lock().map_err(CompileError::io(folder.path()))?;
        Ok(Scratch { folder, _lock: lock })
    }

    pub(super) fn log(&self, name: &str) -> Result<PathBuf, CompileError> {
        let folder = self.work.join("logs");
        fs::create_dir_all(&folder).map_err(CompileError::io(&folder))?;
        Ok(folder.join(format!("{name}.log")))
    }
}

/// The folder of one compile. Its lock tells `cache gc` that somebody still works there.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Brings a compiled file into the store.
pub(super) fn keep(store: &Store, name: &str, path: &Path) -> Result<Compiled, CompileError> {
    let mut file = File::open(path).map_err(CompileError::io(path))?;
    let mut writer = store.writer()?;
    io::copy(&mut file, &mut writer).map_err(CompileError::io(path))?;
    let (digest, size) = writer.commit()?;
    Ok(Compiled { name: name.to_owned(), digest, size })
}
