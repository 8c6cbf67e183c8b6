//! The platform of an image: os, architecture and variant, as image-spec names them, and which
//! Windows it is for.

use std::fmt;
use std::str::FromStr;

use etcd_version::ParseError;

/// `linux/amd64`, `linux/arm/v7`, `windows/amd64:ltsc2022`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
    /// The release of Windows, as its base images are tagged. `os.version` in
    /// documents has the base's own number, for example 10.0.20348.5499.
    pub os_version: Option<String>,
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
        self.to_string().replace(['/', ':'], "-")
    }

    pub fn is_windows(&self) -> bool {
        self.os == "windows"
    }

    /// Whether a person who asks for `self` means `other`: without a release, every Windows.
    pub fn includes(&self, other: &Self) -> bool {
        self == other
            || self.os_version.is_none() && *self == Self { os_version: None, ..other.clone() }
    }
}

/// The architecture of this machine, as OCI and Go name it.
pub fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// What Debian calls the architecture of a platform. It builds for more than we do.
pub fn debian_architecture(platform: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 7] = [
        ("linux/386", "i386"),
        ("linux/amd64", "amd64"),
        ("linux/arm/v7", "armhf"),
        ("linux/arm64", "arm64"),
        ("linux/ppc64le", "ppc64el"),
        ("linux/riscv64", "riscv64"),
        ("linux/s390x", "s390x"),
    ];
    NAMES.iter().find(|(known, _)| *known == platform).map(|(_, debian)| *debian)
}

/// The release of a Windows by its `os.version`, as base images are tagged.
pub fn windows_release(os_version: &str) -> Option<&'static str> {
    const BUILDS: [(&str, &str); 3] =
        [("17763", "1809"), ("20348", "ltsc2022"), ("26100", "ltsc2025")];
    let build = os_version.split('.').nth(2)?;
    BUILDS.iter().find(|(known, _)| *known == build).map(|(_, release)| *release)
}

impl FromStr for Platform {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError {
            text: text.to_owned(),
            expected: "a platform we know: linux/amd64, linux/arm/v7, linux/arm64, linux/ppc64le, \
                       linux/riscv64, linux/s390x or windows/amd64:OSVERSION",
        };
        let (name, os_version) = match text.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let parts: Vec<_> = name.split('/').collect();
        let known = KNOWN.iter().find(|(os, architecture, variant)| {
            parts[..] == [*os, *architecture][..]
                || variant.is_some_and(|variant| parts[..] == [*os, *architecture, variant][..])
        });
        let (os, architecture, variant) = known.ok_or_else(error)?;
        if os_version.is_some_and(|version| *os != "windows" || !is_os_version(version)) {
            return Err(error());
        }
        Ok(Self {
            os: (*os).to_owned(),
            architecture: (*architecture).to_owned(),
            variant: variant.map(str::to_owned),
            os_version: os_version.map(str::to_owned),
        })
    }
}

/// `1809`, `20H2`, `ltsc2022`: part of a tag and of a file name.
fn is_os_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))?;
        self.os_version.iter().try_for_each(|version| write!(f, ":{version}"))
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

    fn parse(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_round_trip() {
        for text in
            ["linux/amd64", "linux/arm/v7", "linux/s390x", "windows/amd64", "windows/amd64:1809"]
        {
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(parse("linux/arm").dashed(), "linux-arm-v7");
        assert_eq!(parse("windows/amd64:ltsc2022").dashed(), "windows-amd64-ltsc2022");
    }

    #[test]
    fn unknown_platforms_are_refused() {
        for text in [
            "linux",
            "linux/mips",
            "darwin/amd64",
            "linux/arm/v5",
            "linux/amd64/v3",
            "",
            "linux/amd64:1809",
            "windows/amd64:",
            "windows/amd64:../1809",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn debian_has_a_name_for_every_linux() {
        for (os, architecture, variant) in KNOWN {
            let variant = variant.map(str::to_owned);
            let (os, architecture) = ((*os).to_owned(), (*architecture).to_owned());
            let platform = Platform { os, architecture, variant, os_version: None };
            let debian = debian_architecture(&platform.to_string());
            assert_eq!(debian.is_none(), platform.is_windows(), "{platform}");
        }
        assert_eq!(debian_architecture("linux/arm/v7"), Some("armhf"));
        assert_eq!(debian_architecture("linux/ppc64le"), Some("ppc64el"));
    }

    #[test]
    fn windows_without_a_release_means_every_one() {
        let (every, one) = (parse("windows/amd64"), parse("windows/amd64:1809"));
        assert!(every.includes(&one) && one.includes(&one));
        assert!(!one.includes(&every) && !every.includes(&parse("linux/amd64")));
    }
}
