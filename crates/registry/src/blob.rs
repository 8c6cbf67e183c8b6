//! A blob that is to be pushed: where its bytes are, and how it came to be in the repository.

use std::path::PathBuf;

use serde::Serialize;

use super::{ProgressListener, RegistryError, RemoteRepository};
use oci::digest::Digest;
use store::Store;

/// A blob that a registry should have.
#[derive(Clone, Debug)]
pub struct Blob {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    pub source: BlobSource,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub enum BlobSource {
    File(PathBuf),
    /// In another repository: they are fetched into the store, but only when the destination
    /// needs them.
    Repository {
        repository: RemoteRepository,
        store: Store,
    },
}

/// How a blob came to be in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub enum BlobOutcome {
    /// It existed before.
    #[serde(rename = "present")]
    Exists,
    /// From another repository of the same registry; nothing was sent.
    Mounted { from: Option<String> },
    /// `sent` bytes were sent in this run, those included that were lost on the way.
    Uploaded { sent: u64 },
    /// It is not pushed, because it must not be distributed from here.
    Foreign,
}

/// Whether to trust a registry that says that it has a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistenceCheck {
    Trust,
    /// The registry said so before, and then reported the blob as missing.
    Ignore,
}

/// The upload of one blob, and how to do it.
#[derive(Clone)]
pub struct BlobUpload<'a> {
    pub blob: &'a Blob,
    /// Paths of repositories in the same registry that the blob may be mounted from.
    pub mount_sources: &'a [String],
    pub existence: ExistenceCheck,
    pub listener: ProgressListener,
}

impl std::fmt::Debug for BlobUpload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.blob.digest, self.existence)
    }
}

impl Blob {
    /// The file with the bytes, fetched first if it has to be.
    pub(super) async fn file(&self) -> Result<PathBuf, RegistryError> {
        match &self.source {
            BlobSource::File(path) => Ok(path.clone()),
            BlobSource::Repository { repository, store } => {
                // A recursion, because what is fetched has a repository, too.
                Box::pin(repository.get_blob(store, self.digest, self.size)).await?;
                Ok(store.path(&self.digest))
            }
        }
    }
}
