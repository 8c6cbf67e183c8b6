//! One upload, from the place where it stands to its end, however often the connection breaks.

use std::fs::File;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, Url};

use super::answer::Answer;
use super::error::check_digest;
use super::journal::Journal;
use super::manners::Told;
use super::payload::{Part, Payload, Sent};
use super::remote::{Call, NoAnswer};
use super::{Blob, Moved, Remote, RemoteError};
use crate::digest::Digest;
use crate::fetch::Cause;

/// The usual `HostOptions::piece_bytes`.
pub const PIECE: u64 = 32 << 20;

/// After a break that cost everything.
const CAREFUL_PIECE: u64 = 8 << 20;

/// No front end of a registry refuses bodies as small as this.
const SMALLEST_PIECE: u64 = 1 << 18;

pub(super) struct Upload<'a> {
    remote: &'a Remote,
    what: &'a str,
    blob: &'a Blob,
    sent: Sent,
    piece: u64,
    smallest: u64,
}

/// Where the registry says that an upload stands.
struct Place {
    location: Url,
    offset: u64,
}

/// What one request came to.
enum Step {
    Done,
    Further(Place),
    /// It may go better later, from a place that only the registry knows.
    Broken(Cause),
    /// The bytes that are there are of no use.
    Spoilt(RemoteError),
}

impl<'a> Upload<'a> {
    pub(super) fn new(remote: &'a Remote, what: &'a str, blob: &'a Blob, sent: Sent) -> Self {
        let largest = remote.host.manners().largest_body.unwrap_or(u64::MAX);
        Self {
            remote,
            what,
            blob,
            sent,
            piece: remote.host.options.piece_bytes.min(largest),
            smallest: 0,
        }
    }

    /// The registry takes no smaller piece than this, but for the last one.
    pub(super) fn at_least(self, smallest: u64) -> Self {
        Self { smallest, ..self }
    }

    pub(super) async fn run(
        mut self,
        journal: &mut Journal,
        location: Url,
        offset: u64,
    ) -> Result<Moved, RemoteError> {
        let mut place = Place { location, offset };
        // Only who gets further than ever has as many attempts as before: to lose everything each
        // time is no progress.
        let (mut attempts, mut furthest) = (1, offset);
        loop {
            journal.note(&place.location, self.smallest).map_err(|source| self.io(source))?;
            let (cause, spoilt) = match self.step(&place).await? {
                Step::Done => break,
                Step::Further(further) => {
                    place = further;
                    if place.offset > furthest {
                        (attempts, furthest) = (1, place.offset);
                    }
                    continue;
                }
                Step::Broken(cause) => (cause, None),
                Step::Spoilt(error) => {
                    (Cause::Broken("it has to start over".to_owned()), Some(error))
                }
            };
            let Some(wait) = self.remote.wait_before(attempts + 1, &cause) else {
                let failed = NoAnswer::from(cause);
                return Err(spoilt.unwrap_or_else(|| failed.failed(self.what, attempts)));
            };
            attempts += 1;
            self.remote.pause(self.what, &cause, attempts, wait).await;
            match self.recover(&place, spoilt.is_some()).await? {
                None => break,
                Some(found) => place = found,
            }
            if place.offset > furthest {
                (attempts, furthest) = (1, place.offset);
            }
        }
        journal.forget();
        Ok(Moved::Uploaded { sent: self.sent.bytes() })
    }

    /// A piece, or the rest together with the end: some registries answer an empty end with an
    /// error.
    async fn step(&mut self, place: &Place) -> Result<Step, RemoteError> {
        let left = self.blob.size - place.offset;
        let piece = self.piece.max(self.smallest);
        let in_pieces = self.remote.host.manners().takes_chunks != Some(Told::No);
        if left > piece && in_pieces {
            self.patch(place, place.offset + piece).await
        } else {
            self.put(place).await
        }
    }

    async fn patch(&mut self, place: &Place, end: u64) -> Result<Step, RemoteError> {
        let call = self.call(Method::PATCH, place.location.clone(), place.offset, end);
        let answer = match self.send(&call).await? {
            Ok(answer) => answer,
            Err(cause) => return Ok(Step::Broken(cause)),
        };
        match answer.status.as_u16() {
            200 | 202 | 204 => {
                self.note_chunks(Told::Yes);
                let offset = answer.received().unwrap_or(end);
                let location = answer.location().unwrap_or_else(|| place.location.clone());
                if offset > self.blob.size || offset <= place.offset {
                    let why = format!("{offset} bytes are there after a piece up to {end}");
                    return Ok(Step::Spoilt(RemoteError::senseless(self.what, why)));
                }
                Ok(Step::Further(Place { location, offset }))
            }
            413 => self.shrink(&answer, end - place.offset),
            404 | 416 => Ok(Step::Broken(lost())),
            // No pieces here: all at once then.
            400 | 405 | 411 | 501 if place.offset == 0 => {
                let error = RemoteError::refused(self.what, &answer);
                if self.remote.host.manners().takes_chunks == Some(Told::Yes) {
                    return Err(error);
                }
                self.note_chunks(Told::No);
                Ok(Step::Spoilt(error))
            }
            _ => Err(RemoteError::refused(self.what, &answer)),
        }
    }

