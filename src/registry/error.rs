use std::io;

use reqwest::StatusCode;

use super::answer::Answer;
use super::auth::AuthError;
use crate::digest::Digest;
use crate::fetch::Cause;

/// Why a registry did not do what it was asked. `what` completes the sentence "cannot ...", and
/// names things as people do: no URL stands in it, because a URL may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("cannot {what}: {cause}{}", times(*attempts))]
    Failed { what: String, attempts: u32, cause: Cause },
    #[error("cannot {what}: {code}{}", quoted(said))]
    Refused { what: String, code: StatusCode, said: String },
    #[error("cannot {what}: the registry's answer makes no sense: {why}")]
    Senseless { what: String, why: String },
    #[error(
        "cannot {what}: the registry speaks of other bytes\n  expected {expected}\n  received {received}"
    )]
    WrongDigest { what: String, expected: Digest, received: Digest },
    #[error(
        "cannot {what}: `{path}` is not what its name says\n  expected {expected}\n  received {received}"
    )]
    WrongFile { what: String, path: String, expected: Digest, received: Digest },
    #[error("cannot {what}")]
    Auth { what: String, source: AuthError },
    #[error("cannot {what}")]
    Source { what: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot {what}")]
    Io { what: String, source: io::Error },
}

impl RemoteError {
    pub(super) fn refused(what: &str, answer: &Answer) -> Self {
        Self::Refused { what: what.to_owned(), code: answer.status, said: answer.said() }
    }

    pub(super) fn senseless(what: &str, why: impl Into<String>) -> Self {
        Self::Senseless { what: what.to_owned(), why: why.into() }
    }

    /// Whether we are not who may do this.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                matches!(*code, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            }
            Self::Auth { .. } => true,
            _ => false,
        }
    }

    /// Whether the bytes are to blame.
    pub fn is_wrong_bytes(&self) -> bool {
        matches!(self, Self::WrongDigest { .. } | Self::WrongFile { .. })
    }

    /// Whether this machine is to blame.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// The digest in a reply, where there is one, is that of what was sent.
pub(super) fn check_digest(
    what: &str,
    answer: &Answer,
    expected: Digest,
) -> Result<(), RemoteError> {
    match answer.digest() {
        Some(received) if received != expected => {
            Err(RemoteError::WrongDigest { what: what.to_owned(), expected, received })
        }
        _ => Ok(()),
    }
}

fn times(attempts: u32) -> String {
    if attempts > 1 { format!(", after {attempts} attempts") } else { String::new() }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(", {said}") }
}
