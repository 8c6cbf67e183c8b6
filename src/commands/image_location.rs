//! An image that a user names: a layout, or a reference.

use std::path::Path;

use tempfile::TempDir;

use super::context::{Context, runtime};
use crate::cli::AccessArgs;
use crate::digest::Digest;
use crate::documents::{BlobDescriptor, DocumentTree, ListedImage};
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use oci::{Descriptor, Reference};

/// An image that a user names. A reference is pulled into a temporary layout.
pub(super) struct ImageLocation {
    pub layout: Layout,
    /// Removed with the value; the blobs stay in the cache.
    pulled: Option<TempDir>,
}

/// Which blobs of an image are pulled from a reference. All documents are.
pub(super) type BlobFilter<'a> = &'a dyn Fn(&ListedImage) -> Vec<BlobDescriptor>;

impl ImageLocation {
    pub(super) fn open(
        context: &Context,
        access: &AccessArgs,
        name: &str,
        filter: BlobFilter<'_>,
    ) -> Result<Self, Failure> {
        let path = Path::new(name);
        match name.parse::<Reference>() {
            Ok(reference) if !path.exists() => pull(context, access, &reference, filter),
            _ => Ok(Self { layout: Layout::open(path)?, pulled: None }),
        }
    }

    pub(super) fn is_reference(&self) -> bool {
        self.pulled.is_some()
    }
}

fn pull(
    context: &Context,
    arguments: &AccessArgs,
    reference: &Reference,
    filter: BlobFilter<'_>,
) -> Result<ImageLocation, Failure> {
    let registry = reference.repository.registry();
    let registries = context.registries(arguments, &[registry])?;
    let store = context.store()?;
    let io = |error: std::io::Error| Failure::new(Kind::Io, error);
    let folder = tempfile::tempdir_in(store.root().join("tmp")).map_err(io)?;
    let (layout, _guard) = Layout::create(folder.path())?;
    let add_blob = |digest: &Digest| {
        layout.add_blob(digest, store.size(digest), || {
            store.open_verified(digest).map_err(Failure::from)
        })
    };
    let pulling = async {
        let remote = registries.pull_from(&reference.repository).await;
        let repository = remote.repository().clone();
        let named = Reference { repository, ..reference.clone() };
        let tree = DocumentTree::pull(&remote, &named).await?;
        for document in tree.documents() {
            store.write(&document.bytes)?;
            add_blob(&document.digest)?;
        }
        let mut blobs: Vec<_> = tree.images.iter().flat_map(filter).collect();
        blobs.retain(|blob| !blob.is_foreign());
        blobs.sort();
        blobs.dedup();
        let blobs: Vec<_> = blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        remote.get_blobs(&store, &blobs).await?;
        for (digest, _) in &blobs {
            add_blob(digest)?;
        }
        let root = &tree.root;
        let tag = reference.tag.clone().unwrap_or_else(|| root.digest.to_string());
        let size = root.bytes.len() as u64;
        let descriptor = Descriptor::new(&*root.media_type, root.digest, size);
        Ok::<_, Failure>(layout.tag(&[(tag, descriptor)])?)
    };
    runtime()?.block_on(pulling)?;
    Ok(ImageLocation { layout, pulled: Some(folder) })
}
