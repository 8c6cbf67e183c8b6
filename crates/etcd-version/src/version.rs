//! Versions of etcd: full ones, and minor versions.

use std::fmt;
use std::str::FromStr;

/// A version of etcd: three numbers, and perhaps a pre-release (`3.6.0-rc.3`).
///
/// Ordered as semantic versions are, so a pre-release comes before its release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtcdVersion(semver::Version);

impl EtcdVersion {
    pub const fn new(major: u64, minor: u64, patch: u64) -> Self {
        Self(semver::Version::new(major, minor, patch))
    }

    pub fn major(&self) -> u64 {
        self.0.major
    }

    pub fn minor(&self) -> u64 {
        self.0.minor
    }

    pub fn patch(&self) -> u64 {
        self.0.patch
    }

    pub fn is_pre_release(&self) -> bool {
        !self.0.pre.is_empty()
    }

    /// `3.6` of `3.6.14`: what etcd calls the cluster version.
    pub fn series(&self) -> Series {
        Series::new(self.0.major, self.0.minor)
    }
}

impl FromStr for EtcdVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // Build metadata (`3.6.14+x`) is no part of any release, and `+` of no tag.
        let version = semver::Version::parse(text).ok().filter(|it| it.build.is_empty());
        version.map(Self).ok_or_else(|| ParseError {
            text: text.to_owned(),
            expected: "an etcd version, for example `3.6.14`",
        })
    }
}

impl fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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

/// Text that is not what it should be. Carries both, gives no advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub text: String,
    pub expected: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not {}", self.text, self.expected)
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_versions_round_trip() {
        for text in ["3.4.27", "3.6.0-rc.3", "3.0.0", "10.100.1000", "1.1.1-rc.0"] {
            assert_eq!(text.parse::<EtcdVersion>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_versions_are_refused() {
        for text in [
            "", "3", "3.6", "v3.6.14", "3.6.14.1", "3.06.1", "3.6.x", " 3.6.14", "latest",
            "3.6.14+x",
        ] {
            let error = text.parse::<EtcdVersion>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{text}` is not an etcd version, for example `3.6.14`")
            );
        }
    }

    #[test]
    fn a_pre_release_comes_before_its_release() {
        let [rc, release] =
            ["3.6.0-rc.3", "3.6.0"].map(|text| text.parse::<EtcdVersion>().unwrap());
        assert!(rc < release);
        assert!(rc.is_pre_release());
        assert_eq!(rc.series(), release.series());
        assert_eq!(rc.series().to_string(), "3.6");
    }
}
