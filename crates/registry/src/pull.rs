//! Blobs and documents of a repository on their way into the store, verified.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future, stream};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::auth::AuthError;
use super::request::{NoResponse, Request};
use super::{MANIFEST_LIMIT, MANIFEST_TYPES, RegistryError, RemoteRepository};
use fetch::{
    DownloadSource, Downloader, ExpectedFile, FetchError, HttpGet, TransferError, status_cause,
};
use oci::digest::Digest;
use store::{Store, StoreError};

impl RemoteRepository {
    /// A config or a layer: afterwards the store has it, and nothing is sent if it had it before.
    /// `size_bytes` is what its descriptor says.
    pub async fn get_blob(
        &self,
        store: &Store,
        digest: Digest,
        size_bytes: u64,
    ) -> Result<(), RegistryError> {
        let name = format!("{}@{}", self.repository(), digest.short());
        let blob = ExpectedFile { name: &name, digest, size: Some(size_bytes), limit: size_bytes };
        self.download(store, &blob, "blobs", HeaderMap::new()).await
    }

    /// Configs and layers, several at a time, each with the size that its descriptor says.
    pub async fn get_blobs(
        &self,
        store: &Store,
        blobs: &[(Digest, u64)],
    ) -> Result<(), RegistryError> {
        let Some(((digest, size), rest)) = blobs.split_first() else { return Ok(()) };
        // The first one alone: the others then have its token.
        self.get_blob(store, *digest, *size).await?;
        let pulling = rest.iter().map(|(digest, size)| self.get_blob(store, *digest, *size));
        let pulling = stream::iter(pulling.collect::<Vec<_>>());
        let pulled = pulling.buffer_unordered(self.registry.options.fetch.parallel.max(1));
        pulled.try_for_each(|()| future::ready(Ok(()))).await
    }

    /// The bytes of an index or a manifest, which are in the store afterwards. Nothing is sent if
    /// the store had them before.
    pub async fn get_document(
        &self,
        store: &Store,
        name: &str,
        digest: Digest,
    ) -> Result<Vec<u8>, RegistryError> {
        let document = ExpectedFile { name, digest, size: None, limit: MANIFEST_LIMIT };
        let accept = || HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES))]);
        self.download(store, &document, "manifests", accept()).await?;
        match store.read(&digest) {
            // It was in the store before, and was damaged on the disk. Now it has been removed.
            Err(StoreError::Corrupt { .. }) => {
                self.download(store, &document, "manifests", accept()).await?;
                Ok(store.read(&digest).map_err(FetchError::from)?)
            }
            bytes => Ok(bytes.map_err(FetchError::from)?),
        }
    }

    async fn download(
        &self,
        store: &Store,
        file: &ExpectedFile<'_>,
        kind: &str,
        headers: HeaderMap,
    ) -> Result<(), RegistryError> {
        let options = &self.registry.options;
        let progress = &*options.progress;
        let downloader = Downloader { store, http: self, options: &options.fetch, progress };
        let url = self.repository().url(kind, &file.digest);
        let source = DownloadSource::Http { url, headers };
        let fetched = downloader.download(file, &[source]).await;
        fetched.map(drop).map_err(|error| login_error(file.name, error))
    }
}

impl HttpGet for RemoteRepository {
    fn get_response(
        &self,
        url: Url,
        headers: HeaderMap,
    ) -> BoxFuture<'_, Result<Response, TransferError>> {
        async move {
            let request = Request { headers, ..Request::new(Method::GET, url) };
            let exchanged = self.exchange(&request).await;
            let (response, url) = exchanged.map_err(NoResponse::into_cause)?;
            let status = response.status();
            if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
                self.registry.limiter.record_success();
                return Ok(response);
            }
            let response = self.read(url, response).await?;
            let transient = response.transient_failure();
            Err(transient.unwrap_or_else(|| status_cause(status, &response.headers)))
        }
        .boxed()
    }
}

/// A download that failed because of a login is an error of its own kind.
fn login_error(name: &str, error: FetchError) -> RegistryError {
    let mut error = error;
    if let FetchError::Mirrors { failures, .. } = &mut error
        && failures.last().is_some_and(|it| matches!(&it.cause, TransferError::Login(_)))
        && let Some(failure) = failures.pop()
        && let TransferError::Login(login) = failure.cause
    {
        let what = format!("pull {name}");
        return match login.downcast::<AuthError>() {
            Ok(source) => RegistryError::Auth { what, source: *source },
            Err(other) => RegistryError::unexpected(&what, other.to_string()),
        };
    }
    error.into()
}
