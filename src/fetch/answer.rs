//! Short answers that have no digest: the tokens of a registry.

use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};

use super::{Cause, Downloader, Source, Tried, reply, retry};

/// A token is a few kilobytes at most.
const LIMIT: usize = 1 << 20;

impl Downloader<'_> {
    /// Asks with the patience of a download.
    pub(crate) async fn answer(&self, url: &Url, headers: &HeaderMap) -> Result<Vec<u8>, Tried> {
        let mut attempts = 1;
        loop {
            let cause = match self.answer_once(url, headers).await {
                Ok(bytes) => return Ok(bytes),
                Err(cause) => cause,
            };
            let Some(wait) = retry::wait_before(attempts + 1, &cause, self.options) else {
                let source = Source::Http { url: url.clone(), headers: HeaderMap::new() };
                return Err(Tried { source: source.to_string(), attempts, cause });
            };
            attempts += 1;
            tokio::time::sleep(wait).await;
        }
    }

    async fn answer_once(&self, url: &Url, headers: &HeaderMap) -> Result<Vec<u8>, Cause> {
        let request = self.client.get(url.clone())?.headers(headers.clone());
        let mut response = request.send().await.map_err(|error| self.transport(&error))?;
        if response.status() != StatusCode::OK {
            return Err(reply::refusal(response.status(), response.headers()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.transport(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LIMIT {
                return Err(Cause::TooLong { limit: LIMIT as u64 });
            }
        }
        Ok(bytes)
    }
}
