//! Brings pinned files from mirrors into the store.
//!
//! What the store has is not asked for again. Everything else is tried mirror by mirror, goes on
//! after breaks, and counts only once its digest is the pinned one.
//! Not responsible for: which files are wanted, or what to advise when none can be had.

mod answer;
mod download;
mod error;
mod partial;
mod receive;
mod reply;
mod retry;
mod source;

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub(crate) use answer::answer;
pub(crate) use download::{Blob, Downloader};
pub use error::{Cause, FetchError, Tried};
pub(crate) use receive::transport;
pub(crate) use reply::{challenge, refusal};
pub(crate) use retry::wait_before;
pub(crate) use source::Source;

use crate::digest::Digest;
use crate::http::Client;
use crate::store::Store;
use crate::ui::Ui;

/// More than this is never written for a file whose size is not pinned.
const DEFAULT_LIMIT: u64 = 1 << 30;

/// A pinned file and where it may come from, best first: `http://`, `https://`, `file://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub urls: Vec<String>,
    pub digest: Digest,
    pub size: Option<u64>,
}

/// How patient to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Per mirror, the first one included.
    pub attempts: u32,
    pub connect_timeout: Duration,
    /// The longest time without a byte.
    pub stall_timeout: Duration,
    /// How many files at once.
    pub parallel: usize,
    /// The longest wait before the second attempt; it doubles with each further one.
    pub backoff: Duration,
    /// No wait is longer, whatever a server asks for.
    pub longest_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attempts: 5,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            parallel: 4,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_mins(1),
        }
    }
}

/// A file that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub name: String,
    pub digest: Digest,
    pub size_bytes: u64,
    pub origin: Origin,
}

/// Where a file came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there already, or another process brought it.
    Store,
    /// The mirror, as it may be shown: without credentials and query.
    Mirror(String),
}

/// Brings everything wanted into the store; the answers are in the order of the questions.
/// The first file that no mirror can deliver ends it; what others have so far is kept.
pub async fn fetch(
    store: &Store,
    wanted: &[Wanted],
    options: &Options,
    ui: &Ui,
) -> Result<Vec<Fetched>, FetchError> {
    let client = Client::new(options.connect_timeout, options.stall_timeout);
    let downloader = Downloader { store, client: &client, options, ui };
    let jobs: Vec<_> = wanted.iter().enumerate().map(|job| one(&downloader, job)).collect();
    let mut fetched: Vec<_> =
        stream::iter(jobs).buffer_unordered(options.parallel.max(1)).try_collect().await?;
    fetched.sort_by_key(|(position, _)| *position);
    Ok(fetched.into_iter().map(|(_, fetched)| fetched).collect())
}

async fn one(
    downloader: &Downloader<'_>,
    (position, wanted): (usize, &Wanted),
) -> Result<(usize, Fetched), FetchError> {
    let blob = Blob {
        name: &wanted.name,
        digest: wanted.digest,
        size: wanted.size,
        limit: wanted.size.unwrap_or(DEFAULT_LIMIT),
    };
    let sources: Vec<_> = wanted.urls.iter().map(|url| Source::parse(url)).collect();
    Ok((position, downloader.download(&blob, &sources).await?))
}
