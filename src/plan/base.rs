//! Where the base image comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use etcd_version::ParseError;
use serde::Serialize;

use crate::digest::Digest;

/// Where the layers of the base come from; always pinned by a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum BaseSource {
    /// `reference` is the reference with its tag. `digest` is the digest of the platform's manifest
    /// in the lock, or the digest of `--base`, which may be that of an index.
    Registry { reference: String, digest: Digest },
    /// An OCI image layout; the digest of a manifest or an index in it.
    Layout { path: PathBuf, digest: Digest },
    /// A tar of a root file system; the digest of the file.
    Rootfs { path: PathBuf, digest: Digest },
}

impl BaseSource {
    pub fn digest(&self) -> Digest {
        match self {
            Self::Registry { digest, .. }
            | Self::Layout { digest, .. }
            | Self::Rootfs { digest, .. } => *digest,
        }
    }
}

/// Without paths of this machine, so that the same bytes have the same text everywhere.
impl fmt::Display for BaseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { reference, digest } => write!(f, "{reference}@{digest}"),
            Self::Layout { digest, .. } => write!(f, "oci:{digest}"),
            Self::Rootfs { digest, .. } => write!(f, "rootfs:{digest}"),
        }
    }
}

/// `--base NAME=SOURCE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseOverride {
    pub name: String,
    pub source: BaseSource,
}

impl FromStr for BaseOverride {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError {
            text: text.to_owned(),
            expected: "a base: write NAME=rootfs:FILE@sha256:…, NAME=oci:FOLDER@sha256:… or \
                       NAME=REGISTRY/REPOSITORY@sha256:…",
        };
        let (name, source) = text.split_once('=').ok_or_else(error)?;
        let (place, digest) = source.rsplit_once('@').ok_or_else(error)?;
        let digest = digest.parse().map_err(|_| error())?;
        if name.is_empty() || place.is_empty() {
            return Err(error());
        }
        let source = if let Some(path) = place.strip_prefix("rootfs:") {
            BaseSource::Rootfs { path: path.into(), digest }
        } else if let Some(path) = place.strip_prefix("oci:") {
            BaseSource::Layout { path: path.into(), digest }
        } else {
            BaseSource::Registry { reference: place.to_owned(), digest }
        };
        Ok(Self { name: name.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_name_a_place_and_a_digest() {
        let digest = Digest::of("");
        let check = |place: &str, expected: BaseSource| {
            let text = format!("busybox={place}@{digest}");
            assert_eq!(text.parse::<BaseOverride>().unwrap().source, expected);
        };
        check("rootfs:a/b.tar", BaseSource::Rootfs { path: "a/b.tar".into(), digest });
        check("oci:layout", BaseSource::Layout { path: "layout".into(), digest });
        let reference = "registry.example:5000/busybox".to_owned();
        check(&reference.clone(), BaseSource::Registry { reference, digest });
    }

    #[test]
    fn a_base_without_a_digest_is_refused() {
        for text in
            ["busybox", "busybox=rootfs:b.tar", "=rootfs:b@sha256:00", "busybox=oci:x@sha256:12"]
        {
            assert!(text.parse::<BaseOverride>().is_err(), "{text}");
        }
    }
}
