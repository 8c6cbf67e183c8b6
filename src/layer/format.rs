//! The format: everything that decides a byte of an image, under one number.
//!
//! Format 1 is: ustar headers as `ustar` writes them; directories, then files, then links, each
//! sorted by path; gzip by libdeflate 1.26 at level 4 in chunks of 1 MiB as `gzip` joins them, or
//! zstd 1.5 at level 9, without threads, with checksum and content size absent; JSON with sorted
//! keys and no white space; one layer per etcd version, `migrate` last.
//! Format 2 has one more file in the layer `migrate`: `etcd-versions.json`.
//! A change of any of these needs a new number; the golden tests in `layer::writer` and `image`
//! fail.

use serde::{Deserialize, Serialize};

/// Recorded in every image as the label and annotation `dev.etcdimg.format`.
pub const FORMAT: u32 = 2;

/// The best ratio of size and time for etcd's programs: a layer is 3 % larger than at level 6,
/// takes 60 % of the time, and is still smaller than BuildKit's (docs/performance.md).
const GZIP_LEVEL: i32 = 4;
const ZSTD_LEVEL: i32 = 9;

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Read by every client.
    #[default]
    Gzip,
    /// Smaller and faster to unpack; needs a client of 2021 or later.
    Zstd,
}

impl Compression {
    pub fn level(self) -> i32 {
        match self {
            Self::Gzip => GZIP_LEVEL,
            Self::Zstd => ZSTD_LEVEL,
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}
