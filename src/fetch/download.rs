//! One blob: mirror after mirror, attempt after attempt.

use std::time::Duration;

use reqwest::header::HeaderValue;

use super::partial::Partial;
use super::receive::Fault;
use super::{Cause, FetchError, Fetched, Options, Origin, Source, Tried, retry};
use crate::digest::Digest;
use crate::http::Client;
use crate::store::{Store, StoreError};
use crate::ui::{Transfer, Ui, size};

/// What is to be fetched, wherever it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob<'a> {
    pub(crate) name: &'a str,
    pub(crate) digest: Digest,
    pub(crate) size: Option<u64>,
    /// No more bytes than this are written.
    pub(crate) limit: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Downloader<'a> {
    pub(crate) store: &'a Store,
    pub(crate) client: &'a Client,
    pub(crate) options: &'a Options,
    pub(crate) ui: &'a Ui,
}

/// A blob on its way.
pub(super) struct Job<'a> {
    pub(super) blob: &'a Blob<'a>,
    pub(super) partial: Partial,
    pub(super) transfer: Transfer,
    /// What the present mirror calls its version of the file.
    pub(super) validator: Option<HeaderValue>,
}

impl Downloader<'_> {
    /// Brings one blob into the store, unless it is there.
    pub(crate) async fn download(
        &self,
        blob: &Blob<'_>,
        sources: &[Source],
    ) -> Result<Fetched, FetchError> {
        let on_wait = || self.ui.note(format!("{} is being fetched already; waiting", blob.name));
        let Some(partial) = Partial::open(self.store, &blob.digest, on_wait).await? else {
            return self.already_there(blob);
        };
        let transfer = self.ui.transfer(blob.name, blob.size);
        let mut job = Job { blob, partial, transfer, validator: None };
        job.start()?;
        let origin = self.try_all(&mut job, sources).await?;
        let size_bytes = self.commit(job).await?;
        self.ui.status("Fetched", format!("{} {}", blob.name, size(size_bytes)));
        Ok(Fetched { name: blob.name.to_owned(), digest: blob.digest, size_bytes, origin })
    }

    fn already_there(&self, blob: &Blob<'_>) -> Result<Fetched, FetchError> {
        let size_bytes = self.store.size(&blob.digest).ok_or(StoreError::Missing(blob.digest))?;
        let (name, origin) = (blob.name.to_owned(), Origin::Store);
        Ok(Fetched { name, digest: blob.digest, size_bytes, origin })
    }

    async fn try_all(&self, job: &mut Job<'_>, sources: &[Source]) -> Result<Origin, FetchError> {
        if job.is_finished()? {
            return Ok(Origin::Store);
        }
        let mut tried = Vec::new();
        for (position, source) in sources.iter().enumerate() {
            match self.try_one(job, source).await? {
                Ok(()) => return Ok(Origin::Mirror(source.to_string())),
                Err(failed) => {
                    if position + 1 < sources.len() {
                        self.say_failed(job.blob, &failed);
                    }
                    tried.push(failed);
                }
            }
        }
        Err(FetchError::Mirrors { name: job.blob.name.to_owned(), tried })
    }

    /// The outer error ends everything, the inner one only this mirror.
    async fn try_one(
        &self,
        job: &mut Job<'_>,
        source: &Source,
    ) -> Result<Result<(), Tried>, StoreError> {
        job.validator = None;
        let mut attempts = 1;
        loop {
            let cause = match self.attempt(job, source).await {
                Ok(()) => return Ok(Ok(())),
                Err(Fault::Store(error)) => return Err(error),
                Err(Fault::Mirror(cause)) => cause,
            };
            let Some(wait) = retry::wait_before(attempts + 1, &cause, self.options) else {
                return Ok(Err(Tried { source: source.to_string(), attempts, cause }));
            };
            attempts += 1;
            self.say_retry(job.blob, &cause, attempts, wait);
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, job: &mut Job<'_>, source: &Source) -> Result<(), Fault> {
        loop {
            self.receive(job, source).await?;
            let blame = job.partial.is_one_piece();
            let expected = job.blob.digest;
            match job.partial.seal(&expected)? {
                None => return Ok(()),
                Some(received) if blame => {
                    return Err(Cause::WrongDigest { expected, received }.into());
                }
                // Somebody else's bytes may be the wrong ones: this mirror may send all of them.
                Some(_) => self.ui.note(format!(
                    "the bytes of {} do not fit together; starting over",
                    job.blob.name
                )),
            }
        }
    }

    /// The error at the end lists every mirror, but there is none if the next one delivers.
    fn say_failed(&self, blob: &Blob<'_>, failed: &Tried) {
        let text = format!("{}: {failed}", blob.name);
        if failed.cause.is_wrong_bytes() {
            self.ui.warning(text);
        } else {
            self.ui.note(text);
        }
    }

    fn say_retry(&self, blob: &Blob<'_>, cause: &Cause, attempt: u32, wait: Duration) {
        let Options { attempts, .. } = self.options;
        let (name, seconds) = (blob.name, wait.as_secs_f64());
        let text = format!("{name}: {cause}; attempt {attempt} of {attempts} in {seconds:.1} s");
        self.ui.status("Retrying", text);
    }

    /// The lock is held until the blob has its final name. The store hashes the file once more:
    /// it trusts what can be read back, not what was written.
    async fn commit(&self, job: Job<'_>) -> Result<u64, StoreError> {
        let (store, name, digest) = (self.store.clone(), job.blob.name.to_owned(), job.blob.digest);
        let committed =
            tokio::task::spawn_blocking(move || store.commit_partial(&name, &digest)).await;
        job.transfer.finish();
        committed.map_err(|error| {
            StoreError::io("commit", self.store.partial_path(&digest))(error.into())
        })?
    }
}

impl Job<'_> {
    /// What an earlier process left may be of no use.
    fn start(&mut self) -> Result<(), StoreError> {
        if self.partial.len() > self.blob.limit {
            self.partial.restart()?;
        }
        self.transfer.set_position(self.partial.len());
        Ok(())
    }

    /// Whether an earlier process was killed between the last byte and the final name.
    fn is_finished(&mut self) -> Result<bool, StoreError> {
        let complete = self.blob.size == Some(self.partial.len());
        Ok(complete && self.partial.seal(&self.blob.digest)?.is_none())
    }
}
