//! Short responses that have no digest: the tokens of a registry, the sums of a release.

use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode, Url};

use super::{
    Attempts, DownloadSource, FetchOptions, MirrorFailure, TransferError, status_cause, transport,
};
use crate::http::{Client, ClientError};

/// In bytes; a token is a few kilobytes at most.
const LIMIT: usize = 1 << 20;

/// Sends what `request` makes, with the usual attempts, and returns the body of a 200. `url` is
/// shown in the error, without its query.
pub async fn short_body(
    client: &Client,
    options: &FetchOptions,
    url: &Url,
    request: impl Fn(&Client) -> Result<RequestBuilder, ClientError>,
) -> Result<Vec<u8>, MirrorFailure> {
    let mut attempts = Attempts::new(options);
    loop {
        let cause = match attempt(client, options, &request).await {
            Ok(bytes) => return Ok(bytes),
            Err(cause) => cause,
        };
        let Some(wait) = attempts.next(&cause) else {
            let source = DownloadSource::Http { url: url.clone(), headers: HeaderMap::new() };
            return Err(MirrorFailure {
                source: source.to_string(),
                attempts: attempts.made(),
                cause,
            });
        };
        tokio::time::sleep(wait).await;
    }
}

async fn attempt(
    client: &Client,
    options: &FetchOptions,
    request: &impl Fn(&Client) -> Result<RequestBuilder, ClientError>,
) -> Result<Vec<u8>, TransferError> {
    let asking = async {
        let broken = |error: reqwest::Error| transport(&error, options.stall_timeout);
        let mut response = request(client)?.send().await.map_err(broken)?;
        if response.status() != StatusCode::OK {
            return Err(status_cause(response.status(), response.headers()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LIMIT {
                return Err(TransferError::TooLong { limit: LIMIT as u64 });
            }
        }
        Ok(bytes)
    };
    // It is short, so all of it may take as long as one chunk of a long one, and a connection.
    let patience = options.stall_timeout + options.connect_timeout;
    let stalled = |_| TransferError::Stalled(options.stall_timeout);
    tokio::time::timeout(patience, asking).await.map_err(stalled)?
}
