//! A base in a registry. Only the manifest, the config and the layers of one platform are pulled.

use super::{BaseError, BaseReader, FetchContext};
use crate::digest::Digest;
use crate::layer::Layer;
use crate::registry::RemoteRepository;
use oci::PinnedReference;

/// Reads a base from a registry.
pub(super) struct RegistryBase<'a> {
    context: &'a FetchContext<'a>,
    remote: RemoteRepository,
    reference: PinnedReference,
}

impl<'a> RegistryBase<'a> {
    pub(super) fn new(
        context: &'a FetchContext<'a>,
        reference: &str,
        digest: Digest,
    ) -> Result<Self, BaseError> {
        let unreadable = |why: String| BaseError::Unreadable { base: reference.to_owned(), why };
        let reference: PinnedReference = format!("{reference}@{digest}")
            .parse()
            .map_err(|error| unreadable(format!("{error}")))?;
        let pulling = context.registries.pull_from(&reference.repository);
        let remote = context.runtime.block_on(pulling);
        Ok(Self { context, remote, reference })
    }
}

impl BaseReader for RegistryBase<'_> {
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, BaseError> {
        let reference = PinnedReference { digest: *digest, ..self.reference.clone() };
        let (store, name) = (self.context.store, reference.to_string());
        let pulling = self.remote.get_document(store, &name, *digest);
        Ok(self.context.runtime.block_on(pulling)?)
    }

    fn config(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, BaseError> {
        let pulling = self.remote.get_blob(self.context.store, *digest, size);
        self.context.runtime.block_on(pulling)?;
        Ok(self.context.store.read(digest)?)
    }

    fn fetch_layers(&self, layers: &[Layer]) -> Result<(), BaseError> {
        let blobs: Vec<_> = layers.iter().map(|layer| (layer.digest, layer.size)).collect();
        let pulling = self.remote.get_blobs(self.context.store, &blobs);
        Ok(self.context.runtime.block_on(pulling)?)
    }
}
