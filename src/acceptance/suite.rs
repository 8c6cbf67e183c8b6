use std::fmt;

use super::stage::{Stage, Stop};
use super::subject::Subject;
use super::suites;

/// The suites, each a document made executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// Every path, mode, link, label and port of the image's contract, and nothing else
    Structure,
    /// Every program answers with its version; a server starts, serves and stops
    Run,
    /// Data goes from every version to the next, back, and from the oldest to the newest
    Migrate,
    /// A cluster of three with TLS is upgraded member by member while a client writes
    RollingUpgrade,
    /// Members are replaced and added, snapshots saved and restored, a quorum lost and recovered
    Operate,
    /// The pods of manifests/ run as they are, with podman as the kubelet
    Kubernetes,
    /// The images for Windows of the same index: their layers, and their programs under wine
    Windows,
}

impl Suite {
    pub const ALL: [Self; 7] = [
        Self::Structure,
        Self::Run,
        Self::Migrate,
        Self::RollingUpgrade,
        Self::Operate,
        Self::Kubernetes,
        Self::Windows,
    ];

    pub fn cases(self, subject: &Subject) -> Vec<Case> {
        match self {
            Self::Structure => suites::structure::cases(subject),
            Self::Run => suites::run::cases(),
            Self::Migrate => suites::migrate::cases(subject),
            Self::RollingUpgrade => suites::rolling_upgrade::cases(subject),
            Self::Operate => suites::operate::cases(),
            Self::Kubernetes => suites::kubernetes::cases(),
            Self::Windows => suites::windows::cases(subject),
        }
    }

    /// Whether cases run the image.
    pub fn needs_runtime(self) -> bool {
        !matches!(self, Self::Structure | Self::Kubernetes | Self::Windows)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Structure => "structure",
            Self::Run => "run",
            Self::Migrate => "migrate",
            Self::RollingUpgrade => "rolling-upgrade",
            Self::Operate => "operate",
            Self::Kubernetes => "kubernetes",
            Self::Windows => "windows",
        })
    }
}

type Play = Box<dyn Fn(&Stage<'_>) -> Result<(), Stop> + Send + Sync>;

/// One thing that a suite proves.
pub struct Case {
    pub name: String,
    /// In one sentence.
    pub proves: String,
    pub play: Play,
}

impl Case {
    pub fn new(
        name: impl Into<String>,
        proves: impl Into<String>,
        play: impl Fn(&Stage<'_>) -> Result<(), Stop> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), proves: proves.into(), play: Box::new(play) }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}