    async fn put(&mut self, place: &Place) -> Result<Step, RemoteError> {
        let mut location = place.location.clone();
        location.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let call = self.call(Method::PUT, location, place.offset, self.blob.size);
        let answer = match self.send(&call).await? {
            Ok(answer) => answer,
            Err(cause) => return Ok(Step::Broken(cause)),
        };
        match answer.status.as_u16() {
            200 | 201 | 204 => {
                check_digest(self.what, &answer, self.blob.digest)?;
                Ok(Step::Done)
            }
            202 => Ok(Step::Broken(Cause::Broken("202 is not the end of an upload".to_owned()))),
            413 => self.shrink(&answer, self.blob.size - place.offset),
            404 | 416 => Ok(Step::Broken(lost())),
            400 if answer.has_code(&["DIGEST_INVALID"]) => {
                self.check_file().await?;
                Ok(Step::Spoilt(RemoteError::refused(self.what, &answer)))
            }
            400 if answer.has_code(&["BLOB_UPLOAD_INVALID", "SIZE_INVALID", "RANGE_INVALID"]) => {
                Ok(Step::Spoilt(RemoteError::refused(self.what, &answer)))
            }
            _ => Err(RemoteError::refused(self.what, &answer)),
        }
    }

    /// Asks where the upload stands. Nothing when the blob is there after all: the answer to its
    /// end was lost.
    async fn recover(
        &mut self,
        place: &Place,
        is_lost: bool,
    ) -> Result<Option<Place>, RemoteError> {
        let is_at_end = place.offset == self.blob.size;
        if !is_lost {
            let status = Call::new(Method::GET, place.location.clone());
            let answer = self.remote.ask(self.what, &status).await?;
            let is_alive = matches!(answer.status.as_u16(), 200 | 202 | 204);
            let offset = answer.received().filter(|offset| is_alive && *offset <= self.blob.size);
            // Everything is there, and still it does not end: another one may.
            if let Some(offset) = offset.filter(|_| !is_at_end) {
                let location = answer.location().unwrap_or_else(|| place.location.clone());
                return Ok(Some(Place { location, offset }));
            }
        }
        if self.remote.has_blob(&self.blob.digest, self.blob.size).await? {
            return Ok(None);
        }
        self.piece = self.piece.min(CAREFUL_PIECE);
        let (location, smallest) = self.remote.reopen(self.what).await?;
        self.smallest = smallest;
        Ok(Some(Place { location, offset: 0 }))
    }

    /// A front end in between limits the size of bodies: smaller pieces pass.
    fn shrink(&mut self, answer: &Answer, size: u64) -> Result<Step, RemoteError> {
        let largest = size / 2;
        let in_pieces = self.remote.host.manners().takes_chunks != Some(Told::No);
        if largest < SMALLEST_PIECE || largest < self.smallest || !in_pieces {
            return Err(RemoteError::refused(self.what, answer));
        }
        self.piece = self.piece.min(largest);
        self.remote.host.manners.write(|manners| manners.largest_body = Some(largest));
        Ok(Step::Spoilt(RemoteError::refused(self.what, answer)))
    }

    /// Nothing is the registry's fault when our own file is wrong.
    async fn check_file(&self) -> Result<(), RemoteError> {
        let path = self.blob.path.clone();
        let hash = move || Digest::of_reader(File::open(path)?);
        let hashed = tokio::task::spawn_blocking(hash).await.map_err(std::io::Error::from);
        let (received, _) = hashed.flatten().map_err(|source| self.io(source))?;
        if received == self.blob.digest {
            return Ok(());
        }
        let (what, path) = (self.what.to_owned(), self.blob.path.display().to_string());
        Err(RemoteError::WrongFile { what, path, expected: self.blob.digest, received })
    }

    fn call(&self, method: Method, location: Url, start: u64, end: u64) -> Call {
        let part = Part { path: self.blob.path.clone(), start, end };
        let mut call = Call::new(method, location)
            .header(CONTENT_TYPE, "application/octet-stream")
            .counting(&self.sent);
        if end > start && (start > 0 || end < self.blob.size) {
            call = call.header(CONTENT_RANGE, &format!("{start}-{}", end - 1));
        }
        let payload = if end > start { Payload::File(part) } else { Payload::Nothing };
        call.with(payload)
    }

    /// The inner error may pass; the outer one will not.
    async fn send(&self, call: &Call) -> Result<Result<Answer, Cause>, RemoteError> {
        match self.remote.send(call).await {
            Ok(answer) => Ok(match answer.busy() {
                None => Ok(answer),
                Some(cause) => Err(cause),
            }),
            Err(NoAnswer::Cause(cause)) if cause.may_pass() => Ok(Err(cause)),
            Err(other) => Err(other.failed(self.what, 1)),
        }
    }

    fn note_chunks(&self, told: Told) {
        self.remote.host.manners.write(|manners| manners.takes_chunks = Some(told));
    }

    fn io(&self, source: std::io::Error) -> RemoteError {
        RemoteError::Io { what: self.what.to_owned(), source }
    }
}

fn lost() -> Cause {
    Cause::Broken("the registry has lost the upload".to_owned())
}

impl Blob {
    /// Whether the file is as long as it should be; what it holds, the registry will say.
    pub fn is_whole(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|known| known.len() == self.size)
    }
}
