//! What a registry answered, and how much of it can be believed. Pure.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, LOCATION, RANGE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::digest::Digest;
use crate::fetch::{Cause, challenge, refusal};
use crate::http::loses_tls;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// How much of a registry's words is passed on.
const SAID_LIMIT: usize = 300;

/// Without `Debug`: it may hold a token, or a location that opens something.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// What was asked, after redirects.
    pub(super) url: Url,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Answer {
    pub(super) fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn challenge(&self) -> Option<&str> {
        challenge(&self.headers)
    }

    /// What the registry says the content is.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.text(&CONTENT_DIGEST)?.parse().ok()
    }

    pub(super) fn smallest_chunk(&self) -> u64 {
        self.text(&CHUNK_MIN_LENGTH).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// How many bytes of an upload are there: `Range: 0-41` means 42. Old registries write `0-0`
    /// for none, and new ones for one byte; nobody uploads one byte at a time.
    pub(super) fn received(&self) -> Option<u64> {
        let range = self.text(&RANGE)?.trim();
        let (_, end) = range.trim_start_matches("bytes=").split_once('-')?;
        let end: u64 = end.trim().parse().ok()?;
        Some(if end == 0 { 0 } else { end + 1 })
    }

    /// Where an upload goes on: relative to what was asked, or absolute, its query kept. Nobody
    /// is led from TLS to a place without.
    pub(super) fn location(&self) -> Option<Url> {
        let location = self.url.join(self.text(&LOCATION)?).ok()?;
        let is_known = matches!(location.scheme(), "http" | "https");
        Some(location).filter(|to| is_known && !loses_tls(&self.url, to))
    }

    pub(super) fn is_redirect(&self) -> bool {
        matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308)
    }

    /// Why the same request may do better later, and when.
    pub(super) fn busy(&self) -> Option<Cause> {
        let is_limited = self.status == StatusCode::FORBIDDEN && self.speaks_of_a_limit();
        let cause = refusal(self.status, &self.headers);
        (cause.may_pass() || is_limited).then_some(cause)
    }

    /// GitHub's registry answers 403 when somebody asks too often, which others never mean by it.
    fn speaks_of_a_limit(&self) -> bool {
        let words = String::from_utf8_lossy(&self.body).to_ascii_lowercase();
        self.headers.contains_key(reqwest::header::RETRY_AFTER)
            || ["rate limit", "toomanyrequests", "too many requests", "abuse detection"]
                .iter()
                .any(|limit| words.contains(limit))
    }

    /// Whether the whole registry asks for less.
    pub(super) fn asks_for_less(&self) -> Option<Duration> {
        let is_about_rate = matches!(self.status.as_u16(), 403 | 429 | 503);
        let Cause::Status { retry_after, .. } = self.busy()? else { return None };
        is_about_rate.then(|| retry_after.unwrap_or(Duration::ZERO))
    }

    /// Whether the error has one of these codes (distribution-spec, "Error Codes").
    pub(super) fn has_code(&self, codes: &[&str]) -> bool {
        self.errors().iter().any(|entry| codes.contains(&entry.code.as_str()))
    }

    /// The registry's own words: `DENIED: requested access to the resource is denied`.
    pub(super) fn said(&self) -> String {
        let entries =
            self.errors().into_iter().map(|entry| match (&*entry.code, &*entry.message) {
                ("", message) => message.to_owned(),
                (code, "") => code.to_owned(),
                (code, message) => format!("{code}: {message}"),
            });
        let said = entries.collect::<Vec<_>>().join("; ");
        said.chars().filter(|c| !c.is_control()).take(SAID_LIMIT).collect()
    }

    fn errors(&self) -> Vec<Entry> {
        serde_json::from_slice::<Errors>(&self.body).map(|it| it.errors).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::WWW_AUTHENTICATE;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let row = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(row).collect(),
            body: body.as_bytes().to_vec(),
            url: "https://a.example/v2/etcd/blobs/uploads/".parse().unwrap(),
        }
    }

    #[test]
    fn locations_are_relative_or_absolute_but_never_worse() {
        let check = |location: &str, expected: Option<&str>| {
            let answer = answer(202, &[("location", location)], "");
            assert_eq!(answer.location().as_ref().map(Url::as_str), expected, "{location}");
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
            assert_eq!(answer(204, &[("range", range)], "").received(), expected, "{range}");
        }
        assert_eq!(answer(204, &[], "").received(), None);
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
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
            let answer = answer(status, headers, body);
            assert_eq!(answer.busy().is_some(), expected, "{status} {body}");
        }
    }

    #[test]
    fn registries_are_quoted_but_not_at_length() {
        let said = |body: &str| answer(400, &[], body).said();
        assert_eq!(said(r#"{"errors": [{"code": "A", "message": "b\u001bc"}]}"#), "A: bc");
        assert_eq!(said("<html>"), "");
        let long = format!(r#"{{"errors": [{{"message": "{}"}}]}}"#, "x".repeat(999));
        assert_eq!(said(&long).len(), SAID_LIMIT);
    }

    #[test]
    fn a_bearer_token_is_preferred() {
        let mut both = answer(401, &[("www-authenticate", "Basic realm=\"a\"")], "");
        assert_eq!(both.challenge(), Some("Basic realm=\"a\""));
        both.headers.append(WWW_AUTHENTICATE, "Bearer realm=\"b\"".parse().unwrap());
        assert_eq!(both.challenge(), Some("Bearer realm=\"b\""));
    }
}
