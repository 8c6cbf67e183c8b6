//! Which compilers are used and what they may use of the environment: read once, at the edge.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::error::CompileError;
use crate::process::{self, ProcessError};

/// Which compilers are used, where they keep their files and what they may use.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// The repository: `sources/` and `crates/` are below it.
    pub root: PathBuf,
    /// The cache: build folders and caches of the compilers are below it.
    pub work: PathBuf,
    /// `PATH`, `HOME`, proxies and the like: what a compiler needs to find tools and modules,
    /// and nothing that decides bytes.
    pub environment: BTreeMap<String, OsString>,
    /// Whether compilers may download modules.
    pub network: Network,
    /// How many jobs each compiler may run.
    pub jobs: usize,
    /// How many compilers may run at once, if the user said so with `--jobs`.
    pub at_once: Option<usize>,
    pub builder: Builder,
}

/// Whether a compiler may use the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Allowed,
    Forbidden,
}

/// What runs the compilers.
#[derive(Clone, Debug, Default)]
pub enum Builder {
    /// The toolchains of this machine.
    #[default]
    Host,
    Buildx(BuildxOptions),
    /// buildx if it is usable, else the host. This is found out when something has to be
    /// compiled, and remembered.
    Auto(BuildxOptions, Arc<OnceLock<bool>>),
}

/// How `docker buildx build` is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildxOptions {
    /// The image with the compilers: `golang:1.26-bookworm@sha256:…`.
    pub image: String,
    /// The name of the builder; `None` is the one that `docker buildx use` chose.
    pub name: Option<String>,
    pub cache_to: Vec<String>,
    pub cache_from: Vec<String>,
    /// What Docker's client reads of the environment.
    pub environment: BTreeMap<String, OsString>,
}

impl BuildxOptions {
    /// Whether the builder's compilers do not share cores with other compilers of this build: a
    /// builder with a name may be on other machines, while the engine's own builder is here.
    pub(super) fn has_own_cores(&self) -> bool {
        self.name.is_some()
    }
}

/// Environment variables that are passed on to a compiler.
pub const COMPILER_VARIABLES: &[&str] = &[
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

/// Environment variables that are passed on to Docker's client, beside those of a compiler.
pub const DOCKER_VARIABLES: &[&str] = &[
    "BUILDX_BUILDER",
    "BUILDX_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
];

impl CompileOptions {
    /// The path of a program on `PATH`.
    pub(super) fn find(&self, tool: &str) -> Result<PathBuf, CompileError> {
        let path = self.environment.get("PATH").cloned().unwrap_or_default();
        process::find(tool, &path).ok_or(CompileError::NoTool { tool: tool.to_owned() })
    }

    /// Turns the end of a compiler into an error. A compiler that was not allowed to download
    /// something is reported as [`CompileError::Offline`].
    pub(super) fn failed(
        &self,
        what: impl Into<String>,
    ) -> impl FnOnce(ProcessError) -> CompileError {
        // What Go and cargo print when they may not download.
        const OFFLINE: [&str; 3] =
            ["disabled by GOPROXY=off", "toolchain not available", "--offline"];
        let is_offline = self.network == Network::Forbidden;
        let what = what.into();
        move |source| {
            if is_offline && OFFLINE.iter().any(|words| source.tail().contains(words)) {
                CompileError::Offline { what, source: Box::new(source) }
            } else {
                CompileError::Process { what, source }
            }
        }
    }
}
