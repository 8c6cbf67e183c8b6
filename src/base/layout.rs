use std::fs::File;
use std::io;
use std::path::Path;

use super::{BaseError, Means};
use crate::digest::Digest;
use crate::layer::Layer;
use crate::layout::Layout;
use crate::store::StoreError;

/// A base in an OCI image layout.
pub(super) struct Blobs<'a> {
    means: &'a Means<'a>,
    layout: Layout,
}

impl<'a> Blobs<'a> {
    pub(super) fn open(means: &'a Means<'a>, path: &Path) -> Result<Self, BaseError> {
        Ok(Self { means, layout: Layout::open(path)? })
    }
}

impl super::Blobs for Blobs<'_> {
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, BaseError> {
        Ok(self.layout.document(digest)?)
    }

    fn config(&self, digest: &Digest, _size: u64) -> Result<Vec<u8>, BaseError> {
        Ok(self.layout.document(digest)?)
    }

    fn layers(&self, layers: &[Layer]) -> Result<(), BaseError> {
        layers.iter().try_for_each(|layer| {
            let path = self.layout.blob_path(&layer.digest);
            let error = |source| BaseError::Io { path: path.clone(), source };
            let mut writer = self.means.store.writer()?;
            io::copy(&mut File::open(&path).map_err(error)?, &mut writer).map_err(error)?;
            let (actual, _) = writer.commit()?;
            if actual == layer.digest {
                return Ok(());
            }
            let name = path.display().to_string();
            Err(StoreError::Mismatch { name, expected: layer.digest, actual }.into())
        })
    }
}
