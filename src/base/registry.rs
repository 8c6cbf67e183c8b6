use super::{BaseError, Means};
use crate::digest::Digest;
use crate::layer::Layer;
use crate::registry::{Credentials, Puller, Reference};

/// A base in a registry. Only the manifest, the config and the layers of one platform are pulled.
pub(super) struct Blobs<'a> {
    means: &'a Means<'a>,
    puller: Puller<'a>,
    reference: Reference,
}

impl<'a> Blobs<'a> {
    pub(super) fn new(
        means: &'a Means<'a>,
        reference: &str,
        digest: Digest,
    ) -> Result<Self, BaseError> {
        let unreadable = |why: String| BaseError::Unreadable { base: reference.to_owned(), why };
        let reference = format!("{reference}@{digest}")
            .parse()
            .map_err(|error| unreadable(format!("{error}")))?;
        let credentials =
            Credentials::from_environment().map_err(|error| unreadable(format!("{error}")))?;
        let puller = Puller::new(means.store, means.fetch, means.ui, credentials);
        Ok(Self { means, puller, reference })
    }
}

impl super::Blobs for Blobs<'_> {
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, BaseError> {
        let reference = Reference { digest: *digest, ..self.reference.clone() };
        Ok(self.means.runtime.block_on(self.puller.pull_manifest(&reference))?)
    }

    fn config(&self, config: &Digest, size: u64) -> Result<Vec<u8>, BaseError> {
        let pulling = self.puller.pull_blob(&self.reference.repository, *config, size);
        self.means.runtime.block_on(pulling)?;
        Ok(self.means.store.read(config)?)
    }

    fn layers(&self, layers: &[Layer]) -> Result<(), BaseError> {
        let blobs: Vec<_> = layers.iter().map(|layer| (layer.digest, layer.size)).collect();
        let pulling = self.puller.pull_blobs(&self.reference.repository, &blobs);
        Ok(self.means.runtime.block_on(pulling)?)
    }
}
