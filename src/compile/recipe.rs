//! What a compile does. It is the same on this machine (`host`) and in a builder image (`buildx`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::options::{BuildxOptions, CompileOptions, Network};
use crate::process::Invocation;

/// How one program is compiled.
#[derive(Debug)]
pub(super) struct Recipe {
    /// The program's name in the store: `etcd`, `migrate`.
    pub program: &'static str,
    /// For people: `etcd 3.7.1 for linux/arm64`.
    pub what: String,
    /// The name of the log, without folder and extension. A builder has one log for all recipes.
    pub log: String,
    /// Compilers with all of their arguments and their environment; run one after the other.
    pub calls: Vec<Invocation>,
    /// The file that the calls leave behind: the program.
    pub output: PathBuf,
}

/// Where compilers run: folders and limits of this machine or of a builder.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The repository.
    pub root: PathBuf,
    /// Caches and build folders of the compilers.
    pub work: PathBuf,
    /// Environment variables that a compiler inherits; they decide no bytes.
    pub inherited: BTreeMap<String, OsString>,
    /// How many jobs a compiler may run; `None` leaves it to the compiler.
    pub jobs: Option<usize>,
    /// Whether a compile may download something.
    pub network: Network,
}

/// The repository inside of a builder.
pub(super) const BUILDER_ROOT: &str = "/etcdimg";
/// The caches of the compilers inside of a builder.
pub(super) const BUILDER_WORK: &str = "/opt/etcdimg";

impl Site {
    pub(super) fn host(options: &CompileOptions) -> Self {
        Self {
            root: options.root.clone(),
            work: options.work.clone(),
            inherited: options.environment.clone(),
            jobs: Some(options.jobs),
            network: options.network,
        }
    }

    pub(super) fn builder(options: &CompileOptions, buildx: &BuildxOptions) -> Self {
        Self {
            root: BUILDER_ROOT.into(),
            work: BUILDER_WORK.into(),
            inherited: BTreeMap::new(),
            jobs: (!buildx.has_own_cores()).then_some(options.jobs),
            // The builder downloads everything in a stage of its own, before it compiles.
            network: Network::Forbidden,
        }
    }

    /// Where `etcdimg` and `cargo xtask cross` keep a part that is needed for compiling.
    pub(super) fn part(&self, name: impl AsRef<Path>) -> PathBuf {
        self.work.join("parts").join(name)
    }
}
