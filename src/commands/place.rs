use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::access::Access;
use super::context::{Context, runtime};
use crate::cli::AccessArgs;
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use crate::push::{self, Content};
use crate::registry::Naming;

/// An image that a user names: a layout, or a reference, which is pulled into one.
pub(super) struct Place {
    pub layout: Layout,
    pulled: Option<TempDir>,
}

/// How much of a reference is pulled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    Documents,
    Everything,
}

impl Place {
    pub(super) fn open(
        context: &Context,
        access: &AccessArgs,
        name: &str,
        depth: Depth,
    ) -> Result<Self, Failure> {
        let path = Path::new(name);
        match name.parse::<Naming>() {
            Ok(naming) if !path.exists() => pull(context, access, &naming, depth),
            _ => Ok(Self { layout: Layout::open(path)?, pulled: None }),
        }
    }

    pub(super) fn is_reference(&self) -> bool {
        self.pulled.is_some()
    }
}

/// The layout is thrown away with the value; its blobs stay in the cache.
fn pull(
    context: &Context,
    arguments: &AccessArgs,
    naming: &Naming,
    depth: Depth,
) -> Result<Place, Failure> {
    let access = Access::new(context, arguments, &[naming.repository.registry()])?;
    let store = context.store()?;
    let io = |error: std::io::Error| Failure::new(Kind::Io, error);
    let folder = tempfile::tempdir_in(store.root().join("tmp")).map_err(io)?;
    let (layout, _guard) = Layout::create(folder.path())?;
    let pulling = async {
        let remote = access.pulling(&naming.repository).await;
        let repository = remote.repository().clone();
        let named = Naming { repository: repository.clone(), ..naming.clone() };
        let (root, documents) = push::documents(&remote, &named).await?;
        for document in documents.values() {
            store.write(&document.bytes)?;
            layout.add_blob(&store, &document.digest)?;
        }
        let descriptor = json!({
            "mediaType": root.media_type, "digest": root.digest, "size": root.bytes.len(),
        });
        if depth == Depth::Everything {
            let whole = Content::read(&layout, &descriptor)?;
            let puller = access.puller(&store);
            let pieces: BTreeSet<_> = whole.images.iter().flat_map(|image| &image.pieces).collect();
            for piece in pieces {
                puller.pull_blob(&repository, piece.digest, piece.size).await?;
                layout.add_blob(&store, &piece.digest)?;
            }
        }
        let tag = naming.tag.clone().unwrap_or_else(|| root.digest.to_string());
        Ok::<_, Failure>(layout.tag(&[(tag, descriptor)])?)
    };
    runtime()?.block_on(pulling)?;
    Ok(Place { layout, pulled: Some(folder) })
}
