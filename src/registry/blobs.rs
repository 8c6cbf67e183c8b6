//! Blobs of a repository: whether they are there, and the ways to get them there.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode, Url};

use super::answer::Answer;
use super::error::check_digest;
use super::journal::Journal;
use super::manners::Told;
use super::payload::{Listener, Payload, Sent};
use super::remote::Call;
use super::upload::Upload;
use super::{Remote, RemoteError};
use crate::digest::Digest;

/// What may come with the request that opens its upload, to see whether the registry takes it.
pub const SMALL: u64 = 64 << 10;

/// A file that is to be in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    pub size: u64,
    pub path: PathBuf,
}

/// How a blob came to be where it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It was there.
    Present,
    /// From another repository of the same registry; nothing was sent.
    Mounted { from: Option<String> },
    /// So many bytes were sent in this run, those included that were lost on the way.
    Uploaded { sent: u64 },
}

/// Whether to believe a registry that says it has a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    Asks,
    /// It said so before, and then missed it.
    Insists,
}

/// Gets the file of a blob that is to be uploaded, where it is not at hand. Called only when its
/// bytes are really wanted.
pub trait Bring: Send + Sync {
    fn bring<'a>(&'a self, blob: &'a Blob) -> BoxFuture<'a, Result<(), RemoteError>>;
}

/// A blob, and how to hand it over.
#[derive(Clone)]
pub struct Delivery<'a> {
    pub blob: &'a Blob,
    /// Paths of repositories that it may be mounted from.
    pub sources: &'a [String],
    pub belief: Belief,
    pub listener: Listener,
    pub bring: Option<&'a dyn Bring>,
}

impl std::fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.blob.digest, self.belief)
    }
}

impl Delivery<'_> {
    async fn bring(&self) -> Result<(), RemoteError> {
        match self.bring.filter(|_| !self.blob.is_whole()) {
            Some(bring) => bring.bring(self.blob).await,
            None => Ok(()),
        }
    }
}

/// How an upload begins.
enum Opened {
    Done(Moved),
    At(Url, u64),
}

