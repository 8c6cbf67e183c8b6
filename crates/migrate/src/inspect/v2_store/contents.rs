//! How much clients of the v2 API have stored: for people, and for the plan.

use std::fmt;

use super::V2Store;

/// A summary of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V2Contents {
    pub keys: usize,
    /// How many of the keys no list shows: `_` begins their name or that of a folder above them.
    pub hidden_keys: usize,
    /// The keys and folders at the top, such as `/registry`, sorted; also folders without keys.
    pub names: Vec<String>,
    /// Users, roles, or an enabled authentication.
    pub has_auth: bool,
    /// The names and values of all keys together.
    pub size_bytes: u64,
}

impl V2Contents {
    /// Whether there is nothing, as etcd 3.6 sees it: it does not start on empty folders either.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.has_auth
    }

    /// Whether there are keys that a client finds in a list.
    pub fn has_visible_keys(&self) -> bool {
        self.keys > self.hidden_keys
    }

    pub(super) fn of(store: &V2Store) -> Self {
        let keys = store.keys();
        let size_bytes = keys.iter().map(|key| key.path.len() + key.value.len()).sum::<usize>();
        Self {
            keys: keys.len(),
            hidden_keys: keys.iter().filter(|key| !key.is_visible()).count(),
            names: store.names().map(|name| format!("/{name}")).collect(),
            has_auth: store.has_auth(),
            size_bytes: size_bytes as u64,
        }
    }
}

/// `12 keys in /a, /b and 3 more, and users or roles`
impl fmt::Display for V2Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        if !self.names.is_empty() {
            match self.keys {
                0 => f.write_str("folders without keys")?,
                1 => f.write_str("1 key")?,
                keys => write!(f, "{keys} keys")?,
            }
            let shown: Vec<_> =
                self.names.iter().take(SHOWN).map(|name| name.escape_debug().to_string()).collect();
            write!(f, " in {}", shown.join(", "))?;
            if self.names.len() > SHOWN {
                write!(f, " and {} more", self.names.len() - SHOWN)?;
            }
        }
        match (self.names.is_empty(), self.has_auth) {
            (_, false) => Ok(()),
            (false, true) => f.write_str(", and users or roles"),
            (true, true) => f.write_str("users or roles"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_a_phrase() {
        let names = |all: &str| all.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (keys, all, has_auth, expected) in [
            (1, "/a", false, "1 key in /a"),
            (2, "/a /b", true, "2 keys in /a, /b, and users or roles"),
            (9, "/1 /2 /3 /4 /5 /6 /7", false, "9 keys in /1, /2, /3, /4, /5 and 2 more"),
            (0, "/a", false, "folders without keys in /a"),
            (0, "", true, "users or roles"),
        ] {
            let contents =
                V2Contents { keys, names: names(all), has_auth, ..V2Contents::default() };
            assert_eq!(contents.to_string(), expected);
            assert!(!contents.is_empty());
        }
        assert!(V2Contents::default().is_empty());
    }
}
