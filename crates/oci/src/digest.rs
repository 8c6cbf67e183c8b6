//! Content digests, as in image-spec `descriptor.md#digests`. Only sha256 is used here.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// `sha256:<64 lower-case hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes.as_ref()).into())
    }

    /// Reads to the end; returns the digest and the number of bytes.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    /// The 64 hex digits alone, which is the blob's file name in a layout.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Twelve hex digits: enough for a person to tell two blobs apart.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

/// Counts and hashes bytes on their way.
#[derive(Default)]
pub struct Hasher {
    sha256: Sha256,
    size: u64,
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn finish(self) -> (Digest, u64) {
        (Digest(self.sha256.finalize().into()), self.size)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("`{0}` is not a digest: write `sha256:` and 64 hex digits")]
    Shape(String),
    #[error("a sha256 digest has 64 hex digits, this one has {0}")]
    Length(usize),
    #[error("`{0}` is not a lower-case hex digit")]
    Digit(char),
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits =
            text.strip_prefix("sha256:").ok_or_else(|| DigestError::Shape(text.to_owned()))?;
        if let Some(digit) = digits.chars().find(|c| !matches!(c, '0'..='9' | 'a'..='f')) {
            return Err(DigestError::Digit(digit));
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| DigestError::Length(digits.len()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_round_trip() {
        let digest = Digest::of(b"etcd");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(Digest::of_reader(&b"etcd"[..]).unwrap(), (digest, 4));
    }

    #[test]
    fn bad_digests_say_why() {
        check("md5:00", "`md5:00` is not a digest: write `sha256:` and 64 hex digits");
        check("sha256:00", "a sha256 digest has 64 hex digits, this one has 2");
        // A 66-digit sum of 3.7.1 for arm64 circulates.
        check(
            &format!("sha256:{}", "0".repeat(66)),
            "a sha256 digest has 64 hex digits, this one has 66",
        );
        check(&format!("sha256:{}", "A".repeat(64)), "`A` is not a lower-case hex digit");
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(text.parse::<Digest>().unwrap_err().to_string(), expected);
    }
}
