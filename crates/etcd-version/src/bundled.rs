//! The list of bundled versions, a file that the build writes and `migrate` reads.

use std::fmt;
use std::str::FromStr;

use crate::{EtcdVersion, ParseError};

/// Where the image keeps its list of bundled versions.
pub const BUNDLED_PATH: &str = "usr/local/share/etcdimg/bundled-versions";

/// The versions of etcd that an image carries, in ascending order.
///
/// As a file: one version a line; empty lines and lines that start with `#` mean nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundled(Vec<EtcdVersion>);

impl Bundled {
    pub fn new(mut versions: Vec<EtcdVersion>) -> Self {
        versions.sort();
        versions.dedup();
        Self(versions)
    }

    pub fn versions(&self) -> &[EtcdVersion] {
        &self.0
    }
}

impl FromStr for Bundled {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let lines = text.lines().map(str::trim);
        let versions = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        versions.map(str::parse).collect::<Result<Vec<_>, _>>().map(Self::new)
    }
}

impl fmt::Display for Bundled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|version| writeln!(f, "{version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_round_trips_in_ascending_order() {
        let bundled: Bundled =
            "# what this image carries\n3.5.33\n\n3.4.27\n3.5.33\n".parse().unwrap();
        assert_eq!(bundled.to_string(), "3.4.27\n3.5.33\n");
    }

    #[test]
    fn a_line_that_is_no_version_is_refused() {
        assert!("3.5.33\nnext\n".parse::<Bundled>().is_err());
    }
}
