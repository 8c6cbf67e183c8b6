//! One request, or one look at a file, and its bytes on their way into the partial file.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Response, Url};
use tokio::io::AsyncReadExt as _;

use super::download::{Downloader, Job};
use super::reply::{self, Reply};
use super::{Cause, Source};
use crate::http;
use crate::store::StoreError;

/// Whose fault it is decides who may try again.
pub(super) enum Fault {
    Mirror(Cause),
    Store(StoreError),
}

impl<C: Into<Cause>> From<C> for Fault {
    fn from(cause: C) -> Self {
        Self::Mirror(cause.into())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Downloader<'_> {
    /// Brings in what is missing; afterwards the partial file is as long as it should be.
    pub(super) async fn receive(&self, job: &mut Job<'_>, source: &Source) -> Result<(), Fault> {
        match source {
            Source::Http { url, headers } => self.receive_http(job, url, headers).await,
            Source::File(path) => receive_file(job, path).await,
            Source::Unknown(_) => Err(Cause::Url.into()),
        }
    }

    async fn receive_http(
        &self,
        job: &mut Job<'_>,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<(), Fault> {
        let mut response = self.ask(job, url, headers).await?;
        let mut reply = judge(&response, url, job)?;
        if reply == Reply::CannotResume {
            job.partial.restart()?;
            response = self.ask(job, url, headers).await?;
            reply = judge(&response, url, job)?;
        }
        job.validator = reply::validator(response.headers());
        let total = match reply {
            Reply::Complete | Reply::CannotResume => return Ok(()),
            Reply::Appends { total } => total,
            Reply::StartsOver { total } => {
                job.partial.restart()?;
                total
            }
        };
        self.read_body(job, response).await?;
        check_length(job, total)
    }

    async fn ask(&self, job: &Job<'_>, url: &Url, headers: &HeaderMap) -> Result<Response, Fault> {
        let mut request = self.client.get(url.clone())?.headers(headers.clone());
        let position = job.partial.len();
        if position > 0 {
            request = request.header(RANGE, format!("bytes={position}-"));
            if let Some(validator) = &job.validator {
                request = request.header(IF_RANGE, HeaderValue::clone(validator));
            }
        }
        Ok(request.send().await.map_err(|error| self.transport(&error))?)
    }

    async fn read_body(&self, job: &mut Job<'_>, mut response: Response) -> Result<(), Fault> {
        job.partial.begin_piece();
        while let Some(bytes) = response.chunk().await.map_err(|error| self.transport(&error))? {
            job.write(&bytes)?;
        }
        Ok(())
    }

    fn transport(&self, error: &reqwest::Error) -> Cause {
        transport(error, self.options.stall_timeout)
    }
}

/// What went wrong below HTTP.
pub(crate) fn transport(error: &reqwest::Error, stall_timeout: Duration) -> Cause {
    let reason = http::reason(error);
    if error.is_redirect() || error.is_builder() {
        Cause::Protocol(reason)
    } else if error.is_connect() {
        Cause::Connect(reason)
    } else if error.is_timeout() {
        Cause::Stalled(stall_timeout)
    } else {
        Cause::Broken(reason)
    }
}

impl Job<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let limit = self.blob.limit;
        if self.partial.len() + bytes.len() as u64 > limit {
            self.partial.restart()?;
            return Err(Cause::TooLong { limit }.into());
        }
        self.partial.write(bytes)?;
        self.transfer.set_position(self.partial.len());
        Ok(())
    }
}

fn judge(response: &Response, asked: &Url, job: &Job<'_>) -> Result<Reply, Cause> {
    Reply::of(response.status(), response.headers(), job.partial.len(), job.blob)
        .map_err(|cause| cause.said_by(asked, response.url()))
}

/// A file is so near that going on in the middle is not worth a case of its own.
async fn receive_file(job: &mut Job<'_>, path: &Path) -> Result<(), Fault> {
    let mut file = tokio::fs::File::open(path).await.map_err(Cause::File)?;
    job.partial.restart()?;
    job.partial.begin_piece();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer).await.map_err(Cause::File)? {
            0 => break,
            n => job.write(&buffer[..n])?,
        }
    }
    match job.blob.size {
        // Unlike a connection, a file that ends has ended.
        Some(expected) if expected != job.partial.len() => {
            let received = job.partial.len();
            job.partial.restart()?;
            Err(Cause::WrongSize { expected, received }.into())
        }
        _ => Ok(()),
    }
}

/// A connection that may end at any time can end too early without an error.
fn check_length(job: &Job<'_>, total: Option<u64>) -> Result<(), Fault> {
    let received = job.partial.len();
    match job.blob.size.or(total) {
        Some(expected) if received < expected => Err(Cause::Short { expected, received }.into()),
        _ => Ok(()),
    }
}
