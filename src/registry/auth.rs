//! How a registry wants to be told who we are (RFC 6750, and Docker's token specification).

use std::collections::BTreeMap;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::{Credentials, Repository};
use crate::fetch::{Downloader, Tried};
use crate::http::is_loopback;

/// Why a registry does not let us in. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("{registry} wants a login, and there is none for it")]
    NoCredentials { registry: String },
    #[error("{registry} asks for a login in a way that is not known here: `{scheme}`")]
    Scheme { registry: String, scheme: String },
    #[error("{registry} names no usable token server")]
    Realm { registry: String },
    #[error("no token for {repository}\n  {tried}")]
    Refused { repository: String, tried: Box<Tried> },
    #[error("the token server of {registry} gave no token")]
    NoToken { registry: String },
}

/// Both names are in use; the specification allows either.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The `Authorization` that answers a `WWW-Authenticate`.
pub(super) async fn answer(
    downloader: &Downloader<'_>,
    credentials: &Credentials,
    repository: &Repository,
    challenge: &str,
) -> Result<HeaderValue, AuthError> {
    let registry = repository.registry().to_owned();
    let basic = credentials.basic(&registry);
    let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return basic.cloned().ok_or(AuthError::NoCredentials { registry });
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Scheme { registry, scheme: scheme.to_owned() });
    }
    let url = token_url(&parameters(rest), repository)?;
    let headers: HeaderMap =
        basic.map(|basic| (AUTHORIZATION, basic.clone())).into_iter().collect();
    let bytes = downloader.answer(&url, &headers).await.map_err(|tried| AuthError::Refused {
        repository: repository.to_string(),
        tried: Box::new(tried),
    })?;
    bearer(&bytes).ok_or(AuthError::NoToken { registry })
}

fn bearer(bytes: &[u8]) -> Option<HeaderValue> {
    let answer: TokenAnswer = serde_json::from_slice(bytes).ok()?;
    let token = answer.token.or(answer.access_token)?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Credentials and tokens travel over TLS, or stay on this machine.
fn token_url(
    parameters: &BTreeMap<String, String>,
    repository: &Repository,
) -> Result<Url, AuthError> {
    let mut url = parameters
        .get("realm")
        .and_then(|realm| Url::parse(realm).ok())
        .filter(|url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)))
        .ok_or_else(|| AuthError::Realm { registry: repository.registry().to_owned() })?;
    // Not the scope of the challenge: more than to pull is never asked for.
    let scope = format!("repository:{}:pull", repository.path());
    if let Some(service) = parameters.get("service") {
        url.query_pairs_mut().append_pair("service", service);
    }
    url.query_pairs_mut().append_pair("scope", &scope);
    Ok(url)
}

/// `realm="https://a/token",service="a",scope="repository:b:pull,push"`
fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        let name = name.trim_start_matches([',', ' ']).trim_end().to_ascii_lowercase();
        parameters.insert(name, value.trim().to_owned());
        text = rest;
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_become_token_urls() {
        check(
            r#"realm="https://auth.example/token",service="a b",scope="repository:x:pull,push""#,
            "https://auth.example/token?service=a+b&scope=repository%3Alibrary%2Fbusybox%3Apull",
        );
        check(
            r#"Service = a , realm="http://127.0.0.1:5000/token?a=b""#,
            "http://127.0.0.1:5000/token?a=b&service=a&scope=repository%3Alibrary%2Fbusybox%3Apull",
        );
        check(r#"realm="http://auth.example/token""#, "docker.io names no usable token server");
        check("", "docker.io names no usable token server");
        check(
            r#"realm="https://auth.example"#,
            "https://auth.example/?scope=repository%3Alibrary%2Fbusybox%3Apull",
        );
    }

    #[track_caller]
    fn check(challenge: &str, expected: &str) {
        let repository = "docker.io/library/busybox".parse().unwrap();
        let actual = match token_url(&parameters(challenge), &repository) {
            Ok(url) => url.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected);
    }
}
