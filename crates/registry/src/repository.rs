//! One repository of a registry, and the one way to send it a request: with authentication,
//! retries and timeouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use reqwest::{Method, StatusCode, Url};

use super::auth::{Authorization, Challenge};
use super::payload::Payload;
use super::request::{NoResponse, Request};
use super::response::Response;
use super::scope::Scope;
use super::{MANIFEST_LIMIT, Registry, RegistryError};
use fetch::{self, Attempts, TransferError};
use oci::Repository;

const MOST_REDIRECTS: u32 = 10;

/// How many stall timeouts may pass before a request with a long body is given up.
const FILE_STALLS: u32 = 4;

/// A token can expire between two requests and during one. A registry that asks for a login more
/// often than this refuses the token for another reason.
const MOST_CHALLENGES: u32 = 2;

/// A repository of a registry, to read from or to write into. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RemoteRepository {
    pub(super) registry: Arc<Registry>,
    repository: Arc<Repository>,
    scope: Arc<Scope>,
    requests: Arc<AtomicU64>,
}

impl RemoteRepository {
    /// To read from a repository.
    pub fn pulling(registry: Arc<Registry>, repository: Repository) -> Self {
        let scope = Scope::pull(&repository);
        Self::new(registry, repository, scope)
    }

    /// To write into a repository; `mount_sources` are paths of other repositories in the same
    /// registry that blobs may be mounted from.
    pub fn pushing(
        registry: Arc<Registry>,
        repository: Repository,
        mount_sources: &[String],
    ) -> Self {
        let scope = Scope::push(&repository, mount_sources);
        Self::new(registry, repository, scope)
    }

    fn new(registry: Arc<Registry>, repository: Repository, scope: Scope) -> Self {
        let (repository, scope) = (Arc::new(repository), Arc::new(scope));
        Self { registry, repository, scope, requests: Arc::default() }
    }

    /// How many requests were sent for this repository, failed ones included; those to the token
    /// server are not counted.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Sends a request until the response is an answer to it, and not a passing failure of the
    /// registry. `what` completes the sentence "cannot …".
    pub(super) async fn send(
        &self,
        what: &str,
        request: &Request,
    ) -> Result<Response, RegistryError> {
        let mut attempts = Attempts::new(&self.registry.options.fetch);
        loop {
            let (cause, response) = match self.send_once(request).await {
                Ok(response) => match response.transient_failure() {
                    None => return Ok(response),
                    Some(cause) => (cause, Some(response)),
                },
                Err(NoResponse::TransferError(cause)) => (cause, None),
                Err(other) => return Err(other.into_error(what, attempts.made())),
            };
            let Some(wait) = attempts.next(&cause) else {
                return Err(match response {
                    Some(response) => RegistryError::refused(what, &response),
                    None => NoResponse::TransferError(cause).into_error(what, attempts.made()),
                });
            };
            self.wait(what, &cause, &attempts, wait).await;
        }
    }

    /// Waits before the next attempt, and says so.
    pub(super) async fn wait(
        &self,
        what: &str,
        cause: &TransferError,
        attempts: &Attempts<'_>,
        wait: Duration,
    ) {
        let text = attempts.describe(what, cause, wait);
        self.registry.options.progress.status("Retrying", &text);
        tokio::time::sleep(wait).await;
    }

    /// Sends a request once and reads the response.
    pub(super) async fn send_once(&self, request: &Request) -> Result<Response, NoResponse> {
        let (response, url) = self.exchange(request).await?;
        Ok(self.read(url, response).await?)
    }

