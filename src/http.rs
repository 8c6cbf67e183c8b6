//! The only module that owns an HTTP client.
//!
//! It decides how to connect: timeouts, proxies, redirects, who we say we are. Not responsible
//! for: what is asked for, or when to ask again (`fetch`).
#![expect(clippy::disallowed_methods, reason = "this is the one place that may")]

use std::error::Error;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Url};

const USER_AGENT: &str = concat!("etcdimg/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 10;

/// Where this system has no certificates, for example.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot set up HTTP: {0}")]
pub struct ClientError(String);

/// Asks servers. What connects is made with the first request, because it reads every
/// certificate of the system, and a run that finds all in the cache needs none.
#[derive(Debug)]
pub struct Client {
    connect_timeout: Duration,
    stall_timeout: Duration,
    outward: OnceLock<reqwest::Client>,
    loopback: OnceLock<reqwest::Client>,
}

impl Client {
    pub fn new(connect_timeout: Duration, stall_timeout: Duration) -> Self {
        let (outward, loopback) = (OnceLock::new(), OnceLock::new());
        Self { connect_timeout, stall_timeout, outward, loopback }
    }

    /// A GET that is not yet sent.
    pub fn get(&self, url: Url) -> Result<RequestBuilder, ClientError> {
        // A proxy would ask its own loopback. Go never asks one either.
        let (client, builder) = if is_loopback(&url) {
            (&self.loopback, reqwest::Client::builder().no_proxy())
        } else {
            (&self.outward, reqwest::Client::builder())
        };
        if let Some(client) = client.get() {
            return Ok(client.get(url));
        }
        let built = builder
            .user_agent(USER_AGENT)
            .connect_timeout(self.connect_timeout)
            .read_timeout(self.stall_timeout)
            // Takes the Authorization header away when the host, port or scheme changes.
            .redirect(Policy::limited(MAX_REDIRECTS))
            // A signed URL is a secret of its host.
            .referer(false)
            .build()
            .map_err(|error| ClientError(reason(&error)))?;
        Ok(client.get_or_init(|| built).get(url))
    }
}

/// Whether a URL names this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The innermost cause: `Connection refused (os error 111)`. The outer ones only repeat the
/// URL, which may hold a secret.
pub fn reason(error: &reqwest::Error) -> String {
    let Some(mut inner) = error.source() else {
        return "the request failed".to_owned();
    };
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_recognised() {
        check("http://127.0.0.1:5000/v2/", true);
        check("http://[::1]:5000/v2/", true);
        check("http://localhost/", true);
        check("https://registry.example/", false);
        check("https://localhost.example/", false);
        check("https://10.0.0.1/", false);
    }

    #[track_caller]
    fn check(url: &str, expected: bool) {
        assert_eq!(is_loopback(&url.parse().unwrap()), expected);
    }
}
