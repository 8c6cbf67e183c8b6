//! Writes keys and leases by the JSON form of the v3 API, and sends plain requests to the same
//! server.
//!
//! Repeats what the cluster was not ready for, so each request must be one that may come twice.

use std::time::Duration;

use serde_json::Value;

use super::http::{self, HttpRequest, HttpResponse};
use super::poll::Poll;
use super::server::Server;
use crate::error::{MigrateError, MigrateErrorKind};

/// Longer than etcd itself waits for its cluster.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
/// The first status by which a server says that it cannot answer now.
const NOT_NOW: u16 = 500;

/// A client of one server.
#[derive(Debug)]
pub struct JsonGateway<'s, 'a> {
    pub server: &'s mut Server<'a>,
    /// How long a request is repeated.
    pub limit: Duration,
}

/// How a lease came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOrigin {
    New,
    Existing,
}

impl JsonGateway<'_, '_> {
    /// Sends a request until the server answers it. An answer may be a refusal.
    pub fn send(&mut self, request: HttpRequest<'_>) -> Result<HttpResponse, MigrateError> {
        let poll = Poll::start();
        loop {
            self.server.check()?;
            let reason = match http::send(self.server.address(), request, RESPONSE_TIMEOUT) {
                Ok(response) if response.status < NOT_NOW => return Ok(response),
                Ok(response) => response.body,
                Err(error) => error.to_string(),
            };
            if poll.is_longer_than(self.limit) {
                return Err(refused(request, &reason));
            }
            poll.pause();
        }
    }

    /// Grants a lease with this ID, unless there is one already.
    pub fn grant(&mut self, lease: i64, seconds: i64) -> Result<LeaseOrigin, MigrateError> {
        let body = format!(r#"{{"ID":"{lease}","TTL":"{seconds}"}}"#);
        let request = post("/v3/lease/grant", &body);
        let response = self.send(request)?;
        match response.status {
            200 => Ok(LeaseOrigin::New),
            _ if response.body.contains("lease already exists") => Ok(LeaseOrigin::Existing),
            _ => Err(refused(request, &response.body)),
        }
    }

    /// Ends a lease, if there is one.
    pub fn revoke(&mut self, lease: i64) -> Result<(), MigrateError> {
        self.send(post("/v3/lease/revoke", &format!(r#"{{"ID":"{lease}"}}"#))).map(drop)
    }

    /// Writes the keys that do not exist, all of them at once; their number. Those that exist are
    /// what they were. Nothing is written, and `None` returned, if the lease has ended. The lease 0
    /// is none.
    pub fn put_missing(
        &mut self,
        pairs: &[(&str, &str)],
        lease: i64,
    ) -> Result<Option<usize>, MigrateError> {
        let puts: Vec<_> =
            pairs.iter().map(|(key, value)| put_if_missing(key, value, lease)).collect();
        let body = format!(r#"{{"success":[{}]}}"#, puts.join(","));
        let request = post("/v3/kv/txn", &body);
        let response = self.send(request)?;
        if response.body.contains("requested lease not found") {
            return Ok(None);
        }
        let answer = response.json();
        let each = answer["responses"].as_array().filter(|each| each.len() == pairs.len());
        let each = each.ok_or_else(|| refused(request, &response.body))?;
        let is_new = |response: &&Value| response["response_txn"]["succeeded"] == true;
        Ok(Some(each.iter().filter(is_new).count()))
    }
}

/// A transaction in a transaction, so that each key is compared alone.
fn put_if_missing(key: &str, value: &str, lease: i64) -> String {
    let [key, value] = [key, value].map(|text| base64(text.as_bytes()));
    format!(
        r#"{{"request_txn":{{"compare":[{{"key":"{key}","target":"CREATE","create_revision":"0"}}],"success":[{{"request_put":{{"key":"{key}","value":"{value}","lease":"{lease}"}}}}]}}}}"#
    )
}

fn post<'a>(path: &'a str, body: &'a str) -> HttpRequest<'a> {
    HttpRequest { method: "POST", path, body }
}

fn refused(request: HttpRequest<'_>, reason: &str) -> MigrateError {
    let HttpRequest { method, path, .. } = request;
    let start: String = reason.chars().take(300).collect();
    let what = format_args!("etcd refused `{method} {path}`: {}", start.escape_debug());
    MigrateError::new(MigrateErrorKind::StepFailed, what)
}

/// As JSON holds bytes in protobuf.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for block in bytes.chunks(3) {
        let byte = |index| u32::from(block.get(index).copied().unwrap_or_default());
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * index) & 63) as usize];
            text.push(if index > block.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_in_rfc_4648() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xff\xfe\xfd\0", "//79AA=="),
        ] {
            assert_eq!(base64(bytes), expected);
        }
    }

    #[test]
    fn each_key_is_compared_alone() {
        let text = put_if_missing("/a", "1", 7);
        let json: Value = serde_json::from_str(&text).unwrap();
        let txn = &json["request_txn"];
        assert_eq!(txn["compare"][0]["key"], "L2E=");
        assert_eq!(txn["compare"][0]["create_revision"], "0");
        assert_eq!(txn["success"][0]["request_put"]["value"], "MQ==");
        assert_eq!(txn["success"][0]["request_put"]["lease"], "7");
    }
}
