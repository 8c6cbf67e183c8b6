//! The only module that makes HTTP clients.
//!
//! It decides how to connect: timeouts, proxies, certificates, redirects, the user agent. Not
//! responsible for: what is asked for, or when to ask again (`fetch`, `registry`).
#![expect(clippy::disallowed_methods, reason = "this is the one place that may")]

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use oci::reference::is_loopback;
pub use reqwest::Url;
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Method, RequestBuilder};

const USER_AGENT: &str = concat!("etcdimg/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 10;

/// Why no client can be made: this system has no certificates, for example.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot set up HTTP: {0}")]
pub struct ClientError(String);

/// Additional trusted authorities, and hosts without certificate verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsTrust {
    /// Certificates of authorities, in PEM.
    pub authorities: Vec<u8>,
    /// `host` or `host:port` whose certificate is not verified.
    pub unverified: BTreeSet<String>,
}

impl TlsTrust {
    /// Whether PEM contains certificates that can be used.
    pub fn check(authorities: &[u8]) -> Result<(), ClientError> {
        match Certificate::from_pem_bundle(authorities) {
            Ok(known) if !known.is_empty() => Ok(()),
            Ok(_) => Err(ClientError("it contains no certificate".to_owned())),
            Err(error) => Err(ClientError(reason(&error))),
        }
    }

    /// Whether the certificate of this host is not verified.
    pub fn is_unverified(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        self.unverified.contains(host) || self.unverified.contains(&format!("{host}:{port}"))
    }
}

/// Sends requests. The parts that connect are made with the first request, because they read every
/// certificate of the system, and a run that finds everything in the cache needs none.
#[derive(Debug)]
pub struct Client {
    trust: TlsTrust,
    connect_timeout: Duration,
    /// The longest time without a byte of a response; `None` if the caller watches over this.
    stall_timeout: Option<Duration>,
    redirects: usize,
    outward: OnceLock<reqwest::Client>,
    loopback: OnceLock<reqwest::Client>,
    unverified: OnceLock<reqwest::Client>,
}

impl Client {
    /// For downloads: follows redirects, and notices a server that sends nothing.
    pub fn new(connect_timeout: Duration, stall_timeout: Duration) -> Self {
        Self {
            trust: TlsTrust::default(),
            connect_timeout,
            stall_timeout: Some(stall_timeout),
            redirects: MAX_REDIRECTS,
            outward: OnceLock::new(),
            loopback: OnceLock::new(),
            unverified: OnceLock::new(),
        }
    }

    /// For registries: redirects are returned, because only the caller can send a body again and
    /// knows where a login may be sent; and the caller notices stalls, because a server is silent
    /// while it receives.
    pub fn without_redirects(connect_timeout: Duration) -> Self {
        Self { stall_timeout: None, redirects: 0, ..Self::new(connect_timeout, Duration::ZERO) }
    }

    #[must_use]
    pub fn trusting(self, trust: TlsTrust) -> Self {
        Self { trust, ..self }
    }

    /// The longest time without a byte of a response.
    pub fn stall_timeout(&self) -> Duration {
        self.stall_timeout.unwrap_or_default()
    }

    /// A GET that is not yet sent.
    pub fn get(&self, url: Url) -> Result<RequestBuilder, ClientError> {
        self.request(Method::GET, url)
    }

    /// A request that is not yet sent.
    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, ClientError> {
        let client = if self.trust.is_unverified(&url) {
            let builder = |it: ClientBuilder| it.tls_danger_accept_invalid_certs(true);
            self.made(&self.unverified, &url, builder)?
        } else if is_loopback(&url) {
            self.made(&self.loopback, &url, |it| it)?
        } else {
            self.made(&self.outward, &url, |it| it)?
        };
        Ok(client.request(method, url))
    }

    fn made<'a>(
        &self,
        known: &'a OnceLock<reqwest::Client>,
        url: &Url,
        more: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<&'a reqwest::Client, ClientError> {
        if let Some(client) = known.get() {
            return Ok(client);
        }
        let failed = |error: reqwest::Error| ClientError(reason(&error));
        let policy = match self.redirects {
            0 => Policy::none(),
            // Takes the Authorization header away when the host, port or scheme changes.
            most => Policy::custom(move |attempt| match attempt.previous().last() {
                Some(from) if loses_tls(from, attempt.url()) => attempt.error(InsecureRedirect),
                _ => Policy::limited(most).redirect(attempt),
            }),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(self.connect_timeout)
            .redirect(policy)
            // A signed URL is a secret, and must not be sent to the host of a redirect.
            .referer(false);
        if is_loopback(url) {
            // A proxy would ask its own loopback. Go does the same.
            builder = builder.no_proxy();
        }
        if let Some(timeout) = self.stall_timeout {
            builder = builder.read_timeout(timeout);
        }
        if !self.trust.authorities.is_empty() {
            let known = Certificate::from_pem_bundle(&self.trust.authorities).map_err(failed)?;
            builder = builder.tls_certs_merge(known);
        }
        let client = more(builder).build().map_err(failed)?;
        Ok(known.get_or_init(|| client))
    }
}

/// Why a redirect is not followed.
#[derive(Debug, thiserror::Error)]
#[error("refusing a redirect from https to http")]
struct InsecureRedirect;

/// Whether a redirect from one URL to another gives up TLS. Within this machine that is harmless.
pub fn loses_tls(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() == "http" && !(is_loopback(from) && is_loopback(to))
}

/// The innermost cause: `Connection refused (os error 111)`. The outer ones only repeat the
/// URL, which may contain a secret.
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

    #[test]
    fn redirects_must_not_give_up_tls() {
        for (from, to, expected) in [
            ("https://a.example/", "http://a.example/", true),
            ("https://127.0.0.1/", "http://a.example/", true),
            ("https://a.example/", "http://127.0.0.1/", true),
            ("https://127.0.0.1/", "http://localhost/", false),
            ("https://a.example/", "https://b.example/", false),
            ("http://a.example/", "http://b.example/", false),
        ] {
            assert_eq!(loses_tls(&from.parse().unwrap(), &to.parse().unwrap()), expected, "{to}");
        }
    }

    #[test]
    fn only_named_hosts_are_not_verified() {
        let trust = TlsTrust {
            unverified: ["a.example".to_owned(), "b.example:5000".to_owned()].into(),
            ..TlsTrust::default()
        };
        for (url, expected) in [
            ("https://a.example/", true),
            ("https://a.example:5000/", true),
            ("https://b.example:5000/", true),
            ("https://b.example/", false),
            ("https://a.example.org/", false),
        ] {
            assert_eq!(trust.is_unverified(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        assert!(TlsTrust::check(b"").is_err());
        assert!(TlsTrust::check(b"-----BEGIN CERTIFICATE-----\nno\n").is_err());
    }
}
