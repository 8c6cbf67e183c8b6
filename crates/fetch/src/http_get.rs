//! How the requests of a download are sent.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;
use reqwest::{Response, Url};

use super::TransferError;
use crate::http::{self, Client};

/// Sends a GET and returns the response before its body is read. Implemented by the plain client
/// and by a repository of a registry, which logs in and keeps to the limits of its registry.
pub trait HttpGet: Sync + std::fmt::Debug {
    fn get_response(
        &self,
        url: Url,
        headers: HeaderMap,
    ) -> BoxFuture<'_, Result<Response, TransferError>>;
}

impl HttpGet for Client {
    fn get_response(
        &self,
        url: Url,
        headers: HeaderMap,
    ) -> BoxFuture<'_, Result<Response, TransferError>> {
        async move {
            let sent = self.get(url)?.headers(headers).send().await;
            sent.map_err(|error| transport(&error, self.stall_timeout()))
        }
        .boxed()
    }
}

/// What went wrong below HTTP.
pub fn transport(error: &reqwest::Error, stall_timeout: Duration) -> TransferError {
    let reason = http::reason(error);
    if error.is_redirect() || error.is_builder() {
        TransferError::Protocol(reason)
    } else if error.is_connect() {
        TransferError::Connect(reason)
    } else if error.is_timeout() {
        TransferError::Stalled(stall_timeout)
    } else {
        TransferError::Broken(reason)
    }
}
