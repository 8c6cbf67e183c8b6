//! Why a file is not in the store: every mirror, and why each failed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;

use crate::http::ClientError;
use oci::digest::Digest;
use oci::document::size_text as size;
use store::StoreError;

/// Why a file is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// This machine's fault, so no mirror can help: a full disk, a folder without permission.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Every mirror, in the order they were tried.
    #[error("cannot fetch `{name}`{}", list(failures))]
    Mirrors { name: String, failures: Vec<MirrorFailure> },
}

impl FetchError {
    /// Whether a mirror delivered bytes that do not match what is pinned.
    pub fn is_wrong_bytes(&self) -> bool {
        match self {
            Self::Store(error) => {
                matches!(error, StoreError::Mismatch { .. } | StoreError::Corrupt { .. })
            }
            Self::Mirrors { failures, .. } => failures.iter().any(|it| it.cause.is_wrong_bytes()),
        }
    }
}

fn list(failures: &[MirrorFailure]) -> String {
    if failures.is_empty() {
        return ": there is no mirror to ask".to_owned();
    }
    failures.iter().fold(String::new(), |list, failure| list + "\n  " + &failure.to_string())
}

/// One mirror that failed.
#[derive(Debug)]
pub struct MirrorFailure {
    /// The mirror's URL, as it may be shown.
    pub source: String,
    pub attempts: u32,
    pub cause: TransferError,
}

impl fmt::Display for MirrorFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.cause)?;
        if self.attempts > 1 {
            write!(f, ", after {} attempts", self.attempts)?;
        }
        Ok(())
    }
}

/// Why one mirror failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("not a URL of the form http://, https:// or file:///")]
    Url,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    File(std::io::Error),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("no byte for {}", seconds(*.0))]
    Stalled(Duration),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the file ended after {received} of {expected} bytes")]
    Short { expected: u64, received: u64 },
    #[error("{code}")]
    Status { code: StatusCode, retry_after: Option<Duration> },
    /// Too many requests, whatever the status code.
    #[error("{code}")]
    RateLimited { code: StatusCode, retry_after: Option<Duration> },
    /// A registry asks for a login, and there is no answer to that.
    #[error("{0}")]
    Login(Box<dyn Error + Send + Sync>),
    #[error("broken HTTP: {0}")]
    Protocol(String),
    #[error("longer than the {} allowed", size(*.limit))]
    TooLong { limit: u64 },
    #[error("wrong size\n    expected {expected} bytes\n    received {received} bytes")]
    WrongSize { expected: u64, received: u64 },
    #[error("wrong digest\n    expected {expected}\n    received {received}")]
    WrongDigest { expected: Digest, received: Digest },
}

impl TransferError {
    pub(super) fn is_wrong_bytes(&self) -> bool {
        matches!(self, Self::WrongSize { .. } | Self::WrongDigest { .. } | Self::TooLong { .. })
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(reason) => !is_unknown_host(reason),
            Self::Stalled(_) | Self::Broken(_) | Self::Short { .. } | Self::RateLimited { .. } => {
                true
            }
            Self::Status { code, .. } => {
                code.is_server_error()
                    || *code == StatusCode::REQUEST_TIMEOUT
                    || *code == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::RateLimited { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}

/// The resolver's final word (EAI_NONAME), unlike "Temporary failure in name resolution".
fn is_unknown_host(reason: &str) -> bool {
    let final_words =
        ["Name or service not known", "Name does not resolve", "nodename nor servname"];
    final_words.iter().any(|words| reason.contains(words))
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
