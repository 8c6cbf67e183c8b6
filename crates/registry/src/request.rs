//! A request that can be sent as often as it takes, and why there may be no response.

use std::io;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use super::RegistryError;
use super::auth::AuthError;
use super::payload::{ByteCounter, Payload};
use fetch::TransferError;

/// A request that can be sent again. Without `Debug`: the location of an upload may contain a
/// secret.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    /// The bytes of the payload that were sent.
    pub(super) sent: ByteCounter,
}

/// Why there was no response.
#[derive(Debug)]
pub(super) enum NoResponse {
    TransferError(TransferError),
    Auth(AuthError),
    /// The file that was to be sent cannot be read.
    File(io::Error),
}

impl Request {
    pub(super) fn new(method: Method, url: Url) -> Self {
        let (headers, payload, sent) = (HeaderMap::new(), Payload::Empty, ByteCounter::default());
        Self { method, url, headers, payload, sent }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn with(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }

    pub(super) fn counting(self, sent: &ByteCounter) -> Self {
        Self { sent: sent.clone(), ..self }
    }
}

impl From<TransferError> for NoResponse {
    fn from(cause: TransferError) -> Self {
        Self::TransferError(cause)
    }
}

impl NoResponse {
    /// `what` completes the sentence "cannot …".
    pub(super) fn into_error(self, what: &str, attempts: u32) -> RegistryError {
        let what = what.to_owned();
        match self {
            Self::TransferError(cause) => RegistryError::Failed { what, attempts, cause },
            Self::Auth(source) => RegistryError::Auth { what, source },
            Self::File(source) => RegistryError::Io { what, source },
        }
    }

    /// For a download, which reports causes of its own.
    pub(super) fn into_cause(self) -> TransferError {
        match self {
            Self::TransferError(cause) => cause,
            Self::Auth(error) => TransferError::Login(Box::new(error)),
            Self::File(error) => TransferError::File(error),
        }
    }
}
