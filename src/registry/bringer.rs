use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Blob, Bring, Puller, RemoteError, Repository};
use crate::digest::Digest;

/// Brings blobs into the store from the repositories that hold them.
pub struct Bringer<'a> {
    pub puller: &'a Puller<'a>,
    /// Where a blob is. What is nowhere is not brought, and missed by who wants to send it.
    pub repository: &'a (dyn Fn(&Digest) -> Option<Repository> + Sync),
}

impl Bring for Bringer<'_> {
    fn bring<'a>(&'a self, blob: &'a Blob) -> BoxFuture<'a, Result<(), RemoteError>> {
        async move {
            let Some(repository) = (self.repository)(&blob.digest) else { return Ok(()) };
            let pulled = self.puller.pull_blob(&repository, blob.digest, blob.size).await;
            pulled.map(drop).map_err(|error| RemoteError::Source {
                what: format!("pull the blob {} from {repository}", blob.digest.short()),
                source: Box::new(error),
            })
        }
        .boxed()
    }
}

impl std::fmt::Debug for Bringer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bringer")
    }
}
