//! Pulls from registries, as distribution-spec 1.1 says, and only what is asked for by digest.
//!
//! Not responsible for: pushing, or what a manifest means.

mod auth;
mod credentials;
mod reference;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

pub use auth::AuthError;
pub use credentials::{Credentials, CredentialsError};
pub use reference::{Reference, ReferenceError, Repository};

use crate::digest::Digest;
use crate::fetch::{Blob, Downloader, FetchError, Fetched, Options, Source};
use crate::http::Client;
use crate::store::{Store, StoreError};
use crate::ui::Ui;

/// Registries need not accept more (distribution-spec, "Pushing Manifests").
const MANIFEST_LIMIT: u64 = 4 << 20;

/// Indexes and image manifests in both dialects: the digest has decided which one it is.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Why something cannot be pulled.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        Self::Fetch(error.into())
    }
}

impl RegistryError {
    /// The registry delivered something else than what is pinned.
    pub fn is_wrong_bytes(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_wrong_bytes())
    }
}

/// Pulls into a store, and remembers who let us in.
#[derive(Debug)]
pub struct Puller<'a> {
    store: &'a Store,
    client: Client,
    options: &'a Options,
    ui: &'a Ui,
    credentials: Credentials,
    /// The `Authorization` that worked last; sensitive values, never shown.
    authorizations: Mutex<BTreeMap<Repository, HeaderValue>>,
}

impl<'a> Puller<'a> {
    pub fn new(
        store: &'a Store,
        options: &'a Options,
        ui: &'a Ui,
        credentials: Credentials,
    ) -> Self {
        let client = Client::new(options.connect_timeout, options.stall_timeout);
        Self { store, client, options, ui, credentials, authorizations: Mutex::default() }
    }

    /// The bytes of a manifest or index, which are in the store afterwards.
    pub async fn pull_manifest(&self, reference: &Reference) -> Result<Vec<u8>, RegistryError> {
        let name = reference.to_string();
        let (digest, size) = (reference.digest, None);
        let blob = Blob { name: &name, digest, size, limit: MANIFEST_LIMIT };
        let url = reference.repository.url("manifests", &digest);
        self.pull(&reference.repository, &blob, &url).await?;
        match self.store.read(&digest) {
            // It was in the store before, and the disk has lied. Now it is gone.
            Err(StoreError::Corrupt { .. }) => {
                self.pull(&reference.repository, &blob, &url).await?;
                Ok(self.store.read(&digest)?)
            }
            bytes => Ok(bytes?),
        }
    }

    /// A config or a layer; `size_bytes` is what its descriptor says.
    pub async fn pull_blob(
        &self,
        repository: &Repository,
        digest: Digest,
        size_bytes: u64,
    ) -> Result<Fetched, RegistryError> {
        let name = format!("{repository}@{}", digest.short());
        let blob = Blob { name: &name, digest, size: Some(size_bytes), limit: size_bytes };
        let url = repository.url("blobs", &digest);
        self.pull(repository, &blob, &url).await
    }

    /// A refusal that says how to be let in is answered once; tokens also end in the middle.
    async fn pull(
        &self,
        repository: &Repository,
        blob: &Blob<'_>,
        url: &Url,
    ) -> Result<Fetched, RegistryError> {
        let first = self.pull_once(repository, blob, url).await;
        let Some(challenge) = first.as_ref().err().and_then(challenge) else {
            return Ok(first?);
        };
        let authorization =
            auth::answer(&self.downloader(), &self.credentials, repository, challenge).await?;
        self.authorizations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(repository.clone(), authorization);
        Ok(self.pull_once(repository, blob, url).await?)
    }

    async fn pull_once(
        &self,
        repository: &Repository,
        blob: &Blob<'_>,
        url: &Url,
    ) -> Result<Fetched, FetchError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
        if let Some(authorization) = self.authorization(repository) {
            headers.insert(AUTHORIZATION, authorization);
        }
        let source = Source::Http { url: url.clone(), headers };
        self.downloader().download(blob, &[source]).await
    }

    fn authorization(&self, repository: &Repository) -> Option<HeaderValue> {
        let known = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(repository).cloned()
    }

    fn downloader(&self) -> Downloader<'_> {
        Downloader { store: self.store, client: &self.client, options: self.options, ui: self.ui }
    }
}

fn challenge(error: &FetchError) -> Option<&str> {
    match error {
        FetchError::Mirrors { tried, .. } => tried.last()?.cause.challenge(),
        FetchError::Store(_) => None,
    }
}
