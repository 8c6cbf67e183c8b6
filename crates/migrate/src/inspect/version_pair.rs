//! The content of `version.txt`: `<version>/<storage>`, such as `3.5.21/etcd3`.
//!
//! The errors have the words of the old image, because people search for them.

use std::fmt;
use std::str::FromStr;

use etcd_version::EtcdVersion;

use crate::printable::printable;

/// The generation of the storage format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    Etcd2,
    Etcd3,
}

impl FromStr for Storage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "etcd2" => Ok(Self::Etcd2),
            "etcd3" => Ok(Self::Etcd3),
            _ => Err(format!("unrecognized storage version: {}", printable(text))),
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Etcd2 => "etcd2",
            Self::Etcd3 => "etcd3",
        })
    }
}

/// A version of etcd with its storage format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionPair {
    pub version: EtcdVersion,
    pub storage: Storage,
}

impl VersionPair {
    /// `<version>/etcd3`.
    pub fn etcd3(version: EtcdVersion) -> Self {
        Self { version, storage: Storage::Etcd3 }
    }
}

impl FromStr for VersionPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let malformed = || {
            format!(
                "malformed version file, expected <major>.<minor>.<patch>/<storage> but got {}",
                printable(text)
            )
        };
        let (version, storage) = text.split_once('/').ok_or_else(malformed)?;
        if storage.contains('/') {
            return Err(malformed());
        }
        Ok(Self {
            version: version
                .parse()
                .map_err(|error| format!("{}: {}", malformed(), printable(&format!("{error}"))))?,
            storage: storage.parse()?,
        })
    }
}

impl fmt::Display for VersionPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.version, self.storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let actual = text.parse::<VersionPair>().ok().map(|pair| pair.to_string());
        assert_eq!(actual.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn pairs_round_trip() {
        for text in ["3.1.2/etcd3", "1.1.1-rc.0/etcd3", "10.100.1000/etcd3", "2.2.1/etcd2"] {
            check(text, Some(text));
        }
    }

    #[test]
    fn surrounding_white_space_means_nothing() {
        // The shell script of old images wrote a newline.
        check("3.1.12/etcd3\n", Some("3.1.12/etcd3"));
        check("  3.1.12/etcd3\r\n", Some("3.1.12/etcd3"));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "\n",
            "/",
            "3.1.2",
            "1.1/etcd3",
            "1.1.1.1/etcd3",
            "1.1.1/etcd4",
            "1.1.1/",
            "v1.1.1/etcd3",
            "01.1.1/etcd3",
            "1.1.1/etcd3/",
            "1.1.1/etcd3 x",
            "1.1.1 /etcd3",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn errors_show_no_control_characters() {
        for text in ["3.5\u{1b}[2J", "3.5.1/\u{1b}[2J", "3.5\u{1b}[2J/etcd3", "3.5\nerror: no"] {
            let error = text.parse::<VersionPair>().unwrap_err();
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn errors_keep_the_old_words() {
        assert_eq!(
            "3.5".parse::<VersionPair>().unwrap_err(),
            "malformed version file, expected <major>.<minor>.<patch>/<storage> but got 3.5"
        );
        assert_eq!(
            "3.5.1/etcd4".parse::<VersionPair>().unwrap_err(),
            "unrecognized storage version: etcd4"
        );
    }
}
