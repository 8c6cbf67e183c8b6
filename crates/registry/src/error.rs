//! Why a request to a registry failed.

use std::io;

use reqwest::StatusCode;

use super::auth::AuthError;
use super::response::Response;
use fetch::{FetchError, TransferError};
use oci::digest::Digest;

/// Why a request to a registry failed. `what` completes the sentence "cannot …" and names things
/// as people do; it contains no URL, because a URL may contain a secret.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("cannot {what}: {cause}{}", times(*attempts))]
    Failed { what: String, attempts: u32, cause: TransferError },
    #[error("cannot {what}: {code}{}", with_comma(message))]
    Refused { what: String, code: StatusCode, message: String },
    #[error("cannot {what}: unexpected response from the registry: {why}")]
    UnexpectedResponse { what: String, why: String },
    #[error(
        "cannot {what}: the registry returned a different digest\n  expected {expected}\n  received {received}"
    )]
    WrongDigest { what: String, expected: Digest, received: Digest },
    #[error(
        "cannot {what}: `{path}` does not match its digest\n  expected {expected}\n  received {received}"
    )]
    WrongFile { what: String, path: String, expected: Digest, received: Digest },
    #[error("cannot {what}")]
    Auth { what: String, source: AuthError },
    #[error("cannot {what}")]
    Io { what: String, source: io::Error },
    /// A blob or a document did not get into the store.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl RegistryError {
    pub(super) fn refused(what: &str, response: &Response) -> Self {
        Self::Refused { what: what.to_owned(), code: response.status, message: response.message() }
    }

    pub(super) fn unexpected(what: &str, why: impl Into<String>) -> Self {
        Self::UnexpectedResponse { what: what.to_owned(), why: why.into() }
    }

    /// Whether a login is missing, or lacks the permission.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                matches!(*code, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            }
            Self::Auth { .. } => true,
            _ => false,
        }
    }

    /// Whether a digest was wrong while something was sent.
    pub fn is_wrong_bytes(&self) -> bool {
        matches!(self, Self::WrongDigest { .. } | Self::WrongFile { .. })
    }

    /// Whether a file of this machine cannot be read or written.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// Compares the digest in a response, if there is one, with the expected one.
pub(super) fn check_digest(
    what: &str,
    response: &Response,
    expected: Digest,
) -> Result<(), RegistryError> {
    match response.digest() {
        Some(received) if received != expected => {
            Err(RegistryError::WrongDigest { what: what.to_owned(), expected, received })
        }
        _ => Ok(()),
    }
}

fn times(attempts: u32) -> String {
    if attempts > 1 { format!(", after {attempts} attempts") } else { String::new() }
}

fn with_comma(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", {text}") }
}
