//! What goes along with a request, and can be sent again from where it is wanted.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, RequestBuilder};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// In memory at once, for each upload.
const PIECE: usize = 1 << 16;

#[derive(Clone, Debug)]
pub(super) enum Payload {
    Nothing,
    Bytes(Arc<[u8]>),
    /// A part of a file, streamed.
    File(Part),
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How many bytes have left for the connection, over all attempts, and who wants to know.
#[derive(Clone, Default)]
pub(super) struct Sent {
    bytes: Arc<AtomicU64>,
    listener: Option<Listener>,
}

/// Hears how many bytes were sent so far.
pub type Listener = Arc<dyn Fn(u64) + Send + Sync>;

impl Sent {
    pub(super) fn told_to(listener: Listener) -> Self {
        Self { listener: Some(listener), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.listener.iter().for_each(|tell| tell(before + bytes as u64));
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sent({})", self.bytes())
    }
}

impl Payload {
    pub(super) async fn attach(
        &self,
        request: RequestBuilder,
        sent: &Sent,
    ) -> std::io::Result<RequestBuilder> {
        Ok(match self {
            // Said, because some registries want a length with every POST and PUT.
            Self::Nothing => request.header(CONTENT_LENGTH, 0),
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

impl Part {
    async fn stream(&self, sent: Sent) -> std::io::Result<Body> {
        let mut file = File::open(&self.path).await?;
        file.seek(SeekFrom::Start(self.start)).await?;
        let left = self.end - self.start;
        let pieces = stream::try_unfold((file, left, sent), |(mut file, left, sent)| async move {
            if left == 0 {
                return Ok::<_, std::io::Error>(None);
            }
            let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
            file.read_exact(&mut piece).await?;
            sent.add(piece.len());
            let left = left - piece.len() as u64;
            Ok(Some((piece, (file, left, sent))))
        });
        Ok(Body::wrap_stream(pieces))
    }
}
