//! The platform of an image: os, architecture and variant, as image-spec names them.

use std::fmt;
use std::str::FromStr;

use etcd_version::ParseError;

/// `linux/amd64`, `linux/arm/v7`, `windows/amd64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

/// What we know how to build for: os, architecture, variant.
const KNOWN: &[(&str, &str, Option<&str>)] = &[
    ("linux", "amd64", None),
    ("linux", "arm", Some("v7")),
    ("linux", "arm64", None),
    ("linux", "ppc64le", None),
    ("linux", "riscv64", None),
    ("linux", "s390x", None),
    ("windows", "amd64", None),
];

impl Platform {
    /// `linux-arm-v7`: for file names and the tags of single platforms.
    pub fn dashed(&self) -> String {
        self.to_string().replace('/', "-")
    }
}

impl FromStr for Platform {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts: Vec<_> = text.split('/').collect();
        let known = KNOWN.iter().find(|(os, architecture, variant)| {
            parts[..] == [*os, *architecture][..]
                || variant.is_some_and(|variant| parts[..] == [*os, *architecture, variant][..])
        });
        let (os, architecture, variant) = known.ok_or_else(|| ParseError {
            text: text.to_owned(),
            expected: "a platform we know: linux/amd64, linux/arm/v7, linux/arm64, linux/ppc64le, \
                       linux/riscv64, linux/s390x or windows/amd64",
        })?;
        Ok(Self {
            os: (*os).to_owned(),
            architecture: (*architecture).to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl serde::Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_round_trip() {
        for text in ["linux/amd64", "linux/arm/v7", "linux/s390x", "windows/amd64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        assert_eq!("linux/arm".parse::<Platform>().unwrap().dashed(), "linux-arm-v7");
    }

    #[test]
    fn unknown_platforms_are_refused() {
        for text in ["linux", "linux/mips", "darwin/amd64", "linux/arm/v5", "linux/amd64/v3", ""] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
