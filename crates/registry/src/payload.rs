//! The body of a request, which can be sent again from any offset.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, RequestBuilder};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// How much of a file is in memory at once, for each upload, in bytes.
const BUFFER_BYTES: usize = 1 << 16;

#[derive(Clone, Debug)]
pub(super) enum Payload {
    Empty,
    Bytes(Arc<[u8]>),
    /// A range of a file, streamed.
    File(FileRange),
}

/// A range of bytes in a file: `end` is the offset of the first byte that is not sent.
#[derive(Clone, Debug)]
pub(super) struct FileRange {
    pub(super) path: PathBuf,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Counts the bytes of payloads that were sent, over all attempts, and reports them.
#[derive(Clone, Default)]
pub(super) struct ByteCounter {
    bytes: Arc<AtomicU64>,
    listener: Option<ProgressListener>,
}

/// Called with the number of bytes that were sent so far.
pub type ProgressListener = Arc<dyn Fn(u64) + Send + Sync>;

impl ByteCounter {
    pub(super) fn reporting_to(listener: ProgressListener) -> Self {
        Self { listener: Some(listener), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.listener.iter().for_each(|listen| listen(before + bytes as u64));
    }
}

impl std::fmt::Debug for ByteCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ByteCounter({})", self.bytes())
    }
}

impl Payload {
    pub(super) async fn attach(
        &self,
        request: RequestBuilder,
        sent: &ByteCounter,
    ) -> std::io::Result<RequestBuilder> {
        Ok(match self {
            // Some registries require a length with every POST and PUT.
            Self::Empty => request.header(CONTENT_LENGTH, 0),
            Self::Bytes(bytes) => {
                sent.add(bytes.len());
                request.body(bytes.to_vec())
            }
            Self::File(part) => {
                let length = part.end - part.start;
                request.header(CONTENT_LENGTH, length).body(part.stream(sent.clone()).await?)
            }
        })
    }
}

impl FileRange {
    async fn stream(&self, sent: ByteCounter) -> std::io::Result<Body> {
        let mut file = File::open(&self.path).await?;
        file.seek(SeekFrom::Start(self.start)).await?;
        let left = self.end - self.start;
        let chunks = stream::try_unfold((file, left, sent), |(mut file, left, sent)| async move {
            if left == 0 {
                return Ok::<_, std::io::Error>(None);
            }
            let mut buffer =
                vec![0; BUFFER_BYTES.min(usize::try_from(left).unwrap_or(BUFFER_BYTES))];
            file.read_exact(&mut buffer).await?;
            sent.add(buffer.len());
            let left = left - buffer.len() as u64;
            Ok(Some((buffer, (file, left, sent))))
        });
        Ok(Body::wrap_stream(chunks))
    }
}
