//! Who answers for a package.

use std::fmt;
use std::str::FromStr;

/// A person or an organisation, as `Name <address>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintainer(String);

/// A text that is no maintainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use `NAME <ADDRESS>`, for example `Example Ltd <etcd@example.com>`")]
pub struct MaintainerError;

impl FromStr for Maintainer {
    type Err = MaintainerError;

    fn from_str(text: &str) -> Result<Self, MaintainerError> {
        let parts = text.strip_suffix('>').and_then(|text| text.split_once(" <"));
        let is_valid = parts.is_some_and(|(name, address)| {
            let is_plain = |it: &str| !it.is_empty() && !it.contains(['<', '>', '\n', '\r']);
            is_plain(name) && is_plain(address) && address.contains('@') && !address.contains(' ')
        });
        is_valid.then(|| Self(text.to_owned())).ok_or(MaintainerError)
    }
}

impl fmt::Display for Maintainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maintainer_has_a_name_and_an_address() {
        let text = "Example Ltd <etcd@example.com>";
        assert_eq!(text.parse::<Maintainer>().unwrap().to_string(), text);
        for text in ["", "etcd@example.com", "<etcd@example.com>", "A <b>", "A\nB: c <d@e>"] {
            assert_eq!(text.parse::<Maintainer>(), Err(MaintainerError), "{text}");
        }
    }
}
