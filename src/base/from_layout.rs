//! A base in an OCI image layout.

use std::fs::File;
use std::io;
use std::path::Path;

use super::{BaseError, BaseReader, FetchContext};
use crate::digest::Digest;
use crate::layer::Layer;
use crate::layout::Layout;
use crate::store::StoreError;

/// Reads a base from a layout.
pub(super) struct LayoutBase<'a> {
    context: &'a FetchContext<'a>,
    layout: Layout,
}

impl<'a> LayoutBase<'a> {
    pub(super) fn open(context: &'a FetchContext<'a>, path: &Path) -> Result<Self, BaseError> {
        Ok(Self { context, layout: Layout::open(path)? })
    }
}

impl BaseReader for LayoutBase<'_> {
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, BaseError> {
        Ok(self.layout.document(digest)?)
    }

    fn config(&self, digest: &Digest, _size: u64) -> Result<Vec<u8>, BaseError> {
        Ok(self.layout.document(digest)?)
    }

    fn fetch_layers(&self, layers: &[Layer]) -> Result<(), BaseError> {
        layers.iter().try_for_each(|layer| {
            let path = self.layout.blob_path(&layer.digest);
            let error = |source| BaseError::Io { path: path.clone(), source };
            let mut writer = self.context.store.writer()?;
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