impl Remote {
    /// Whether a blob is there, whole.
    pub async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, RemoteError> {
        let what = format!("ask {} for the blob {}", self.repository(), digest.short());
        let call = Call::new(Method::HEAD, self.repository().url("blobs", digest));
        let answer = self.ask(&what, &call).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            StatusCode::OK => {
                check_digest(&what, &answer, *digest)?;
                Ok(is_whole(&answer, size))
            }
            _ => Err(RemoteError::refused(&what, &answer)),
        }
    }

    /// Whether another repository of the registry has a blob, and lets us see it. To mount it is to
    /// change this one.
    pub async fn can_mount(
        &self,
        source: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, RemoteError> {
        let what = format!("ask {source} for the blob {}", digest.short());
        let call =
            Call::new(Method::HEAD, self.repository().neighbour(source).url("blobs", digest));
        let answer = self.ask(&what, &call).await?;
        Ok(answer.status == StatusCode::OK && is_whole(&answer, size))
    }

    /// Brings a blob in, by what costs least: it is there; it is mounted; it is uploaded, from
    /// where an earlier process was stopped.
    pub async fn push_blob(&self, delivery: &Delivery<'_>) -> Result<Moved, RemoteError> {
        let blob = delivery.blob;
        let what = format!("push the blob {} to {}", blob.digest.short(), self.repository());
        let folder = &self.host.options.folder;
        let mut journal = Journal::open(folder, self.repository(), blob.digest);
        let upload = Upload::new(self, &what, blob, Sent::told_to(delivery.listener.clone()));
        if let Some(location) = journal.location() {
            // Since it was begun, another machine may have brought the blob.
            if let Some(moved) = self.arrived(&what, delivery).await? {
                journal.forget();
                return Ok(moved);
            }
            if let Some((location, offset)) = self.resume(&what, &location, blob).await? {
                delivery.bring().await?;
                let smallest = journal.smallest();
                return upload.at_least(smallest).run(&mut journal, location, offset).await;
            }
            journal.forget();
        }
        match self.open(&what, delivery).await? {
            Opened::Done(moved) => Ok(moved),
            Opened::At(location, smallest) => {
                delivery.bring().await?;
                upload.at_least(smallest).run(&mut journal, location, 0).await
            }
        }
    }

    /// Whether a blob need not be uploaded any more. A mount that becomes an upload is none: the one
    /// that is on its way has gone further.
    async fn arrived(
        &self,
        what: &str,
        delivery: &Delivery<'_>,
    ) -> Result<Option<Moved>, RemoteError> {
        let blob = delivery.blob;
        if delivery.belief == Belief::Insists {
            return Ok(None);
        }
        if self.has_blob(&blob.digest, blob.size).await? {
            return Ok(Some(Moved::Present));
        }
        for source in delivery.sources {
            if let Some(Opened::Done(moved)) = self.mount(what, blob, Some(source)).await? {
                return Ok(Some(moved));
            }
        }
        Ok(None)
    }

    /// Where an upload of an earlier process stands; nothing when the registry has given it up, or
    /// cannot be moved to say.
    async fn resume(
        &self,
        what: &str,
        location: &Url,
        blob: &Blob,
    ) -> Result<Option<(Url, u64)>, RemoteError> {
        let answer = match self.ask(what, &Call::new(Method::GET, location.clone())).await {
            Ok(answer) => answer,
            // The host that it is at may be gone for good. A new upload may have another.
            Err(RemoteError::Failed { .. } | RemoteError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_alive = matches!(answer.status.as_u16(), 200 | 202 | 204);
        let offset = answer.received().filter(|offset| is_alive && *offset <= blob.size);
        let location = answer.location().unwrap_or_else(|| location.clone());
        Ok(offset.map(|offset| (location, offset)))
    }

    async fn open(&self, what: &str, delivery: &Delivery<'_>) -> Result<Opened, RemoteError> {
        let blob = delivery.blob;
        if delivery.belief == Belief::Insists {
            let answer = self.post(what, &[], Payload::Nothing).await?;
            return opened(what, &answer);
        }
        if self.host.manners().tells_by_mount == Some(Told::Yes) {
            let own = self.repository().path().to_owned();
            match self.mount(what, blob, Some(&own)).await? {
                Some(Opened::Done(_)) => return Ok(Opened::Done(Moved::Present)),
                Some(session) => return self.mount_from(what, delivery, Some(session)).await,
                None => {}
            }
        }
        if self.has_blob(&blob.digest, blob.size).await? {
            return Ok(Opened::Done(Moved::Present));
        }
        self.mount_from(what, delivery, None).await
    }

    async fn mount_from(
        &self,
        what: &str,
        delivery: &Delivery<'_>,
        mut session: Option<Opened>,
    ) -> Result<Opened, RemoteError> {
        for source in delivery.sources {
            match self.mount(what, delivery.blob, Some(source)).await? {
                Some(Opened::Done(moved)) => return Ok(Opened::Done(moved)),
                Some(other) => session = Some(other),
                None => {}
            }
        }
        match session {
            Some(session) => Ok(session),
            None => self.start(what, delivery).await,
        }
    }

    /// Opens an upload by what may do more than that.
    async fn start(&self, what: &str, delivery: &Delivery<'_>) -> Result<Opened, RemoteError> {
        let blob = delivery.blob;
        let manners = self.host.manners();
        if blob.size <= SMALL && manners.takes_single_post != Some(Told::No) {
            delivery.bring().await?;
            let answer = self.post_whole(what, blob).await?;
            let took = answer.status == StatusCode::CREATED;
            if took || answer.status == StatusCode::ACCEPTED {
                let told = if took { Told::Yes } else { Told::No };
                self.host.manners.write(|manners| manners.takes_single_post = Some(told));
            }
            if took {
                check_digest(what, &answer, blob.digest)?;
                return Ok(Opened::Done(Moved::Uploaded { sent: blob.size }));
            }
            if answer.status == StatusCode::ACCEPTED {
                return opened(what, &answer);
            }
            self.host.manners.write(|manners| manners.takes_single_post = Some(Told::No));
        } else if manners.mounts_from_anywhere != Some(Told::No) {
            if let Some(opened) = self.mount(what, blob, None).await? {
                return Ok(opened);
            }
            self.host.manners.write(|manners| manners.mounts_from_anywhere = Some(Told::No));
        }
        let answer = self.post(what, &[], Payload::Nothing).await?;
        opened(what, &answer)
    }

    async fn post_whole(&self, what: &str, blob: &Blob) -> Result<Answer, RemoteError> {
        let read = tokio::fs::read(&blob.path).await;
        let bytes = read.map_err(|source| RemoteError::Io { what: what.to_owned(), source })?;
        let digest = blob.digest.to_string();
        self.post(what, &[("digest", &digest)], Payload::Bytes(Arc::from(bytes))).await
    }

    /// Mounts from a repository of the same registry, or from any. An upload that is opened
    /// instead is as good as another. Nothing when the registry will have none of it.
    async fn mount(
        &self,
        what: &str,
        blob: &Blob,
        from: Option<&String>,
    ) -> Result<Option<Opened>, RemoteError> {
        let digest = blob.digest.to_string();
        let query = [("mount", digest.as_str())];
        let query = query.into_iter().chain(from.map(|from| ("from", from.as_str())));
        let answer = self.post(what, &query.collect::<Vec<_>>(), Payload::Nothing).await?;
        match answer.status {
            StatusCode::CREATED => {
                check_digest(what, &answer, blob.digest)?;
                Ok(Some(Opened::Done(Moved::Mounted { from: from.cloned() })))
            }
            StatusCode::ACCEPTED => opened(what, &answer).map(Some),
            // Not allowed to read there, or no such thing: what is left is to upload.
            _ => Ok(None),
        }
    }

    /// Finds out what `Manners::tells_by_mount` says, with a blob that is there.
    pub async fn learn(&self, present: &Blob) -> Result<(), RemoteError> {
        if self.host.manners().tells_by_mount.is_some() {
            return Ok(());
        }
        let own = self.repository().path().to_owned();
        let what = format!("see how {} mounts", self.repository());
        let mounted = self.mount(&what, present, Some(&own)).await?;
        let told = matches!(mounted, Some(Opened::Done(_)));
        let told = if told { Told::Yes } else { Told::No };
        self.host.manners.write(|manners| manners.tells_by_mount = Some(told));
        Ok(())
    }

    /// A new upload, when the old one is lost.
    pub(super) async fn reopen(&self, what: &str) -> Result<(Url, u64), RemoteError> {
        let answer = self.post(what, &[], Payload::Nothing).await?;
        match opened(what, &answer)? {
            Opened::At(location, smallest) => Ok((location, smallest)),
            Opened::Done(_) => Err(RemoteError::senseless(what, "an upload that is done at once")),
        }
    }

    async fn post(
        &self,
        what: &str,
        query: &[(&str, &str)],
        payload: Payload,
    ) -> Result<Answer, RemoteError> {
        let mut url = self.repository().at("blobs/uploads/");
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut call = Call::new(Method::POST, url);
        if matches!(payload, Payload::Bytes(_)) {
            call = call.header(reqwest::header::CONTENT_TYPE, "application/octet-stream");
        }
        self.ask(what, &call.with(payload)).await
    }
}

/// Some say 0 to HEAD whatever it is. Another size is another thing.
fn is_whole(answer: &Answer, size: u64) -> bool {
    let length = answer.text(&reqwest::header::CONTENT_LENGTH);
    let length = length.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    length == 0 || length == size
}

/// A registry that accepts an upload says where it goes on.
fn opened(what: &str, answer: &Answer) -> Result<Opened, RemoteError> {
    if answer.status != StatusCode::ACCEPTED {
        return Err(RemoteError::refused(what, answer));
    }
    match answer.location() {
        Some(location) => Ok(Opened::At(location, answer.smallest_chunk())),
        None => Err(RemoteError::senseless(what, "202 Accepted without a usable Location")),
    }
}
