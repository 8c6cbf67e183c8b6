//! The answer to a challenge: a login, or a token that is asked for with it (RFC 6750, and
//! Docker's token specification).

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

pub(super) use super::challenge::Challenge;
use super::login::Login;
use super::scope::Scope;
use super::{Credentials, CredentialsError};
use fetch::http::Client;
use fetch::{self, FetchOptions, MirrorFailure};
use oci::Repository;
use oci::reference::is_loopback;

/// Why a registry cannot be logged in to. Contains no secret.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("{registry} asks for a login, and none is known for it")]
    NoCredentials { registry: String },
    #[error("{registry} asks for a login by `{scheme}`; only Basic and Bearer are supported")]
    Scheme { registry: String, scheme: String },
    #[error("{registry} names no token server that can be used: a URL with https is needed")]
    Realm { registry: String },
    #[error("cannot get a token for {repository}\n  {failure}")]
    Refused { repository: String, failure: Box<MirrorFailure> },
    #[error("the response of the token server of {registry} contains no token")]
    NoToken { registry: String },
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// The lifetime of a token whose response does not state one, in seconds, as the specification
/// says.
const DEFAULT_LIFETIME: u64 = 60;

/// The value of an `Authorization` header, and how long it can be used.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    /// When to ask for a new token; `None` if the value does not expire.
    pub(super) renew_at: Option<Instant>,
}

impl Authorization {
    fn without_expiry(header: HeaderValue) -> Self {
        Self { header, renew_at: None }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.renew_at.is_none_or(|at| Instant::now() < at)
    }
}

/// Both names of the token are in use; the specification allows either.
#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Answers challenges with the logins of the user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Authenticator<'a> {
    pub(super) client: &'a Client,
    pub(super) options: &'a FetchOptions,
    pub(super) credentials: &'a Credentials,
}

impl Authenticator<'_> {
    /// The `Authorization` that answers a challenge.
    pub(super) async fn authorize(
        &self,
        repository: &Repository,
        scope: &Scope,
        challenge: &Challenge,
    ) -> Result<Authorization, AuthError> {
        let registry = repository.registry().to_owned();
        let login = self.credentials.find(repository)?;
        if challenge.is("basic") {
            let header = login.as_ref().and_then(Login::header).cloned();
            let header = header.ok_or(AuthError::NoCredentials { registry })?;
            return Ok(Authorization::without_expiry(header));
        }
        if !challenge.is("bearer") {
            return Err(AuthError::Scheme { registry, scheme: challenge.scheme.clone() });
        }
        let url = realm(challenge, repository)?;
        let service = challenge.parameter("service");
        let asked = Instant::now();
        let token = self.request_token(&url, service, scope, login.as_ref()).await;
        let body = token.map_err(|failure| AuthError::Refused {
            repository: repository.to_string(),
            failure: Box::new(failure),
        })?;
        bearer(&body, asked).ok_or(AuthError::NoToken { registry })
    }

    async fn request_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: &Scope,
        login: Option<&Login>,
    ) -> Result<Vec<u8>, MirrorFailure> {
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
        fetch::short_body(self.client, self.options, realm, request).await
    }
}

fn bearer(bytes: &[u8], asked: Instant) -> Option<Authorization> {
    let response: TokenResponse = serde_json::from_slice(bytes).ok()?;
    let token = response.token.or(response.access_token).filter(|token| !token.is_empty())?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    let lifetime = Duration::from_secs(response.expires_in.unwrap_or(DEFAULT_LIFETIME));
    // Renewed before its end, so that it does not expire during a request.
    Some(Authorization { header, renew_at: Some(asked + lifetime.mul_f64(0.8)) })
}

/// The URL of the token server. Logins and tokens travel over TLS, or stay on this machine, or go
/// to the host of a registry that the user named as insecure.
fn realm(challenge: &Challenge, repository: &Repository) -> Result<Url, AuthError> {
    let is_plain_registry = repository.root().scheme() == "http" && !is_loopback(repository.root());
    let is_own_host = |url: &Url| is_plain_registry && url.host() == repository.root().host();
    challenge
        .parameter("realm")
        .and_then(|realm| Url::parse(realm).ok())
        .filter(|url| {
            let is_allowed = is_loopback(url) || is_own_host(url);
            url.scheme() == "https" || (url.scheme() == "http" && is_allowed)
        })
        .ok_or_else(|| AuthError::Realm { registry: repository.registry().to_owned() })
}

/// With the scope of what will be done, and not that of the challenge, which may be wider.
fn token_url(realm: &Url, service: Option<&str>, scope: &Scope) -> Url {
    let mut url = realm.clone();
    {
        let mut pairs = url.query_pairs_mut();
        pairs.extend_pairs(service.map(|service| ("service", service)));
        pairs.extend_pairs(scope.texts().map(|scope| ("scope", scope)));
    }
    url
}

/// The form that exchanges an identity token (Docker's OAuth2 token specification).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_become_token_urls() {
        check(
            r#"Bearer realm="https://auth.example/token",service="a b",scope="repository:x:pull,push""#,
            "https://auth.example/token?service=a+b&scope=repository%3Alibrary%2Fbusybox%3Apull",
        );
        check(
            r#"Bearer Service = a , realm="http://127.0.0.1:5000/token?a=b""#,
            "http://127.0.0.1:5000/token?a=b&service=a&scope=repository%3Alibrary%2Fbusybox%3Apull",
        );
        let refused =
            "docker.io names no token server that can be used: a URL with https is needed";
        check(r#"Bearer realm="http://auth.example/token""#, refused);
        check("Bearer", refused);
        check(
            r#"Bearer realm="https://auth.example""#,
            "https://auth.example/?scope=repository%3Alibrary%2Fbusybox%3Apull",
        );
    }

    #[track_caller]
    fn check(challenge: &str, expected: &str) {
        let repository: Repository = "docker.io/library/busybox".parse().unwrap();
        let challenge = Challenge::parse(challenge).unwrap();
        let actual = match realm(&challenge, &repository) {
            Ok(url) => token_url(&url, challenge.parameter("service"), &Scope::pull(&repository))
                .to_string(),
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
