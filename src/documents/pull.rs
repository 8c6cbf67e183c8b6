//! The documents of an image in a registry.

use oci::document::Descriptor;

use super::tree::DocumentTreeReader;
use super::{DocumentError, DocumentTree};
use crate::registry::{RawDocument, RemoteRepository};
use oci::Reference;

impl DocumentTree {
    /// Pulls what a reference names, and all documents below it, each once.
    pub async fn pull(
        remote: &RemoteRepository,
        reference: &Reference,
    ) -> Result<Self, DocumentError> {
        let root = pull(remote, reference).await?;
        let size = root.bytes.len() as u64;
        let mut reader = DocumentTreeReader::default();
        reader.add(&Descriptor::new(&*root.media_type, root.digest, size), root)?;
        while let Some(descriptor) = reader.next() {
            let (repository, digest) = (remote.repository().clone(), descriptor.digest);
            let child = Reference { repository, tag: None, digest: Some(digest) };
            let pulled = pull(remote, &child).await?;
            // The descriptor decides what it is, and not the header of the response.
            let media_type = descriptor.media_type.clone();
            reader.add(&descriptor, RawDocument { media_type, ..pulled })?;
        }
        reader.finish()
    }
}

/// One document, which must exist.
async fn pull(
    remote: &RemoteRepository,
    reference: &Reference,
) -> Result<RawDocument, DocumentError> {
    let found = remote.get_manifest(reference).await?;
    found.ok_or_else(|| DocumentError::NotFound(reference.to_string()))
}
