//! Connects to an engine and streams an image into it.

use std::io::{self, Write};

use bollard::Docker;
use bollard::query_parameters::ImportImageOptions;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::{ArchiveSource, write_archive};

/// Bytes of the archive that wait for the engine.
const CHUNK: usize = 1 << 18;

/// Why an engine did not take an image.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("no Docker engine answers")]
    NoEngine(#[source] bollard::errors::Error),
    #[error("the Docker engine did not load {reference}")]
    Load { reference: String, source: bollard::errors::Error },
    #[error("cannot write the archive for the Docker engine")]
    Archive(#[from] io::Error),
}

/// The engine that `DOCKER_HOST` names, or the local one.
pub async fn connect() -> Result<Docker, EngineError> {
    let docker = Docker::connect_with_defaults().map_err(EngineError::NoEngine)?;
    docker.negotiate_version().await.map_err(EngineError::NoEngine)
}

/// Streams the image into the engine.
pub async fn load(source: &ArchiveSource) -> Result<(), EngineError> {
    let docker = connect().await?;
    let (sender, receiver) = mpsc::channel(4);
    let archive = source.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = io::BufWriter::with_capacity(CHUNK, Channel(sender));
        write_archive(&archive, &mut writer)?;
        writer.flush()
    });
    let body = stream::unfold(receiver, async |mut receiver| {
        let chunk: Vec<u8> = receiver.recv().await?;
        Some((Ok::<_, io::Error>(chunk.into()), receiver))
    });
    let mut replies =
        Box::pin(docker.import_image_stream(ImportImageOptions::default(), body, None));
    while let Some(reply) = replies.next().await {
        let failed =
            |error| EngineError::Load { reference: source.reference.clone(), source: error };
        reply.map_err(failed)?;
    }
    writing.await.map_err(io::Error::other)??;
    Ok(())
}

/// A writer whose bytes come out of a channel; slow readers slow it down.
struct Channel(mpsc::Sender<Vec<u8>>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone =
            |_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine closed the connection");
        self.0.blocking_send(bytes.to_vec()).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
