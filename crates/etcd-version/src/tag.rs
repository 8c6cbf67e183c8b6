//! The tags of images.

use std::fmt;
use std::str::FromStr;

use crate::{EtcdVersion, ParseError};

/// `<etcd version>-<revision>`; the revision counts rebuilds of one etcd version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageTag {
    pub etcd: EtcdVersion,
    pub revision: u32,
}

impl FromStr for ImageTag {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError {
            text: text.to_owned(),
            expected: "an image tag, for example `3.6.14-0`",
        };
        // Split from the right: in `3.6.0-rc.3-0` only the last dash separates.
        let (etcd, revision) = text.rsplit_once('-').ok_or_else(error)?;
        let is_number = !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_digit());
        let has_leading_zero = revision.len() > 1 && revision.starts_with('0');
        if !is_number || has_leading_zero {
            return Err(error());
        }
        Ok(Self {
            etcd: etcd.parse().map_err(|_| error())?,
            revision: revision.parse().map_err(|_| error())?,
        })
    }
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.etcd, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_tags_round_trip() {
        for text in ["3.6.14-0", "3.6.0-rc.3-0", "3.4.13-4"] {
            assert_eq!(text.parse::<ImageTag>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_tags_are_refused() {
        for text in
            ["3.6.14", "3.6-latest", "3.6.14-", "3.6.14-x", "3.6.14--1", "3.6.14-+1", "3.6.14-00"]
        {
            assert!(text.parse::<ImageTag>().is_err(), "{text}");
        }
    }
}
