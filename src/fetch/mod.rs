//! Fetches pinned files from mirrors into the store.
//!
//! What the store has is not asked for again. Everything else is tried mirror by mirror, continues
//! after breaks, and counts only once its digest is the pinned one.
//! Not responsible for: which files are wanted, or what to advise when none can be had.

mod download;
mod error;
mod expected;
mod http_get;
mod options;
mod partial;
mod receive;
mod resume;
mod retry;
mod short_body;
mod source;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub(crate) use download::Downloader;
pub use download::{FetchOrigin, Fetched};
pub use error::{Cause, FetchError, MirrorFailure};
pub(crate) use expected::ExpectedFile;
pub(crate) use http_get::{HttpGet, transport};
pub use options::FetchOptions;
pub(crate) use resume::status_cause;
pub(crate) use retry::Attempts;
pub(crate) use short_body::short_body;
pub(crate) use source::DownloadSource;

use crate::digest::Digest;
use crate::http::Client;
use crate::store::Store;
use crate::ui::Ui;

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
    ui: &Ui,
) -> Result<Vec<Fetched>, FetchError> {
    let client = Client::new(options.connect_timeout, options.stall_timeout);
    let client = client.trusting(options.trust.clone());
    let downloader = Downloader { store, http: &client, options, ui };
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
