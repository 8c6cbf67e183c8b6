//! The response of a registry, and what can be read from it. Pure.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, LOCATION, RANGE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use fetch::http::loses_tls;
use fetch::{TransferError, status_cause};
use oci::digest::Digest;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// How many characters of a registry's error message are shown.
const MESSAGE_LIMIT: usize = 300;

/// Without `Debug`: it may contain a token, or a location that is a secret.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The URL that answered, after redirects.
    pub(super) url: Url,
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Response {
    pub(super) fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The digest of the content, as the registry states it.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.text(&CONTENT_DIGEST)?.parse().ok()
    }

    pub(super) fn min_chunk(&self) -> u64 {
        self.text(&CHUNK_MIN_LENGTH).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// How many bytes of an upload have arrived: `Range: 0-41` means 42. `0-0` means none to old
    /// registries and one byte to new ones; it is read as none, which is safe.
    pub(super) fn received(&self) -> Option<u64> {
        let range = self.text(&RANGE)?.trim();
        let (_, end) = range.trim_start_matches("bytes=").split_once('-')?;
        let end: u64 = end.trim().parse().ok()?;
        Some(if end == 0 { 0 } else { end + 1 })
    }

    /// Where an upload continues, or a redirect leads: relative to the URL that answered, or
    /// absolute, with its query. A location without TLS is refused after one with TLS.
    pub(super) fn location(&self) -> Option<Url> {
        let location = self.url.join(self.text(&LOCATION)?).ok()?;
        let is_known = matches!(location.scheme(), "http" | "https");
        Some(location).filter(|to| is_known && !loses_tls(&self.url, to))
    }

    /// Why the same request may succeed later; `None` if it will not.
    pub(super) fn transient_failure(&self) -> Option<TransferError> {
        match status_cause(self.status, &self.headers) {
            TransferError::Status { code: StatusCode::FORBIDDEN, retry_after }
                if self.is_rate_limit() =>
            {
                Some(TransferError::RateLimited { code: self.status, retry_after })
            }
            cause => Some(cause).filter(TransferError::is_transient),
        }
    }

    /// GitHub's registry answers 403 to too many requests, where others answer 429.
    fn is_rate_limit(&self) -> bool {
        let words = String::from_utf8_lossy(&self.body).to_ascii_lowercase();
        self.headers.contains_key(reqwest::header::RETRY_AFTER)
            || ["rate limit", "toomanyrequests", "too many requests", "abuse detection"]
                .iter()
                .any(|limit| words.contains(limit))
    }

    /// Whether the registry asks for fewer requests, and for how long none should start.
    pub(super) fn throttles(&self) -> Option<Duration> {
        let is_about_rate = matches!(self.status.as_u16(), 403 | 429 | 503);
        let cause = self.transient_failure().filter(|_| is_about_rate)?;
        Some(cause.retry_after().unwrap_or(Duration::ZERO))
    }

    /// Whether the error has one of these codes (distribution-spec, "Error Codes").
    pub(super) fn has_code(&self, codes: &[&str]) -> bool {
        self.errors().iter().any(|entry| codes.contains(&entry.code.as_str()))
    }

    /// The error message of the registry: `DENIED: requested access to the resource is denied`.
    pub(super) fn message(&self) -> String {
        let entries =
            self.errors().into_iter().map(|entry| match (&*entry.code, &*entry.message) {
                ("", message) => message.to_owned(),
                (code, "") => code.to_owned(),
                (code, message) => format!("{code}: {message}"),
            });
        let all = entries.collect::<Vec<_>>().join("; ");
        all.chars().filter(|c| !c.is_control()).take(MESSAGE_LIMIT).collect()
    }

    fn errors(&self) -> Vec<ErrorEntry> {
        serde_json::from_slice::<ErrorBody>(&self.body).map(|it| it.errors).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
        let row = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(row).collect(),
            body: body.as_bytes().to_vec(),
            url: "https://a.example/v2/etcd/blobs/uploads/".parse().unwrap(),
        }
    }

    #[test]
    fn locations_are_relative_or_absolute_but_never_worse() {
        let check = |location: &str, expected: Option<&str>| {
            let response = response(202, &[("location", location)], "");
            assert_eq!(response.location().as_ref().map(Url::as_str), expected, "{location}");
        };
        check("/v2/x?a=b%2Fc", Some("https://a.example/v2/x?a=b%2Fc"));
        check("u1", Some("https://a.example/v2/etcd/blobs/uploads/u1"));
        check("https://b.example/x", Some("https://b.example/x"));
        check("//b.example/x", Some("https://b.example/x"));
        check("http://a.example/x", None);
        check("http://127.0.0.1/x", None);
        check("file:///etc/passwd", None);
        check("https://[", None);
    }

    #[test]
    fn ranges_say_how_much_is_there() {
        for (range, expected) in [
            ("0-41", Some(42)),
            ("0-0", Some(0)),
            ("bytes=0-9", Some(10)),
            ("x", None),
            ("0-", None),
        ] {
            assert_eq!(response(204, &[("range", range)], "").received(), expected, "{range}");
        }
        assert_eq!(response(204, &[], "").received(), None);
    }

    #[test]
    fn transient_failures_are_distinguished_from_permanent_ones() {
        let limit = r#"{"errors": [{"code": "DENIED", "message": "secondary rate limit"}]}"#;
        let denied = r#"{"errors": [{"code": "DENIED", "message": "no"}]}"#;
        for (status, headers, body, expected) in [
            (429, &[][..], "", true),
            (503, &[], "", true),
            (500, &[], "", true),
            (408, &[], "", true),
            (403, &[], limit, true),
            (403, &[("retry-after", "1")], "", true),
            (403, &[], denied, false),
            (404, &[], "", false),
            (201, &[], "", false),
        ] {
            let response = response(status, headers, body);
            assert_eq!(response.transient_failure().is_some(), expected, "{status} {body}");
        }
    }

    #[test]
    fn registries_are_quoted_but_not_at_length() {
        let message = |body: &str| response(400, &[], body).message();
        assert_eq!(message(r#"{"errors": [{"code": "A", "message": "b\u001bc"}]}"#), "A: bc");
        assert_eq!(message("<html>"), "");
        let long = format!(r#"{{"errors": [{{"message": "{}"}}]}}"#, "x".repeat(999));
        assert_eq!(message(&long).len(), MESSAGE_LIMIT);
    }
}
