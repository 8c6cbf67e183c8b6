use std::fmt;
use std::str::FromStr;

use etcd_version::EtcdVersion;

/// A minor version without its patch, `3.5`: what etcd calls the cluster version, and the only
/// version that a data directory itself remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub major: u64,
    pub minor: u64,
}

impl Series {
    pub const fn new(major: u64, minor: u64) -> Self {
        Self { major, minor }
    }

    pub fn of(version: &EtcdVersion) -> Self {
        Self::new(version.major(), version.minor())
    }

    pub fn next(self) -> Self {
        Self::new(self.major, self.minor.saturating_add(1))
    }
}

impl FromStr for Series {
    type Err = etcd_version::ParseError;

    /// Takes what etcd stores and answers, `3.5.0`; the patch is always zero there.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<EtcdVersion>().map(|version| Self::of(&version))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
