//! One registry: what everything that talks to it in one run shares.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;

use super::auth::{AuthError, Authenticator, Authorization, Challenge};
use super::capabilities::CapabilityCache;
use super::limiter::ConcurrencyLimiter;
use super::scope::Scope;
use super::{Capabilities, Credentials};
use fetch::http::Client;
use fetch::{FetchOptions, Progress};
use oci::Repository;
use oci::digest::Digest;

/// How often a repository is looked at that another process has locked.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// How registries are reached, and with which logins.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Timeouts, attempts and trusted authorities.
    pub fetch: FetchOptions,
    pub credentials: Arc<Credentials>,
    /// Where capabilities and unfinished uploads are remembered.
    pub cache_dir: PathBuf,
    /// A longer blob is sent in chunks of this size: some registries keep what has arrived of a
    /// broken request, others only what came by whole requests.
    pub chunk_bytes: u64,
    pub progress: Arc<dyn Progress>,
}

/// The client of one registry. Everything that talks to the registry in one run shares it: TLS
/// and timeouts, tokens, the limit of requests at once, and what the registry supports.
#[derive(Debug)]
pub struct Registry {
    pub(super) options: RegistryOptions,
    pub(super) client: Client,
    pub(super) limiter: Arc<ConcurrencyLimiter>,
    pub(super) capabilities: CapabilityCache,
    /// Sensitive values, never shown.
    authorizations: Mutex<BTreeMap<Scope, Authorization>>,
    /// Held during a token exchange: the requests that wait for it then find the token.
    exchange: tokio::sync::Mutex<()>,
}

impl Registry {
    /// `name` is the host, or `host:port`, as references have it.
    pub fn new(name: &str, options: RegistryOptions) -> Arc<Self> {
        let client = Client::without_redirects(options.fetch.connect_timeout)
            .trusting(options.fetch.trust.clone());
        Arc::new(Self {
            capabilities: CapabilityCache::open(&options.cache_dir, name),
            client,
            limiter: ConcurrencyLimiter::new(),
            authorizations: Mutex::default(),
            exchange: tokio::sync::Mutex::default(),
            options,
        })
    }

    /// The first wait for a registry that is eventually consistent.
    pub fn backoff(&self) -> Duration {
        self.options.fetch.backoff
    }

    pub fn capabilities(&self) -> Capabilities {
        self.capabilities.read()
    }

    /// Held by the one process of this machine that changes a repository. A second process waits,
    /// and then finds the work done.
    pub async fn lock(&self, repository: &Repository) -> io::Result<File> {
        let folder = self.options.cache_dir.join("registries");
        fs::create_dir_all(&folder)?;
        let name = Digest::of(repository.to_string()).short();
        let file = File::create(folder.join(format!("{name}.lock")))?;
        let mut is_announced = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            if !is_announced {
                let text = format!("another process is pushing to {repository}; waiting");
                self.options.progress.note(&text);
                is_announced = true;
            }
            // A blocking wait could not be cancelled, and would block other tasks.
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    /// Whether an insecure registry has TLS at all, with whatever certificate.
    pub(super) async fn speaks_tls(&self, repository: &Repository) -> bool {
        let mut url = repository.root().clone();
        url.set_path("/v2/");
        let Ok(request) = self.client.request(Method::GET, url) else { return true };
        request.timeout(self.options.fetch.connect_timeout).send().await.is_ok()
    }

    /// The cached `Authorization` header, if any; a new one if the registry is known to ask for
    /// it and how.
    pub(super) async fn authorization(
        &self,
        repository: &Repository,
        scope: &Scope,
    ) -> Result<Option<Authorization>, AuthError> {
        let challenge = self.capabilities.read().challenge;
        match (self.cached(scope), challenge) {
            (Some(cached), _) if cached.is_fresh() => Ok(Some(cached)),
            (cached, Some(challenge)) => {
                // The remembered challenge may be out of date; then the registry will say so.
                let Some(challenge) = Challenge::parse(&challenge) else { return Ok(cached) };
                let renewed = self.authorize(repository, scope, &challenge, cached.as_ref()).await;
                Ok(renewed.ok().or(cached))
            }
            (cached, None) => Ok(cached),
        }
    }

    /// Answers a challenge, unless another request has done so since `refused` was sent.
    pub(super) async fn authorize(
        &self,
        repository: &Repository,
        scope: &Scope,
        challenge: &Challenge,
        refused: Option<&Authorization>,
    ) -> Result<Authorization, AuthError> {
        let _turn = self.exchange.lock().await;
        if let Some(cached) = self.cached(scope)
            && refused.is_none_or(|refused| refused.header != cached.header)
            && cached.is_fresh()
        {
            return Ok(cached);
        }
        let RegistryOptions { fetch, credentials, .. } = &self.options;
        let authenticator = Authenticator { client: &self.client, options: fetch, credentials };
        let authorization = authenticator.authorize(repository, scope, challenge).await?;
        let remembered = challenge.without_scope();
        self.capabilities.update(|it| it.challenge = Some(remembered));
        self.authorizations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(scope.clone(), authorization.clone());
        Ok(authorization)
    }

    fn cached(&self, scope: &Scope) -> Option<Authorization> {
        let known = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(scope).cloned()
    }
}
