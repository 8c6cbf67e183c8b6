//! What the head of a response means for the bytes that are already there. Pure.

use std::time::SystemTime;

use reqwest::StatusCode;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
    RETRY_AFTER,
};

use super::expected::ExpectedFile;
use super::{TransferError, retry};

/// What to do with the body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// The body continues where the partial file ends.
    Appends { total: Option<u64> },
    /// The body is the whole file.
    StartsOver { total: Option<u64> },
    /// The partial file has all bytes.
    Complete,
    /// This server cannot continue there: ask for the whole file.
    AskForAll,
}

impl Resume {
    /// `position` is the offset that the request asked for.
    pub(super) fn of(
        status: StatusCode,
        headers: &HeaderMap,
        position: u64,
        file: &ExpectedFile<'_>,
    ) -> Result<Self, TransferError> {
        let range = text(headers, &CONTENT_RANGE).and_then(parse_range);
        match status {
            StatusCode::OK => {
                let total = text(headers, &CONTENT_LENGTH).and_then(|value| value.parse().ok());
                check_total(total, file)?;
                Ok(Self::StartsOver { total })
            }
            StatusCode::PARTIAL_CONTENT if position == 0 => Err(TransferError::Protocol(
                "206 Partial Content, but no range was asked for".to_owned(),
            )),
            StatusCode::PARTIAL_CONTENT => match range {
                Some(ContentRange { start: Some(start), total }) if start == position => {
                    check_total(total, file)?;
                    Ok(Self::Appends { total })
                }
                _ => Ok(Self::AskForAll),
            },
            StatusCode::RANGE_NOT_SATISFIABLE if position > 0 => match range {
                Some(ContentRange { start: None, total: Some(total) }) if total == position => {
                    Ok(Self::Complete)
                }
                _ => Ok(Self::AskForAll),
            },
            code => Err(status_cause(code, headers)),
        }
    }
}

/// Names the version of a file, for `If-Range`: only a strong one may (RFC 9110, 13.1.5).
pub(super) fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers.get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    strong.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

/// A file of the wrong size is refused before its bytes are sent.
fn check_total(total: Option<u64>, file: &ExpectedFile<'_>) -> Result<(), TransferError> {
    match (file.size, total) {
        (Some(expected), Some(received)) if received != expected => {
            Err(TransferError::WrongSize { expected, received })
        }
        (_, Some(total)) if total > file.limit => Err(TransferError::TooLong { limit: file.limit }),
        _ => Ok(()),
    }
}

/// Why a response is not what was asked for.
pub fn status_cause(code: StatusCode, headers: &HeaderMap) -> TransferError {
    #[expect(clippy::disallowed_methods, reason = "Retry-After may be a date; no image sees it")]
    let now = SystemTime::now();
    TransferError::Status {
        code,
        retry_after: text(headers, &RETRY_AFTER).and_then(|value| retry::retry_after(value, now)),
    }
}

struct ContentRange {
    start: Option<u64>,
    total: Option<u64>,
}

/// `bytes 5-9/10`, `bytes 5-9/*`, `bytes */10`.
fn parse_range(value: &str) -> Option<ContentRange> {
    let (range, total) = value.strip_prefix("bytes ")?.trim().split_once('/')?;
    let total = total.parse().ok();
    let start = match range {
        "*" => None,
        range => Some(range.split_once('-')?.0.parse().ok()?),
    };
    Some(ContentRange { start, total })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::digest::Digest;

    #[test]
    fn a_whole_file_starts_over() {
        check(200, &[("content-length", "10")], 0, "StartsOver { total: Some(10) }");
        check(200, &[("content-length", "10")], 4, "StartsOver { total: Some(10) }");
        check(200, &[], 0, "StartsOver { total: None }");
        check(
            200,
            &[("content-length", "11")],
            0,
            "wrong size\n    expected 10 bytes\n    received 11 bytes",
        );
    }

    #[test]
    fn a_range_must_go_on_where_the_file_ends() {
        let range = |value| [("content-range", value)];
        check(206, &range("bytes 4-9/10"), 4, "Appends { total: Some(10) }");
        check(206, &range("bytes 4-9/*"), 4, "Appends { total: None }");
        check(206, &range("bytes 0-9/10"), 4, "AskForAll");
        check(206, &range("bytes 5-9/10"), 4, "AskForAll");
        check(206, &range("lines 4-9/10"), 4, "AskForAll");
        check(206, &[], 4, "AskForAll");
        check(
            206,
            &range("bytes 4-11/12"),
            4,
            "wrong size\n    expected 10 bytes\n    received 12 bytes",
        );
        check(
            206,
            &range("bytes 0-9/10"),
            0,
            "broken HTTP: 206 Partial Content, but no range was asked for",
        );
    }

    #[test]
    fn a_range_that_does_not_exist_starts_over() {
        check(416, &[("content-range", "bytes */10")], 4, "AskForAll");
        check(416, &[], 4, "AskForAll");
        check(416, &[("content-range", "bytes */10")], 10, "Complete");
        check(416, &[], 0, "416 Range Not Satisfiable");
    }

    #[test]
    fn everything_else_is_a_refusal() {
        check(404, &[], 4, "404 Not Found");
        check(204, &[], 0, "204 No Content");
        check(302, &[], 0, "302 Found");
    }

    #[test]
    fn only_strong_validators_are_used() {
        let with = |rows: &[(&'static str, &str)]| {
            validator(&headers(rows)).map(|value| value.to_str().unwrap().to_owned())
        };
        let date = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(with(&[("etag", "\"a\""), date]).as_deref(), Some("\"a\""));
        assert_eq!(with(&[("etag", "W/\"a\""), date]).as_deref(), Some(date.1));
        assert_eq!(with(&[("etag", "W/\"a\"")]), None);
    }

    #[track_caller]
    fn check(status: u16, rows: &[(&'static str, &str)], position: u64, expected: &str) {
        let blob =
            ExpectedFile { name: "etcd", digest: Digest::of(b""), size: Some(10), limit: 10 };
        let status = StatusCode::from_u16(status).unwrap();
        let actual = match Resume::of(status, &headers(rows), position, &blob) {
            Ok(resume) => format!("{resume:?}"),
            Err(cause) => cause.to_string(),
        };
        assert_eq!(actual, expected);
    }

    fn headers(rows: &[(&'static str, &str)]) -> HeaderMap {
        let row = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        rows.iter().map(row).collect()
    }
}
