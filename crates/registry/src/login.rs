//! One login, whose secrets are never shown.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. There is no `Display`, so that no message contains it by accident.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A login at one registry.
#[derive(Clone, Debug)]
pub enum Login {
    /// The value of `Authorization`, marked as sensitive.
    Basic(HeaderValue),
    /// What a login left instead of a password: it is exchanged for tokens.
    IdentityToken(Secret),
}

impl Login {
    pub fn password(user: &str, password: &Secret) -> Option<Self> {
        let text = format!("{user}:{}", password.reveal());
        Self::basic(&STANDARD.encode(text))
    }

    /// From base64 of `user:password`, as config.json has it.
    pub(super) fn basic(encoded: &str) -> Option<Self> {
        // Empty if a credential helper has the login.
        let encoded = Some(encoded.trim()).filter(|encoded| !encoded.is_empty())?;
        let mut header = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
        header.set_sensitive(true);
        Some(Self::Basic(header))
    }

    pub(super) fn header(&self) -> Option<&HeaderValue> {
        match self {
            Self::Basic(header) => Some(header),
            Self::IdentityToken(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_what_basic_wants_and_shows_nothing() {
        let login = Login::password("me", &Secret::new("secret")).unwrap();
        assert_eq!(login.header().unwrap(), "Basic bWU6c2VjcmV0");
        let token = Login::IdentityToken(Secret::new("secret"));
        assert_eq!(format!("{login:?} {token:?}"), "Basic(Sensitive) IdentityToken(Secret)");
        assert!(Login::basic(" ").is_none());
    }
}
