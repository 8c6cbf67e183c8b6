//! The table of suites.

use std::fmt;
use std::str::FromStr;

use super::case::Case;
use super::image_under_test::ImageUnderTest;
use super::suites;

/// The suites. Each one tests what one document promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    Structure,
    Run,
    Migrate,
    RollingUpgrade,
    Operate,
    Kubernetes,
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

    /// What it proves, in one sentence.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Structure => {
                "Every path, mode, link, label and port of the image's contract, and nothing else"
            }
            Self::Run => {
                "Every program answers with its version; a server starts, serves and stops"
            }
            Self::Migrate => {
                "Data goes from every version to the next, back, and from the oldest to the newest"
            }
            Self::RollingUpgrade => {
                "A cluster of three with TLS is upgraded member by member while a client writes"
            }
            Self::Operate => {
                "Members are replaced and added, snapshots saved and restored, a quorum lost and recovered"
            }
            Self::Kubernetes => {
                "The pods of manifests/ run as they are, with podman as the kubelet"
            }
            Self::Windows => {
                "The images for Windows of the same index: their layers, and their programs under wine"
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Run => "run",
            Self::Migrate => "migrate",
            Self::RollingUpgrade => "rolling-upgrade",
            Self::Operate => "operate",
            Self::Kubernetes => "kubernetes",
            Self::Windows => "windows",
        }
    }

    pub fn cases(self, under_test: &ImageUnderTest) -> Vec<Case> {
        match self {
            Self::Structure => suites::structure::cases(under_test),
            Self::Run => suites::run::cases(),
            Self::Migrate => suites::migrate::cases(under_test),
            Self::RollingUpgrade => suites::rolling_upgrade::cases(under_test),
            Self::Operate => suites::operate::cases(),
            Self::Kubernetes => suites::kubernetes::cases(),
            Self::Windows => suites::windows::cases(under_test),
        }
    }

    /// Whether cases run the image.
    pub fn needs_runtime(self) -> bool {
        !matches!(self, Self::Structure | Self::Kubernetes | Self::Windows)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no suite has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no suite `{0}`")]
pub struct UnknownSuite(String);

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(name: &str) -> Result<Self, UnknownSuite> {
        let found = Self::ALL.into_iter().find(|suite| suite.name() == name);
        found.ok_or_else(|| UnknownSuite(name.to_owned()))
    }
}
