//! Blobs of a repository: whether they exist, and the ways to get them there.

use std::sync::Arc;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode, Url};

use super::error::check_digest;
use super::journal::UploadJournal;
use super::payload::{ByteCounter, Payload};
use super::request::Request;
use super::response::Response;
use super::upload::{Position, Upload};
use super::{
    Blob, BlobOutcome, BlobUpload, ExistenceCheck, RegistryError, RemoteRepository, Support,
};
use oci::digest::Digest;

/// The largest blob, in bytes, that is sent with the POST that would open its upload, to see
/// whether the registry supports that.
pub const SINGLE_POST_LIMIT: u64 = 64 << 10;

/// What a POST to the uploads of a repository led to.
enum UploadStart {
    Done(BlobOutcome),
    /// An upload was opened. `min_chunk` is the smallest chunk that it accepts, in bytes.
    Upload {
        location: Url,
        min_chunk: u64,
    },
}

impl RemoteRepository {
    /// Whether a blob exists, with this size in bytes.
    pub async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, RegistryError> {
        let what = format!("ask {} for the blob {}", self.repository(), digest.short());
        let request = Request::new(Method::HEAD, self.repository().url("blobs", digest));
        let response = self.send(&what, &request).await?;
        match response.status {
            StatusCode::NOT_FOUND => Ok(false),
            StatusCode::OK => {
                check_digest(&what, &response, *digest)?;
                Ok(has_size(&response, size))
            }
            _ => Err(RegistryError::refused(&what, &response)),
        }
    }

