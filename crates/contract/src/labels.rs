//! Labels of the config and annotations of the manifest, which have the same names and values:
//! each name once, and each value that has parts as a type with `Display` and `FromStr`.

use std::fmt;
use std::str::FromStr;

use etcd_version::EtcdVersion;
use oci::Digest;

/// Which base the image is on, with its digest.
pub const BASE: &str = "dev.etcdimg.base";
/// Marks a base that only tests may use, and every image on top of it. Its value says why.
pub const STAND_IN: &str = "dev.etcdimg.base.stand-in";
/// An annotation of every layer that is ours. Its value is a [`LayerName`].
pub const LAYER: &str = "dev.etcdimg.layer";
/// The versions of etcd, ascending, joined by commas: see [`bundled_value`].
pub const BUNDLED_VERSIONS: &str = "dev.etcdimg.bundled-versions";
/// The number of everything that decides a byte of the image.
pub const FORMAT: &str = "dev.etcdimg.format";
/// `release` or `source`: where the programs of etcd are from.
pub const ORIGIN: &str = "dev.etcdimg.origin";
/// Its value is a [`MigrateOrigin`].
pub const MIGRATE: &str = "dev.etcdimg.migrate";

/// The label of one bundled version. Its value is an [`EtcdOrigin`].
pub fn etcd(version: impl fmt::Display) -> String {
    format!("dev.etcdimg.etcd.{version}")
}

/// The names that image-spec gives to common annotations (`annotations.md`).
pub mod standard {
    pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
    pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
    pub const CREATED: &str = "org.opencontainers.image.created";
    pub const DESCRIPTION: &str = "org.opencontainers.image.description";
    pub const LICENSES: &str = "org.opencontainers.image.licenses";
    pub const TITLE: &str = "org.opencontainers.image.title";
    pub const VENDOR: &str = "org.opencontainers.image.vendor";
    pub const VERSION: &str = "org.opencontainers.image.version";
}

/// A label whose text is not what its name promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct LabelError {
    pub text: String,
    pub expected: &'static str,
}

/// The value of [`BUNDLED_VERSIONS`].
pub fn bundled_value<'a>(versions: impl IntoIterator<Item = &'a EtcdVersion>) -> String {
    versions.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Reads the value of [`BUNDLED_VERSIONS`].
pub fn parse_bundled(text: &str) -> Result<Vec<EtcdVersion>, etcd_version::ParseError> {
    text.split(',').map(str::parse).collect()
}

/// What a layer of ours holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerName {
    Etcd(EtcdVersion),
    Migrate,
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(version) => write!(f, "etcd {version}"),
            Self::Migrate => f.write_str("migrate"),
        }
    }
}

impl FromStr for LayerName {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let error = || LabelError {
            text: text.to_owned(),
            expected: "the name of a layer, for example `etcd 3.6.14`",
        };
        match text.strip_prefix("etcd ") {
            Some(version) => version.parse().map(Self::Etcd).map_err(|_| error()),
            None if text == "migrate" => Ok(Self::Migrate),
            None => Err(error()),
        }
    }
}

/// Where the programs of one version are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdOrigin {
    /// The commit of the release tag.
    pub commit: String,
    /// The release of Go that compiled them.
    pub go: String,
    pub source: EtcdSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdSource {
    /// An archive of etcd's release.
    Release { file: String, digest: Digest },
    /// Go modules, compiled by us; the digest is of go.sum.
    Modules { go_sum: Digest },
}

impl fmt::Display for EtcdOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {} go {} from ", self.commit, self.go)?;
        match &self.source {
            EtcdSource::Release { file, digest } => write!(f, "{file} {digest}"),
            EtcdSource::Modules { go_sum } => write!(f, "go.sum {go_sum}"),
        }
    }
}

impl FromStr for EtcdOrigin {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let error =
            || LabelError { text: text.to_owned(), expected: "`commit C go V from FILE DIGEST`" };
        let words: Vec<_> = text.split(' ').collect();
        let ["commit", commit, "go", go, "from", file, digest] = words[..] else {
            return Err(error());
        };
        let digest = digest.parse().map_err(|_| error())?;
        let source = match file {
            "go.sum" => EtcdSource::Modules { go_sum: digest },
            file => EtcdSource::Release { file: file.to_owned(), digest },
        };
        Ok(Self { commit: commit.to_owned(), go: go.to_owned(), source })
    }
}

/// What `migrate` was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateOrigin {
    /// Of etcdimg, and so of `migrate`.
    pub version: String,
    pub rust: String,
    pub zig: String,
}

impl fmt::Display for MigrateOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rust {} zig {}", self.version, self.rust, self.zig)
    }
}

impl FromStr for MigrateOrigin {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let words: Vec<_> = text.split(' ').collect();
        let [version, "rust", rust, "zig", zig] = words[..] else {
            let expected = "`VERSION rust VERSION zig VERSION`";
            return Err(LabelError { text: text.to_owned(), expected });
        };
        let owned = str::to_owned;
        Ok(Self { version: owned(version), rust: owned(rust), zig: owned(zig) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip() {
        let digest = Digest::of("");
        round_trip::<EtcdOrigin>(&format!("commit 85b640c go 1.16.15 from etcd.tar.gz {digest}"));
        round_trip::<EtcdOrigin>(&format!("commit 85b640c go 1.16.15 from go.sum {digest}"));
        round_trip::<MigrateOrigin>("0.1.0 rust 1.95.0 zig 0.17.0");
        round_trip::<LayerName>("etcd 3.6.14");
        round_trip::<LayerName>("migrate");
        let versions = parse_bundled("3.4.27,3.5.33").unwrap();
        assert_eq!(bundled_value(&versions), "3.4.27,3.5.33");
    }

    #[test]
    fn other_texts_are_refused() {
        assert!("commit 85b640c".parse::<EtcdOrigin>().is_err());
        assert!("commit a go b from c d".parse::<EtcdOrigin>().is_err());
        assert!("0.1.0 rust 1.95.0".parse::<MigrateOrigin>().is_err());
        assert!("etcd next".parse::<LayerName>().is_err());
        assert!(parse_bundled("").is_err());
    }

    #[track_caller]
    fn round_trip<T: FromStr<Err = LabelError> + fmt::Display>(text: &str) {
        assert_eq!(text.parse::<T>().unwrap().to_string(), text);
    }
}
