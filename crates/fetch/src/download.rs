//! One file: mirror after mirror, attempt after attempt.

use super::expected::ExpectedFile;
use super::partial::Partial;
use super::receive::{AttemptError, DownloadState};
use super::{
    Attempts, DownloadSource, FetchError, FetchOptions, HttpGet, MirrorFailure, Progress,
    TransferError,
};
use oci::digest::Digest;
use oci::document::size_text as size;
use store::{Store, StoreError};

/// A file that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub name: String,
    pub digest: Digest,
    pub size_bytes: u64,
    pub origin: FetchOrigin,
}

/// Where a file came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchOrigin {
    /// It was there already, or another process fetched it.
    Store,
    /// The mirror, as it may be shown: without credentials and query.
    Mirror(String),
}

/// Fetches files into a store, by requests that `http` sends.
#[derive(Clone, Copy, Debug)]
pub struct Downloader<'a> {
    pub store: &'a Store,
    pub http: &'a dyn HttpGet,
    pub options: &'a FetchOptions,
    pub progress: &'a dyn Progress,
}

/// Why one mirror did not deliver, or why none can.
enum DownloadFailure {
    Mirror(MirrorFailure),
    Store(StoreError),
}

impl Downloader<'_> {
    /// Fetches one file into the store, unless it is there.
    pub async fn download(
        &self,
        file: &ExpectedFile<'_>,
        sources: &[DownloadSource],
    ) -> Result<Fetched, FetchError> {
        let name = file.name;
        let on_wait =
            || self.progress.note(&format!("another process is fetching {name}; waiting"));
        let Some(partial) = Partial::open(self.store, &file.digest, on_wait).await? else {
            return self.already_there(file);
        };
        let mut download = DownloadState {
            file,
            partial,
            listener: self.progress.download(name, file.size),
            http: self.http,
            stall_timeout: self.options.stall_timeout,
            validator: None,
        };
        download.start()?;
        let origin = self.try_all(&mut download, sources).await?;
        let size_bytes = self.commit(download).await?;
        self.progress.status("Fetched", &format!("{name} {}", size(size_bytes)));
        Ok(Fetched { name: name.to_owned(), digest: file.digest, size_bytes, origin })
    }

    fn already_there(&self, file: &ExpectedFile<'_>) -> Result<Fetched, FetchError> {
        let size_bytes = self.store.size(&file.digest).ok_or(StoreError::Missing(file.digest))?;
        let (name, origin) = (file.name.to_owned(), FetchOrigin::Store);
        Ok(Fetched { name, digest: file.digest, size_bytes, origin })
    }

    async fn try_all(
        &self,
        download: &mut DownloadState<'_>,
        sources: &[DownloadSource],
    ) -> Result<FetchOrigin, FetchError> {
        if download.is_finished()? {
            return Ok(FetchOrigin::Store);
        }
        let mut failures = Vec::new();
        for (position, source) in sources.iter().enumerate() {
            let failure = match self.try_one(download, source).await {
                Ok(()) => return Ok(FetchOrigin::Mirror(source.to_string())),
                Err(DownloadFailure::Store(error)) => return Err(error.into()),
                Err(DownloadFailure::Mirror(failure)) => failure,
            };
            if position + 1 < sources.len() {
                self.report_failure(download.file, &failure);
            }
            failures.push(failure);
        }
        Err(FetchError::Mirrors { name: download.file.name.to_owned(), failures })
    }

    async fn try_one(
        &self,
        download: &mut DownloadState<'_>,
        source: &DownloadSource,
    ) -> Result<(), DownloadFailure> {
        download.validator = None;
        let mut attempts = Attempts::new(self.options);
        loop {
            let cause = match self.attempt(download, source).await {
                Ok(()) => return Ok(()),
                Err(AttemptError::Store(error)) => return Err(DownloadFailure::Store(error)),
                Err(AttemptError::Mirror(cause)) => cause,
            };
            let Some(wait) = attempts.next(&cause) else {
                let (source, attempts) = (source.to_string(), attempts.made());
                return Err(DownloadFailure::Mirror(MirrorFailure { source, attempts, cause }));
            };
            let text = attempts.describe(download.file.name, &cause, wait);
            self.progress.status("Retrying", &text);
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(
        &self,
        download: &mut DownloadState<'_>,
        source: &DownloadSource,
    ) -> Result<(), AttemptError> {
        loop {
            download.receive(source).await?;
            let is_from_one = download.partial.is_one_response();
            let expected = download.file.digest;
            match download.partial.seal(&expected)? {
                None => return Ok(()),
                Some(received) if is_from_one => {
                    return Err(TransferError::WrongDigest { expected, received }.into());
                }
                // The wrong bytes may be those of an earlier response: ask this mirror for all.
                Some(_) => self.progress.note(&format!(
                    "the parts of {} do not fit together; starting over",
                    download.file.name
                )),
            }
        }
    }

    /// The error at the end lists every mirror, but there is none if the next one delivers.
    fn report_failure(&self, file: &ExpectedFile<'_>, failure: &MirrorFailure) {
        let text = format!("{}: {failure}", file.name);
        if failure.cause.is_wrong_bytes() {
            self.progress.warning(&text);
        } else {
            self.progress.note(&text);
        }
    }

    /// The lock is held until the file has its final name. The store hashes the file once more:
    /// it trusts what can be read back, not what was written.
    async fn commit(&self, download: DownloadState<'_>) -> Result<u64, StoreError> {
        let (store, digest) = (self.store.clone(), download.file.digest);
        let name = download.file.name.to_owned();
        let committed =
            tokio::task::spawn_blocking(move || store.commit_partial(&name, &digest)).await;
        drop(download.listener);
        committed.map_err(|error| {
            StoreError::io("commit", self.store.partial_path(&digest))(error.into())
        })?
    }
}
