use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::access::Access;
use super::context::{Context, runtime};
use crate::cli::AccessArgs;
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use crate::push::{self, Content, Image, Piece};
use crate::registry::Naming;

/// An image that a user names: a layout, or a reference, which is pulled into one.
pub(super) struct Place {
    pub layout: Layout,
    pulled: Option<TempDir>,
}

/// Which blobs of an image are pulled from a reference, beside all documents.
pub(super) type Wanted<'a> = &'a dyn Fn(&Image) -> Vec<Piece>;

impl Place {
    pub(super) fn open(
        context: &Context,
        access: &AccessArgs,
        name: &str,
        wanted: Wanted<'_>,
    ) -> Result<Self, Failure> {
        let path = Path::new(name);
        match name.parse::<Naming>() {
            Ok(naming) if !path.exists() => pull(context, access, &naming, wanted),
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
    wanted: Wanted<'_>,
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
            let digest = &document.digest;
            layout.add_blob(digest, store.size(digest), || {
                store.open_verified(digest).map_err(Failure::from)
            })?;
        }
        let descriptor = json!({
            "mediaType": root.media_type, "digest": root.digest, "size": root.bytes.len(),
        });
        let whole = Content::read(&layout, &descriptor)?;
        let mut pieces: Vec<_> = whole.images.iter().flat_map(wanted).collect();
        // Those have their own place elsewhere.
        pieces.retain(|piece| !piece.is_foreign);
        pieces.sort();
        pieces.dedup();
        let blobs: Vec<_> = pieces.iter().map(|piece| (piece.digest, piece.size)).collect();
        access.puller(&store).pull_blobs(&repository, &blobs).await?;
        for (digest, _) in blobs {
            layout.add_blob(&digest, store.size(&digest), || {
                store.open_verified(&digest).map_err(Failure::from)
            })?;
        }
        let tag = naming.tag.clone().unwrap_or_else(|| root.digest.to_string());
        Ok::<_, Failure>(layout.tag(&[(tag, descriptor)])?)
    };
    runtime()?.block_on(pulling)?;
    Ok(Place { layout, pulled: Some(folder) })
}
