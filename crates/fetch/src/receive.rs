//! One request, or one read of a local file, and its bytes on their way into the partial file.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Response, Url};
use tokio::io::AsyncReadExt as _;

use super::expected::ExpectedFile;
use super::partial::Partial;
use super::resume::{self, Resume};
use super::{DownloadSource, HttpGet, TransferError, TransferListener, transport};
use store::StoreError;

/// Why an attempt failed: another mirror helps against the one, nothing against the other.
pub(super) enum AttemptError {
    Mirror(TransferError),
    Store(StoreError),
}

impl<C: Into<TransferError>> From<C> for AttemptError {
    fn from(cause: C) -> Self {
        Self::Mirror(cause.into())
    }
}

impl From<StoreError> for AttemptError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A file on its way into the store.
pub(super) struct DownloadState<'a> {
    pub(super) file: &'a ExpectedFile<'a>,
    pub(super) partial: Partial,
    pub(super) listener: TransferListener,
    pub(super) http: &'a dyn HttpGet,
    pub(super) stall_timeout: Duration,
    /// `ETag` or `Last-Modified` of the file at the present mirror.
    pub(super) validator: Option<HeaderValue>,
}

impl DownloadState<'_> {
    /// Fetches the bytes that are missing; afterwards the partial file is as long as it should be.
    pub(super) async fn receive(&mut self, source: &DownloadSource) -> Result<(), AttemptError> {
        match source {
            DownloadSource::Http { url, headers } => self.receive_http(url, headers).await,
            DownloadSource::File(path) => self.receive_file(path).await,
            DownloadSource::Unknown(_) => Err(TransferError::Url.into()),
        }
    }

    async fn receive_http(&mut self, url: &Url, headers: &HeaderMap) -> Result<(), AttemptError> {
        let mut response = self.request(url, headers).await?;
        let mut resume = self.resume(&response)?;
        if resume == Resume::AskForAll {
            self.partial.restart()?;
            response = self.request(url, headers).await?;
            resume = self.resume(&response)?;
        }
        self.validator = resume::validator(response.headers());
        let total = match resume {
            Resume::Complete | Resume::AskForAll => return Ok(()),
            Resume::Appends { total } => total,
            Resume::StartsOver { total } => {
                self.partial.restart()?;
                total
            }
        };
        self.read_body(response).await?;
        self.check_length(total)
    }

    async fn request(&self, url: &Url, headers: &HeaderMap) -> Result<Response, TransferError> {
        let mut headers = headers.clone();
        let position = self.partial.len();
        if position > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={position}-"))
        {
            headers.insert(RANGE, range);
            if let Some(validator) = &self.validator {
                headers.insert(IF_RANGE, validator.clone());
            }
        }
        self.http.get_response(url.clone(), headers).await
    }

    fn resume(&self, response: &Response) -> Result<Resume, TransferError> {
        Resume::of(response.status(), response.headers(), self.partial.len(), self.file)
    }

    async fn read_body(&mut self, mut response: Response) -> Result<(), AttemptError> {
        let stall = self.stall_timeout;
        self.partial.begin_response();
        loop {
            let read = tokio::time::timeout(stall, response.chunk()).await;
            let read = read.map_err(|_| TransferError::Stalled(stall))?;
            match read.map_err(|error| transport(&error, stall))? {
                Some(bytes) => self.write(&bytes)?,
                None => return Ok(()),
            }
        }
    }

    /// Local files are so near that it is not worth while to continue in the middle.
    async fn receive_file(&mut self, path: &Path) -> Result<(), AttemptError> {
        let mut source = tokio::fs::File::open(path).await.map_err(TransferError::File)?;
        self.partial.restart()?;
        self.partial.begin_response();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match source.read(&mut buffer).await.map_err(TransferError::File)? {
                0 => break,
                n => self.write(&buffer[..n])?,
            }
        }
        match self.file.size {
            // Unlike a connection, a file that ends has ended.
            Some(expected) if expected != self.partial.len() => {
                let received = self.partial.len();
                self.partial.restart()?;
                Err(TransferError::WrongSize { expected, received }.into())
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), AttemptError> {
        let limit = self.file.limit;
        if self.partial.len() + bytes.len() as u64 > limit {
            self.partial.restart()?;
            return Err(TransferError::TooLong { limit }.into());
        }
        self.partial.write(bytes)?;
        (self.listener)(self.partial.len());
        Ok(())
    }

    /// A connection without a stated length can end too early without an error.
    fn check_length(&self, total: Option<u64>) -> Result<(), AttemptError> {
        let received = self.partial.len();
        match self.file.size.or(total) {
            Some(expected) if received < expected => {
                Err(TransferError::Short { expected, received }.into())
            }
            _ => Ok(()),
        }
    }

    /// What an earlier process left may be too long to be of use.
    pub(super) fn start(&mut self) -> Result<(), StoreError> {
        if self.partial.len() > self.file.limit {
            self.partial.restart()?;
        }
        (self.listener)(self.partial.len());
        Ok(())
    }

    /// Whether an earlier process was killed between the last byte and the final name.
    pub(super) fn is_finished(&mut self) -> Result<bool, StoreError> {
        let is_complete = self.file.size == Some(self.partial.len());
        Ok(is_complete && self.partial.seal(&self.file.digest)?.is_none())
    }
}
