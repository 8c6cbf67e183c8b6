//! Short answers that have no digest: the tokens of a registry.

use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode, Url};

use super::{Cause, Downloader, Options, Source, Tried, receive, reply, retry};
use crate::http::{Client, ClientError};

/// A token is a few kilobytes at most.
const LIMIT: usize = 1 << 20;

impl Downloader<'_> {
    /// Asks with the patience of a download.
    pub(crate) async fn answer(&self, url: &Url, headers: &HeaderMap) -> Result<Vec<u8>, Tried> {
        let request = |client: &Client| Ok(client.get(url.clone())?.headers(headers.clone()));
        answer(self.client, self.options, url, request).await
    }
}

/// Sends what `request` makes, as often as it takes, and returns the body of a 200.
pub(crate) async fn answer(
    client: &Client,
    options: &Options,
    url: &Url,
    request: impl Fn(&Client) -> Result<RequestBuilder, ClientError>,
) -> Result<Vec<u8>, Tried> {
    let mut attempts = 1;
    loop {
        let cause = match answer_once(client, options, url, &request).await {
            Ok(bytes) => return Ok(bytes),
            Err(cause) => cause,
        };
        let Some(wait) = retry::wait_before(attempts + 1, &cause, options) else {
            let source = Source::Http { url: url.clone(), headers: HeaderMap::new() };
            return Err(Tried { source: source.to_string(), attempts, cause });
        };
        attempts += 1;
        tokio::time::sleep(wait).await;
    }
}

async fn answer_once(
    client: &Client,
    options: &Options,
    url: &Url,
    request: &impl Fn(&Client) -> Result<RequestBuilder, ClientError>,
) -> Result<Vec<u8>, Cause> {
    let asking = async {
        let transport = |error: reqwest::Error| receive::transport(&error, options.stall_timeout);
        let mut response = request(client)?.send().await.map_err(transport)?;
        if response.status() != StatusCode::OK {
            let cause = reply::refusal(response.status(), response.headers());
            return Err(cause.said_by(url, response.url()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LIMIT {
                return Err(Cause::TooLong { limit: LIMIT as u64 });
            }
        }
        Ok(bytes)
    };
    // It is short, so all of it may take as long as one piece of a long answer, and a connection.
    let patience = options.stall_timeout + options.connect_timeout;
    let stalled = |_| Cause::Stalled(options.stall_timeout);
    tokio::time::timeout(patience, asking).await.map_err(stalled)?
}
