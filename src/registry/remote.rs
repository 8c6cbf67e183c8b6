//! One repository of a registry, and the one way to ask something of it: with authorization,
//! patience, and an eye on the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::answer::Answer;
use super::auth::{AuthError, Authorization};
use super::payload::{Payload, Sent};
use super::scope::Scope;
use super::{Host, MANIFEST_LIMIT, RemoteError, Repository};
use crate::fetch::{self, Cause};

const MOST_REDIRECTS: u32 = 5;

/// So many times the longest silence, for an answer to what is long.
const FILE_PATIENCE: u32 = 4;

/// A token can end between two requests and in the middle of one. More often than this, it is
/// not the token.
const MOST_CHALLENGES: u32 = 2;

/// A repository that we work in.
#[derive(Clone, Debug)]
pub struct Remote {
    pub(super) host: Arc<Host>,
    repository: Repository,
    scope: Scope,
    requests: Arc<AtomicU64>,
}

/// A request that can be sent as often as it takes. Without `Debug`: an upload's location may
/// hold what opens it.
#[derive(Clone)]
pub(super) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    payload: Payload,
    sent: Sent,
}

/// Why there was no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    Cause(Cause),
    Auth(AuthError),
    File(std::io::Error),
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        let (headers, payload, sent) = (HeaderMap::new(), Payload::Nothing, Sent::default());
        Self { method, url, headers, payload, sent }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn with(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }

    pub(super) fn counting(self, sent: &Sent) -> Self {
        Self { sent: sent.clone(), ..self }
    }
}

impl Remote {
    /// To pull from a repository.
    pub fn pulling(host: Arc<Host>, repository: Repository) -> Self {
        let scope = Scope::pull(&repository);
        Self { host, repository, scope, requests: Arc::default() }
    }

    /// To push into a repository; `sources` are paths of others in the same registry that blobs
    /// may be mounted from.
    pub fn pushing(host: Arc<Host>, repository: Repository, sources: &[String]) -> Self {
        let scope = Scope::push(&repository, sources);
        Self { host, repository, scope, requests: Arc::default() }
    }

    /// How many requests the registry got for this repository, those included that were in vain. Its
    /// token server is another host.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Asks until there is an answer that is about what was asked, and not about the registry's
    /// health.
    pub(super) async fn ask(&self, what: &str, call: &Call) -> Result<Answer, RemoteError> {
        let mut attempts = 1;
        loop {
            let (cause, answer) = match self.send(call).await {
                Ok(answer) => match answer.busy() {
                    None => return Ok(answer),
                    Some(cause) => (cause, Some(answer)),
                },
                Err(NoAnswer::Cause(cause)) => (cause, None),
                Err(other) => return Err(other.failed(what, attempts)),
            };
            let Some(wait) = self.wait_before(attempts + 1, &cause) else {
                return Err(match answer {
                    Some(answer) => RemoteError::refused(what, &answer),
                    None => NoAnswer::Cause(cause).failed(what, attempts),
                });
            };
            attempts += 1;
            self.pause(what, &cause, attempts, wait).await;
        }
    }

    /// How long to wait before asking again; nothing when that is of no use.
    pub(super) fn wait_before(&self, next_attempt: u32, cause: &Cause) -> Option<Duration> {
        let options = &self.host.options.fetch;
        match cause {
            // What `Answer::busy` says of a 403: it passes, as a 429 would.
            Cause::Status { code: StatusCode::FORBIDDEN, retry_after, .. } => {
                let code = StatusCode::TOO_MANY_REQUESTS;
                let cause = Cause::Status { code, retry_after: *retry_after, challenge: None };
                fetch::wait_before(next_attempt, &cause, options)
            }
            cause => fetch::wait_before(next_attempt, cause, options),
        }
    }

    pub(super) async fn pause(&self, what: &str, cause: &Cause, attempt: u32, wait: Duration) {
        let (attempts, seconds) = (self.host.options.fetch.attempts, wait.as_secs_f64());
        let text = format!("{what}: {cause}; attempt {attempt} of {attempts} in {seconds:.1} s");
        self.host.options.ui.status("Retrying", text);
        tokio::time::sleep(wait).await;
    }