    /// Sends a request once, logs in when the registry asks for it, and follows redirects. The
    /// body of the response is not read yet; the URL is the one that answered.
    pub(super) async fn exchange(
        &self,
        request: &Request,
    ) -> Result<(reqwest::Response, Url), NoResponse> {
        let mut request = request.clone();
        let (mut challenges, mut redirects) = (0, 0);
        loop {
            let url = request.url.clone();
            // The login is for the registry alone: no other host gets it or may ask for it.
            let is_registry = url.origin() == self.repository.root().origin();
            let authorization = if is_registry { self.authorization().await? } else { None };
            let response = self.transmit(&request, authorization.as_ref()).await?;
            let asks = is_registry && response.status() == StatusCode::UNAUTHORIZED;
            let challenge = Challenge::of(response.headers());
            if let Some(challenge) = challenge.filter(|_| asks && challenges < MOST_CHALLENGES) {
                challenges += 1;
                self.read(url, response).await?;
                let refused = authorization.as_ref();
                self.registry
                    .authorize(&self.repository, &self.scope, &challenge, refused)
                    .await
                    .map_err(NoResponse::Auth)?;
            } else if is_redirect(response.status()) && redirects < MOST_REDIRECTS {
                redirects += 1;
                let response = self.read(url, response).await?;
                let no_target =
                    || TransferError::Protocol("a redirect without a usable Location".into());
                request.url = response.location().ok_or_else(no_target)?;
            } else {
                return Ok((response, url));
            }
        }
    }

    async fn authorization(&self) -> Result<Option<Authorization>, NoResponse> {
        let known = self.registry.authorization(&self.repository, &self.scope).await;
        known.map_err(NoResponse::Auth)
    }

    /// One request and the head of its response, when the registry's limit lets it start.
    async fn transmit(
        &self,
        request: &Request,
        authorization: Option<&Authorization>,
    ) -> Result<reqwest::Response, NoResponse> {
        let registry = &self.registry;
        let permit = registry.limiter.acquire().await;
        let builder = registry.client.request(request.method.clone(), request.url.clone());
        let mut builder = builder.map_err(TransferError::from)?.headers(request.headers.clone());
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization.header.clone());
        }
        let has_body = request.method != Method::GET && request.method != Method::HEAD;
        if has_body {
            let attached = request.payload.attach(builder, &request.sent).await;
            builder = attached.map_err(NoResponse::File)?;
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let stall = registry.options.fetch.stall_timeout;
        let sent = self.watch(request, builder.send()).await?;
        let mut response = sent.map_err(|error| fetch::transport(&error, stall))?;
        // Given back when the body has been read, or is dropped.
        response.extensions_mut().insert(Arc::new(permit));
        Ok(response)
    }

    /// Waits for the head of a response as long as bytes are sent.
    async fn watch<T>(
        &self,
        request: &Request,
        sending: impl Future<Output = T>,
    ) -> Result<T, TransferError> {
        let stall = self.registry.options.fetch.stall_timeout;
        let mut sending = std::pin::pin!(sending);
        let (mut before, mut stalls) = (request.sent.bytes(), 0);
        // The kernel buffers several megabytes, so the body may still be in flight after the last
        // write.
        let most = if matches!(request.payload, Payload::File(_)) { FILE_STALLS } else { 1 };
        while stalls < most {
            if let Ok(response) = tokio::time::timeout(stall, &mut sending).await {
                return Ok(response);
            }
            let now = request.sent.bytes();
            stalls = if now == before { stalls + 1 } else { 0 };
            before = now;
        }
        Err(TransferError::Stalled(stall * most))
    }

    /// Reads all of a response that is no blob, and tells the limiter how it went.
    pub(super) async fn read(
        &self,
        url: Url,
        mut response: reqwest::Response,
    ) -> Result<Response, TransferError> {
        let options = &self.registry.options.fetch;
        let stall = options.stall_timeout;
        let (status, headers) = (response.status(), response.headers().clone());
        let reading = async {
            let mut body = Vec::new();
            let broken = |error: reqwest::Error| fetch::transport(&error, stall);
            while let Some(bytes) = response.chunk().await.map_err(broken)? {
                body.extend_from_slice(&bytes);
                if body.len() as u64 > MANIFEST_LIMIT {
                    return Err(TransferError::TooLong { limit: MANIFEST_LIMIT });
                }
            }
            Ok(body)
        };
        // It is short, so all of it may take as long as one chunk of a blob.
        let read = tokio::time::timeout(stall, reading).await;
        let body = read.map_err(|_| TransferError::Stalled(stall))??;
        let response = Response { status, headers, body, url };
        match response.throttles() {
            Some(pause) => self.registry.limiter.throttle(pause.min(options.longest_wait)),
            None => self.registry.limiter.record_success(),
        }
        Ok(response)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
