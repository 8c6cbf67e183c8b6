//! A minor version of etcd.

use std::fmt;
use std::str::FromStr;

use crate::{EtcdVersion, ParseError};

/// A version without its patch, such as `3.5`. etcd's cluster version and storage version are such,
/// and a database holds no other version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub major: u64,
    pub minor: u64,
}

impl Series {
    pub const fn new(major: u64, minor: u64) -> Self {
        Self { major, minor }
    }

    /// The next minor version.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(self.major, self.minor.saturating_add(1))
    }
}

impl FromStr for Series {
    type Err = ParseError;

    /// Parses `3.5`, and what etcd stores and answers: `3.5.0`, with a patch of zero.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let has_patch = text.matches('.').count() > 1;
        let full = if has_patch { text.to_owned() } else { format!("{text}.0") };
        full.parse::<EtcdVersion>().map(|version| version.series())
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
