//! One upload, from the offset that it has reached to its end, however often the connection breaks.

use std::fs::File;
use std::path::PathBuf;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, Url};

use super::error::check_digest;
use super::journal::UploadJournal;
use super::payload::{ByteCounter, FileRange, Payload};
use super::request::{NoResponse, Request};
use super::response::Response;
use super::{Blob, BlobOutcome, RegistryError, RemoteRepository, Support};
use fetch::{Attempts, TransferError};
use oci::digest::Digest;

/// The usual `RegistryOptions::chunk_bytes`.
pub const CHUNK_BYTES: u64 = 32 << 20;

/// The largest chunk after a break that lost everything.
const CAREFUL_CHUNK_BYTES: u64 = 8 << 20;

/// No front end of a registry refuses bodies as small as this.
const LEAST_CHUNK_BYTES: u64 = 1 << 18;

pub(super) struct Upload<'a> {
    remote: &'a RemoteRepository,
    what: &'a str,
    blob: &'a Blob,
    file: PathBuf,
    sent: ByteCounter,
    /// In bytes; `min_chunk` is the least that the registry accepts, but for the last chunk.
    chunk: u64,
    min_chunk: u64,
}

/// Where an upload continues, as the registry reports it.
pub(super) struct Position {
    pub(super) location: Url,
    pub(super) offset: u64,
}

/// What one request led to.
enum UploadProgress {
    Done,
    Continues(Position),
    /// A later request may succeed, from an offset that only the registry knows.
    Interrupted(TransferError),
    /// The registry cannot use the bytes that arrived so far.
    Lost(RegistryError),
}

