//! How a registry wants to be told who we are (RFC 6750, and Docker's token specification).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::login::Login;
use super::scope::Scope;
use super::{Credentials, CredentialsError, Repository};
use crate::fetch::{self, Options, Tried};
use crate::http::{Client, is_loopback};

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
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// What the specification says for a token that does not tell how long it lives.
const SHORTEST_LIFE: u64 = 60;

/// What opens a registry, and until when.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    /// Later than this a request should not start with it. Nothing: it lasts.
    pub(super) renew_at: Option<Instant>,
}

impl Authorization {
    fn lasting(header: HeaderValue) -> Self {
        Self { header, renew_at: None }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.renew_at.is_none_or(|at| Instant::now() < at)
    }
}

/// Both names are in use; the specification allows either.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// What the answer to a challenge needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desk<'a> {
    pub(super) client: &'a Client,
    pub(super) options: &'a Options,
    pub(super) credentials: &'a Credentials,
}

impl Desk<'_> {
    /// The `Authorization` that answers a `WWW-Authenticate`.
    pub(super) async fn answer(
        &self,
        repository: &Repository,
        scope: &Scope,
        challenge: &str,
    ) -> Result<Authorization, AuthError> {
        let registry = repository.registry().to_owned();
        let login = self.credentials.find(repository)?;
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            let header = login.as_ref().and_then(Login::header).cloned();
            return header.map(Authorization::lasting).ok_or(AuthError::NoCredentials { registry });
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthError::Scheme { registry, scheme: scheme.to_owned() });
        }
        let parameters = parameters(rest);
        let url = realm(&parameters, repository)?;
        let service = parameters.get("service").map(String::as_str);
        let asked = Instant::now();
        let bytes = self.ask(&url, service, scope, login.as_ref()).await.map_err(|tried| {
            AuthError::Refused { repository: repository.to_string(), tried: Box::new(tried) }
        })?;
        bearer(&bytes, asked).ok_or(AuthError::NoToken { registry })
    }

    async fn ask(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: &Scope,
        login: Option<&Login>,
    ) -> Result<Vec<u8>, Tried> {
        let url = token_url(realm, service, scope);
        let request = |client: &Client| match login {
            Some(Login::IdentityToken(token)) => {
                let form = token_form(service, scope, token.reveal());
                let form_type = "application/x-www-form-urlencoded";
                let request = client.request(Method::POST, realm.clone())?;
                Ok(request.header(CONTENT_TYPE, form_type).body(form))
            }
            Some(Login::Basic(header)) => {
                Ok(client.get(url.clone())?.header(AUTHORIZATION, header.clone()))
            }
            None => client.get(url.clone()),
        };
        fetch::answer(self.client, self.options, realm, request).await
    }
}

fn bearer(bytes: &[u8], asked: Instant) -> Option<Authorization> {
    let answer: TokenAnswer = serde_json::from_slice(bytes).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    let life = Duration::from_secs(answer.expires_in.unwrap_or(SHORTEST_LIFE));
    // A fifth earlier, because a request takes its time.
    Some(Authorization { header, renew_at: Some(asked + life.mul_f64(0.8)) })
}

/// Credentials and tokens travel over TLS, or stay on this machine, or go where somebody allowed
/// a registry to be without TLS.
fn realm(parameters: &BTreeMap<String, String>, repository: &Repository) -> Result<Url, AuthError> {
    let is_plain_registry = repository.root().scheme() == "http" && !is_loopback(repository.root());
    let is_own_host = |url: &Url| is_plain_registry && url.host() == repository.root().host();
    parameters
        .get("realm")
        .and_then(|realm| Url::parse(realm).ok())
        .filter(|url| {
            let is_allowed = is_loopback(url) || is_own_host(url);
            url.scheme() == "https" || (url.scheme() == "http" && is_allowed)
        })
        .ok_or_else(|| AuthError::Realm { registry: repository.registry().to_owned() })
}

/// Not the scope of the challenge: what is asked for is what will be done, and no more.
fn token_url(realm: &Url, service: Option<&str>, scope: &Scope) -> Url {
    let mut url = realm.clone();
    {
        let mut pairs = url.query_pairs_mut();
        pairs.extend_pairs(service.map(|service| ("service", service)));
        pairs.extend_pairs(scope.texts().map(|scope| ("scope", scope)));
    }
    url
}

/// What an identity token is exchanged with (Docker's OAuth2 token specification).
fn token_form(service: Option<&str>, scope: &Scope, token: &str) -> String {
    let scopes: Vec<_> = scope.texts().collect();
    let mut form = Url::parse("form:").unwrap_or_else(|_| unreachable!("a constant"));
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "etcdimg")
        .append_pair("service", service.unwrap_or_default())
        .append_pair("scope", &scopes.join(" "))
        .append_pair("refresh_token", token);
    form.query().unwrap_or_default().to_owned()
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
        let repository: Repository = "docker.io/library/busybox".parse().unwrap();
        let parameters = parameters(challenge);
        let service = parameters.get("service").map(String::as_str);
        let actual = match realm(&parameters, &repository) {
            Ok(url) => token_url(&url, service, &Scope::pull(&repository)).to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected);
    }

    #[test]
    fn identity_tokens_are_exchanged_by_a_form() {
        let repository: Repository = "a.example/etcd".parse().unwrap();
        insta::assert_snapshot!(
            token_form(Some("a b"), &Scope::push(&repository, &["base".to_owned()]), "s&t"),
            @"grant_type=refresh_token&client_id=etcdimg&service=a+b&scope=repository%3Aetcd%3Apull%2Cpush+repository%3Abase%3Apull&refresh_token=s%26t"
        );
    }

    #[test]
    fn tokens_are_renewed_before_they_end() {
        let asked = Instant::now();
        for (answer, expected) in [
            (r#"{"token": "t"}"#, Some(48)),
            (r#"{"access_token": "t", "expires_in": 300}"#, Some(240)),
            (r#"{"token": ""}"#, None),
            (r#"{"token": "line\nbreak"}"#, None),
            ("[]", None),
        ] {
            let renew_at = bearer(answer.as_bytes(), asked).and_then(|it| it.renew_at);
            assert_eq!(renew_at.map(|at| (at - asked).as_secs()), expected, "{answer}");
        }
    }
}
