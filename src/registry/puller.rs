use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use super::auth::{AuthError, Authorization, Desk};
use super::scope::Scope;
use super::{Credentials, MANIFEST_LIMIT, MANIFEST_TYPES, Reference, Repository};
use crate::digest::Digest;
use crate::fetch::{Blob, Downloader, FetchError, Fetched, Options, Source};
use crate::http::{Client, Trust};
use crate::store::{Store, StoreError};
use crate::ui::Ui;

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
    credentials: Arc<Credentials>,
    /// What worked last; sensitive values, never shown.
    authorizations: Mutex<BTreeMap<Repository, Authorization>>,
}

impl<'a> Puller<'a> {
    pub fn new(
        store: &'a Store,
        options: &'a Options,
        ui: &'a Ui,
        credentials: impl Into<Arc<Credentials>>,
    ) -> Self {
        let credentials = credentials.into();
        let client = Client::new(options.connect_timeout, options.stall_timeout);
        Self { store, client, options, ui, credentials, authorizations: Mutex::default() }
    }

    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { client: self.client.trusting(trust), ..self }
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

    /// What a tag names now: the bytes of an index or a manifest. For looking digests up only.
    pub async fn resolve(
        &self,
        repository: &Repository,
        tag: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let url = repository.tag_url(tag);
        let mut headers =
            HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES))]);
        let first = self.downloader().answer(&url, &headers).await;
        let tried = match first {
            Ok(bytes) => return Ok(bytes),
            Err(tried) => tried,
        };
        let all =
            |tried| FetchError::Mirrors { name: format!("{repository}:{tag}"), tried: vec![tried] };
        let Some(challenge) = tried.cause.challenge() else {
            return Err(all(tried).into());
        };
        let authorization = self.authorize(repository, challenge).await?;
        headers.insert(AUTHORIZATION, authorization.header);
        Ok(self.downloader().answer(&url, &headers).await.map_err(all)?)
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

    /// Configs and layers, several at a time, each with the size that its descriptor says.
    pub async fn pull_blobs(
        &self,
        repository: &Repository,
        blobs: &[(Digest, u64)],
    ) -> Result<(), RegistryError> {
        let Some(((digest, size), rest)) = blobs.split_first() else { return Ok(()) };
        // What lets this one in lets in the others, which need not ask for it.
        self.pull_blob(repository, *digest, *size).await?;
        let pulling = rest.iter().map(|(digest, size)| self.pull_blob(repository, *digest, *size));
        let pulling = stream::iter(pulling.collect::<Vec<_>>());
        let pulled = pulling.buffer_unordered(self.options.parallel.max(1));
        pulled.try_for_each(|_| future::ready(Ok(()))).await
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
        let authorization = self.authorize(repository, challenge).await?;
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
        known.get(repository).map(|it| it.header.clone())
    }

    async fn authorize(
        &self,
        repository: &Repository,
        challenge: &str,
    ) -> Result<Authorization, AuthError> {
        let desk =
            Desk { client: &self.client, options: self.options, credentials: &self.credentials };
        desk.answer(repository, &Scope::pull(repository), challenge).await
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
