//! The one HTTP client ([`http`]), and pinned files that are fetched from mirrors into the store.
//!
//! What the store has is not asked for again. Everything else is tried mirror by mirror, continues
//! after breaks, and counts only once its digest is the pinned one.
//! Not responsible for: which files are wanted, what to advise when none can be had, or how
//! progress is shown ([`Progress`]).

mod download;
mod error;
mod expected;
pub mod http;
mod http_get;
mod options;
mod partial;
mod progress;
mod receive;
mod resume;
mod retry;
mod short_body;
mod source;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub use download::Downloader;
pub use download::{FetchOrigin, Fetched};
pub use error::{FetchError, MirrorFailure, TransferError};
pub use expected::ExpectedFile;
pub use http_get::{HttpGet, transport};
pub use options::FetchOptions;
pub use progress::{Progress, TransferListener};
pub use resume::status_cause;
pub use retry::Attempts;
pub use short_body::short_body;
pub use source::DownloadSource;

use crate::http::Client;
use oci::Digest;
use store::Store;

/// More than this is never written for a file whose size is not pinned, in bytes.
const DEFAULT_LIMIT: u64 = 1 << 30;

/// A pinned file and where it may come from, best first: `http://`, `https://`, `file://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedFile {
    pub name: String,
    pub urls: Vec<String>,
    pub digest: Digest,
    /// In bytes; `None` if it is not pinned.
    pub size: Option<u64>,
}

/// Fetches all files into the store; the results are in the order of the files.
/// The first file that no mirror can deliver ends it; what has arrived of the others is kept.
pub async fn fetch(
    store: &Store,
    files: &[PinnedFile],
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Vec<Fetched>, FetchError> {
    let client = Client::new(options.connect_timeout, options.stall_timeout);
    let client = client.trusting(options.trust.clone());
    let downloader = Downloader { store, http: &client, options, progress };
    let fetching = files.iter().enumerate().map(async |(position, file)| {
        Ok::<_, FetchError>((position, fetch_one(&downloader, file).await?))
    });
    let fetching = stream::iter(fetching.collect::<Vec<_>>());
    let mut fetched: Vec<_> =
        fetching.buffer_unordered(options.parallel.max(1)).try_collect().await?;
    fetched.sort_by_key(|(position, _)| *position);
    Ok(fetched.into_iter().map(|(_, fetched)| fetched).collect())
}

async fn fetch_one(downloader: &Downloader<'_>, file: &PinnedFile) -> Result<Fetched, FetchError> {
    let expected = ExpectedFile {
        name: &file.name,
        digest: file.digest,
        size: file.size,
        limit: file.size.unwrap_or(DEFAULT_LIMIT),
    };
    let sources: Vec<_> = file.urls.iter().map(|url| DownloadSource::parse(url)).collect();
    downloader.download(&expected, &sources).await
}