impl Position {
    /// From the response to a GET of the upload; `None` if there is no such upload.
    pub(super) fn of(response: &Response, asked: &Url, blob: &Blob) -> Option<Self> {
        let is_open = matches!(response.status.as_u16(), 200 | 202 | 204);
        let offset = response.received().filter(|offset| is_open && *offset <= blob.size)?;
        let location = response.location().unwrap_or_else(|| asked.clone());
        Some(Self { location, offset })
    }
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        remote: &'a RemoteRepository,
        what: &'a str,
        blob: &'a Blob,
        file: PathBuf,
        sent: ByteCounter,
    ) -> Self {
        let registry = &remote.registry;
        let largest = registry.capabilities().largest_body.unwrap_or(u64::MAX);
        let chunk = registry.options.chunk_bytes.min(largest);
        Self { remote, what, blob, file, sent, chunk, min_chunk: 0 }
    }

    /// Sets the smallest chunk that the registry accepts, in bytes.
    pub(super) fn with_min_chunk(self, min_chunk: u64) -> Self {
        Self { min_chunk, ..self }
    }

    pub(super) async fn run(
        mut self,
        journal: &mut UploadJournal,
        start: Position,
    ) -> Result<BlobOutcome, RegistryError> {
        let mut position = start;
        let mut furthest = position.offset;
        let mut attempts = Attempts::new(&self.remote.registry.options.fetch);
        loop {
            let recorded = journal.record(&position.location, self.min_chunk);
            recorded.map_err(|source| self.io(source))?;
            let (cause, lost) = match self.advance(&position).await? {
                UploadProgress::Done => break,
                UploadProgress::Continues(next) => {
                    position = next;
                    furthest = self.restart_if_further(&position, furthest, &mut attempts);
                    continue;
                }
                UploadProgress::Interrupted(cause) => (cause, None),
                UploadProgress::Lost(error) => {
                    (TransferError::Broken("the upload has to start over".to_owned()), Some(error))
                }
            };
            let Some(wait) = attempts.next(&cause) else {
                let failed = NoResponse::from(cause);
                return Err(lost.unwrap_or_else(|| failed.into_error(self.what, attempts.made())));
            };
            self.remote.wait(self.what, &cause, &attempts, wait).await;
            match self.recover(&position, lost.is_some()).await? {
                None => break,
                Some(found) => position = found,
            }
            furthest = self.restart_if_further(&position, furthest, &mut attempts);
        }
        journal.forget();
        Ok(BlobOutcome::Uploaded { sent: self.sent.bytes() })
    }

    /// Only an upload that gets further than ever has as many attempts as before: one that loses
    /// everything each time makes no progress.
    fn restart_if_further(
        &self,
        position: &Position,
        furthest: u64,
        attempts: &mut Attempts<'a>,
    ) -> u64 {
        if position.offset > furthest {
            *attempts = Attempts::new(&self.remote.registry.options.fetch);
        }
        position.offset.max(furthest)
    }

    /// Sends a chunk, or the rest together with the end: some registries answer an empty end with
    /// an error.
    async fn advance(&mut self, position: &Position) -> Result<UploadProgress, RegistryError> {
        let left = self.blob.size - position.offset;
        let chunk = self.chunk.max(self.min_chunk);
        if left > chunk && self.may_use_chunks() {
            self.patch(position, position.offset + chunk).await
        } else {
            self.put(position).await
        }
    }

    fn may_use_chunks(&self) -> bool {
        self.remote.registry.capabilities().chunks != Some(Support::No)
    }

    async fn patch(
        &mut self,
        position: &Position,
        end: u64,
    ) -> Result<UploadProgress, RegistryError> {
        let location = position.location.clone();
        let request = self.request(Method::PATCH, location, position.offset, end);
        let response = match self.send(&request).await? {
            RequestOutcome::Response(response) => response,
            RequestOutcome::Transient(cause) => return Ok(UploadProgress::Interrupted(cause)),
        };
        match response.status.as_u16() {
            200 | 202 | 204 => {
                self.note_chunks(Support::Yes);
                let offset = response.received().unwrap_or(end);
                let location = response.location().unwrap_or_else(|| position.location.clone());
                if offset > self.blob.size || offset <= position.offset {
                    let why = format!("{offset} bytes have arrived after a chunk up to {end}");
                    return Ok(UploadProgress::Lost(RegistryError::unexpected(self.what, why)));
                }
                Ok(UploadProgress::Continues(Position { location, offset }))
            }
            413 => self.shrink(&response, end - position.offset),
            404 | 416 => Ok(UploadProgress::Interrupted(lost())),
            // The registry supports no chunks: send all at once.
            400 | 405 | 411 | 501 if position.offset == 0 => {
                let error = RegistryError::refused(self.what, &response);
                if self.remote.registry.capabilities().chunks == Some(Support::Yes) {
                    return Err(error);
                }
                self.note_chunks(Support::No);
                Ok(UploadProgress::Lost(error))
            }
            _ => Err(RegistryError::refused(self.what, &response)),
        }
    }

    async fn put(&mut self, position: &Position) -> Result<UploadProgress, RegistryError> {
        let mut location = position.location.clone();
        location.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let request = self.request(Method::PUT, location, position.offset, self.blob.size);
        let response = match self.send(&request).await? {
            RequestOutcome::Response(response) => response,
            RequestOutcome::Transient(cause) => return Ok(UploadProgress::Interrupted(cause)),
        };
        match response.status.as_u16() {
            200 | 201 | 204 => {
                check_digest(self.what, &response, self.blob.digest)?;
                Ok(UploadProgress::Done)
            }
            202 => {
                let why = "202 Accepted, which does not end an upload";
                Ok(UploadProgress::Interrupted(TransferError::Broken(why.to_owned())))
            }
            413 => self.shrink(&response, self.blob.size - position.offset),
            404 | 416 => Ok(UploadProgress::Interrupted(lost())),
            400 if response.has_code(&["DIGEST_INVALID"]) => {
                self.check_file().await?;
                Ok(UploadProgress::Lost(RegistryError::refused(self.what, &response)))
            }
            400 if response.has_code(&["BLOB_UPLOAD_INVALID", "SIZE_INVALID", "RANGE_INVALID"]) => {
                Ok(UploadProgress::Lost(RegistryError::refused(self.what, &response)))
            }
            _ => Err(RegistryError::refused(self.what, &response)),
        }
    }

    /// Asks for the offset that the upload has reached. `None` if the blob exists: only the
    /// response to the end of the upload was lost.
    async fn recover(
        &mut self,
        position: &Position,
        is_lost: bool,
    ) -> Result<Option<Position>, RegistryError> {
        if !is_lost {
            let status = Request::new(Method::GET, position.location.clone());
            let response = self.remote.send(self.what, &status).await?;
            let found = Position::of(&response, &position.location, self.blob);
            // All bytes have arrived, and still it does not end: open another upload.
            let is_at_end = position.offset == self.blob.size;
            if let Some(found) = found.filter(|_| !is_at_end) {
                return Ok(Some(found));
            }
        }
        if self.remote.has_blob(&self.blob.digest, self.blob.size).await? {
            return Ok(None);
        }
        self.chunk = self.chunk.min(CAREFUL_CHUNK_BYTES);
        let (location, min_chunk) = self.remote.reopen(self.what).await?;
        self.min_chunk = min_chunk;
        Ok(Some(Position { location, offset: 0 }))
    }

    /// A front end of the registry limits the size of bodies: smaller chunks pass.
    fn shrink(&mut self, response: &Response, size: u64) -> Result<UploadProgress, RegistryError> {
        let largest = size / 2;
        let refused = RegistryError::refused(self.what, response);
        if largest < LEAST_CHUNK_BYTES || largest < self.min_chunk || !self.may_use_chunks() {
            return Err(refused);
        }
        self.chunk = self.chunk.min(largest);
        self.remote.registry.capabilities.update(|it| it.largest_body = Some(largest));
        Ok(UploadProgress::Lost(refused))
    }

    /// The registry computed another digest: is the file at fault?
    async fn check_file(&self) -> Result<(), RegistryError> {
        let path = self.file.clone();
        let hash = move || Digest::of_reader(File::open(path)?);
        let hashed = tokio::task::spawn_blocking(hash).await.map_err(std::io::Error::from);
        let (received, _) = hashed.flatten().map_err(|source| self.io(source))?;
        if received == self.blob.digest {
            return Ok(());
        }
        let (what, path) = (self.what.to_owned(), self.file.display().to_string());
        Err(RegistryError::WrongFile { what, path, expected: self.blob.digest, received })
    }

    fn request(&self, method: Method, location: Url, start: u64, end: u64) -> Request {
        let range = FileRange { path: self.file.clone(), start, end };
        let mut request = Request::new(method, location)
            .header(CONTENT_TYPE, "application/octet-stream")
            .counting(&self.sent);
        if end > start && (start > 0 || end < self.blob.size) {
            request = request.header(CONTENT_RANGE, &format!("{start}-{}", end - 1));
        }
        request.with(if end > start { Payload::File(range) } else { Payload::Empty })
    }

    async fn send(&self, request: &Request) -> Result<RequestOutcome, RegistryError> {
        match self.remote.send_once(request).await {
            Ok(response) => Ok(match response.transient_failure() {
                None => RequestOutcome::Response(response),
                Some(cause) => RequestOutcome::Transient(cause),
            }),
            Err(NoResponse::TransferError(cause)) if cause.is_transient() => {
                Ok(RequestOutcome::Transient(cause))
            }
            Err(other) => Err(other.into_error(self.what, 1)),
        }
    }

    fn note_chunks(&self, support: Support) {
        self.remote.registry.capabilities.update(|it| it.chunks = Some(support));
    }

    fn io(&self, source: std::io::Error) -> RegistryError {
        RegistryError::Io { what: self.what.to_owned(), source }
    }
}

/// What sending one request led to, when it was no error for good.
enum RequestOutcome {
    Response(Response),
    Transient(TransferError),
}

fn lost() -> TransferError {
    TransferError::Broken("the registry does not know the upload any more".to_owned())
}