    /// Whether another repository of the registry has a blob and lets us read it. Only a request
    /// that changes this repository would show whether the blob can be mounted.
    pub async fn can_mount(
        &self,
        source: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, RegistryError> {
        let what = format!("ask {source} for the blob {}", digest.short());
        let url = self.repository().neighbour(source).url("blobs", digest);
        let response = self.send(&what, &Request::new(Method::HEAD, url)).await?;
        Ok(response.status == StatusCode::OK && has_size(&response, size))
    }

    /// Makes a blob exist, by the cheapest way: it exists; it is mounted; it is uploaded, from
    /// where an earlier process stopped.
    pub async fn put_blob(&self, upload: &BlobUpload<'_>) -> Result<BlobOutcome, RegistryError> {
        let blob = upload.blob;
        let what = format!("push the blob {} to {}", blob.digest.short(), self.repository());
        let cache_dir = &self.registry.options.cache_dir;
        let mut journal = UploadJournal::open(cache_dir, self.repository(), blob.digest);
        let sent = ByteCounter::reporting_to(upload.listener.clone());
        if let Some(location) = journal.location() {
            // Another machine may have pushed the blob since that upload was opened.
            if let Some(outcome) = self.check_again(&what, upload).await? {
                journal.forget();
                return Ok(outcome);
            }
            if let Some(position) = self.resume(&what, &location, blob).await? {
                let file = blob.file().await?;
                let sending = Upload::new(self, &what, blob, file, sent);
                let min_chunk = journal.min_chunk();
                return sending.with_min_chunk(min_chunk).run(&mut journal, position).await;
            }
            journal.forget();
        }
        match self.open(&what, upload).await? {
            UploadStart::Done(outcome) => Ok(outcome),
            UploadStart::Upload { location, min_chunk } => {
                let file = blob.file().await?;
                let sending = Upload::new(self, &what, blob, file, sent);
                let start = Position { location, offset: 0 };
                sending.with_min_chunk(min_chunk).run(&mut journal, start).await
            }
        }
    }

    /// Whether the blob of an unfinished upload exists by now, or can be mounted. A mount that
    /// opens another upload is ignored: the unfinished one already has more bytes.
    async fn check_again(
        &self,
        what: &str,
        upload: &BlobUpload<'_>,
    ) -> Result<Option<BlobOutcome>, RegistryError> {
        let blob = upload.blob;
        if upload.existence == ExistenceCheck::Ignore {
            return Ok(None);
        }
        if self.has_blob(&blob.digest, blob.size).await? {
            return Ok(Some(BlobOutcome::Exists));
        }
        for source in upload.mount_sources {
            if let Some(UploadStart::Done(outcome)) = self.mount(what, blob, Some(source)).await? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// The offset that an upload of an earlier process has reached; `None` if the registry has
    /// given it up or does not say.
    async fn resume(
        &self,
        what: &str,
        location: &Url,
        blob: &Blob,
    ) -> Result<Option<Position>, RegistryError> {
        let response = match self.send(what, &Request::new(Method::GET, location.clone())).await {
            Ok(response) => response,
            // The host of the location may be gone for good. A new upload may have another.
            Err(RegistryError::Failed { .. } | RegistryError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Position::of(&response, location, blob))
    }

    async fn open(
        &self,
        what: &str,
        upload: &BlobUpload<'_>,
    ) -> Result<UploadStart, RegistryError> {
        let blob = upload.blob;
        if upload.existence == ExistenceCheck::Ignore {
            let response = self.post(what, &[], Payload::Empty).await?;
            return opened(what, &response);
        }
        if self.registry.capabilities().mount_checks_existence == Some(Support::Yes) {
            let own = self.repository().path().to_owned();
            match self.mount(what, blob, Some(&own)).await? {
                Some(UploadStart::Done(_)) => return Ok(UploadStart::Done(BlobOutcome::Exists)),
                Some(session) => return self.mount_from(what, upload, Some(session)).await,
                None => {}
            }
        }
        if self.has_blob(&blob.digest, blob.size).await? {
            return Ok(UploadStart::Done(BlobOutcome::Exists));
        }
        self.mount_from(what, upload, None).await
    }

    async fn mount_from(
        &self,
        what: &str,
        upload: &BlobUpload<'_>,
        mut session: Option<UploadStart>,
    ) -> Result<UploadStart, RegistryError> {
        for source in upload.mount_sources {
            match self.mount(what, upload.blob, Some(source)).await? {
                Some(UploadStart::Done(outcome)) => return Ok(UploadStart::Done(outcome)),
                Some(other) => session = Some(other),
                None => {}
            }
        }
        match session {
            Some(session) => Ok(session),
            None => self.start(what, upload.blob).await,
        }
    }

    /// Opens an upload, by a request that may make it unnecessary.
    async fn start(&self, what: &str, blob: &Blob) -> Result<UploadStart, RegistryError> {
        let cache = &self.registry.capabilities;
        let known = cache.read();
        if blob.size <= SINGLE_POST_LIMIT && known.single_post != Some(Support::No) {
            let response = self.post_whole(what, blob).await?;
            let is_taken = response.status == StatusCode::CREATED;
            cache.update(|it| it.single_post = Some(is_taken.into()));
            if is_taken {
                check_digest(what, &response, blob.digest)?;
                return Ok(UploadStart::Done(BlobOutcome::Uploaded { sent: blob.size }));
            }
            if response.status == StatusCode::ACCEPTED {
                return opened(what, &response);
            }
        } else if known.anonymous_mount != Some(Support::No) {
            if let Some(opened) = self.mount(what, blob, None).await? {
                return Ok(opened);
            }
            cache.update(|it| it.anonymous_mount = Some(Support::No));
        }
        let response = self.post(what, &[], Payload::Empty).await?;
        opened(what, &response)
    }

    async fn post_whole(&self, what: &str, blob: &Blob) -> Result<Response, RegistryError> {
        let read = tokio::fs::read(blob.file().await?).await;
        let bytes = read.map_err(|source| RegistryError::Io { what: what.to_owned(), source })?;
        let digest = blob.digest.to_string();
        self.post(what, &[("digest", &digest)], Payload::Bytes(Arc::from(bytes))).await
    }

    /// Mounts from a repository of the same registry, or from any. The registry may open an
    /// upload instead, which is as good as another. `None` if the registry refuses both.
    async fn mount(
        &self,
        what: &str,
        blob: &Blob,
        from: Option<&String>,
    ) -> Result<Option<UploadStart>, RegistryError> {
        let digest = blob.digest.to_string();
        let query = [("mount", digest.as_str())];
        let query = query.into_iter().chain(from.map(|from| ("from", from.as_str())));
        let response = self.post(what, &query.collect::<Vec<_>>(), Payload::Empty).await?;
        match response.status {
            StatusCode::CREATED => {
                check_digest(what, &response, blob.digest)?;
                Ok(Some(UploadStart::Done(BlobOutcome::Mounted { from: from.cloned() })))
            }
            StatusCode::ACCEPTED => opened(what, &response).map(Some),
            // Not allowed to read there, or no such blob: it has to be uploaded.
            _ => Ok(None),
        }
    }

    /// Probes `Capabilities::mount_checks_existence`, with a blob that exists.
    pub async fn probe_mount(&self, existing: &Blob) -> Result<(), RegistryError> {
        if self.registry.capabilities().mount_checks_existence.is_some() {
            return Ok(());
        }
        let own = self.repository().path().to_owned();
        let what = format!("see how {} mounts", self.repository());
        let mounted = self.mount(&what, existing, Some(&own)).await?;
        let is_supported = matches!(mounted, Some(UploadStart::Done(_)));
        let cache = &self.registry.capabilities;
        cache.update(|it| it.mount_checks_existence = Some(is_supported.into()));
        Ok(())
    }

    /// A new upload in the place of one that is lost: its location, and the smallest chunk that
    /// it accepts, in bytes.
    pub(super) async fn reopen(&self, what: &str) -> Result<(Url, u64), RegistryError> {
        let response = self.post(what, &[], Payload::Empty).await?;
        match opened(what, &response)? {
            UploadStart::Upload { location, min_chunk } => Ok((location, min_chunk)),
            UploadStart::Done(_) => {
                Err(RegistryError::unexpected(what, "an upload that is done at once"))
            }
        }
    }

    async fn post(
        &self,
        what: &str,
        query: &[(&str, &str)],
        payload: Payload,
    ) -> Result<Response, RegistryError> {
        let mut url = self.repository().at("blobs/uploads/");
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = Request::new(Method::POST, url);
        if matches!(payload, Payload::Bytes(_)) {
            request = request.header(CONTENT_TYPE, "application/octet-stream");
        }
        self.send(what, &request.with(payload)).await
    }
}

/// Whether a response to HEAD has the expected size. Some registries answer 0 for every blob.
fn has_size(response: &Response, size: u64) -> bool {
    let length = response.text(&CONTENT_LENGTH);
    let length = length.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    length == 0 || length == size
}

/// A registry that opens an upload says where it continues.
fn opened(what: &str, response: &Response) -> Result<UploadStart, RegistryError> {
    if response.status != StatusCode::ACCEPTED {
        return Err(RegistryError::refused(what, response));
    }
    let min_chunk = response.min_chunk();
    match response.location() {
        Some(location) => Ok(UploadStart::Upload { location, min_chunk }),
        None => Err(RegistryError::unexpected(what, "202 Accepted without a usable Location")),
    }
}