    /// Asks once; who we are is said as often as the registry wants to hear it, and redirects are
    /// followed.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, NoAnswer> {
        let mut call = call.clone();
        let (mut challenges, mut redirects) = (0, 0);
        loop {
            // Nobody else hears who we are here.
            let is_home = call.url.origin() == self.repository.root().origin();
            let authorization = if is_home { self.authorization().await? } else { None };
            let answer = self.send_once(&call, authorization.as_ref()).await?;
            if answer.status == StatusCode::UNAUTHORIZED && is_home && challenges < MOST_CHALLENGES
            {
                challenges += 1;
                if let Some(challenge) = answer.challenge() {
                    let (host, repository) = (&self.host, &self.repository);
                    host.authorize(repository, &self.scope, challenge, authorization.as_ref())
                        .await
                        .map_err(NoAnswer::Auth)?;
                    continue;
                }
            }
            if answer.is_redirect() && redirects < MOST_REDIRECTS {
                redirects += 1;
                let broken = || Cause::Protocol("a redirect to nowhere".to_owned());
                call.url = answer.location().ok_or_else(broken)?;
                continue;
            }
            return Ok(answer);
        }
    }

    async fn authorization(&self) -> Result<Option<Authorization>, NoAnswer> {
        let known = self.host.authorization(&self.repository, &self.scope).await;
        known.map_err(NoAnswer::Auth)
    }

    async fn send_once(
        &self,
        call: &Call,
        authorization: Option<&Authorization>,
    ) -> Result<Answer, NoAnswer> {
        let host = &self.host;
        let _permit = host.pace.enter().await;
        let request = host.client.request(call.method.clone(), call.url.clone());
        let mut request = request.map_err(Cause::from)?.headers(call.headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.header.clone());
        }
        let has_body = call.method != Method::GET && call.method != Method::HEAD;
        if has_body {
            let attached = call.payload.attach(request, &call.sent).await;
            request = attached.map_err(NoAnswer::File)?;
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let stall = host.options.fetch.stall_timeout;
        let transport = |error: reqwest::Error| fetch::transport(&error, stall);
        let response = self.watch(call, request.send()).await?.map_err(transport)?;
        // It is short, so all of it may take as long as one piece of something long.
        let read = tokio::time::timeout(stall, read(call, response));
        let answer =
            read.await.map_err(|_| Cause::Stalled(stall))?.map_err(|error| match error {
                Unread::Broken(error) => transport(error),
                Unread::TooLong => Cause::TooLong { limit: MANIFEST_LIMIT },
            })?;
        match answer.asks_for_less() {
            Some(pause) => host.pace.slow_down(pause.min(host.options.fetch.longest_wait)),
            None => host.pace.went_well(),
        }
        Ok(answer)
    }

    /// Waits for the head of an answer as long as bytes leave.
    async fn watch<T>(&self, call: &Call, sending: impl Future<Output = T>) -> Result<T, Cause> {
        let stall = self.host.options.fetch.stall_timeout;
        let mut sending = std::pin::pin!(sending);
        let (mut before, mut silent) = (call.sent.bytes(), 0);
        // The system takes megabytes that are on their way long after the last one left us.
        let patience = if matches!(call.payload, Payload::File(_)) { FILE_PATIENCE } else { 1 };
        while silent < patience {
            if let Ok(response) = tokio::time::timeout(stall, &mut sending).await {
                return Ok(response);
            }
            let now = call.sent.bytes();
            silent = if now == before { silent + 1 } else { 0 };
            before = now;
        }
        Err(Cause::Stalled(stall * patience))
    }
}

enum Unread {
    Broken(reqwest::Error),
    TooLong,
}

async fn read(call: &Call, mut response: Response) -> Result<Answer, Unread> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(Unread::Broken)? {
        body.extend_from_slice(&piece);
        if body.len() as u64 > MANIFEST_LIMIT {
            return Err(Unread::TooLong);
        }
    }
    Ok(Answer { status, headers, body, url: call.url.clone() })
}

impl From<Cause> for NoAnswer {
    fn from(cause: Cause) -> Self {
        Self::Cause(cause)
    }
}

impl NoAnswer {
    pub(super) fn failed(self, what: &str, attempts: u32) -> RemoteError {
        let what = what.to_owned();
        match self {
            Self::Cause(cause) => RemoteError::Failed { what, attempts, cause },
            Self::Auth(source) => RemoteError::Auth { what, source },
            Self::File(source) => RemoteError::Io { what, source },
        }
    }
}
