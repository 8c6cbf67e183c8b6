//! From one repository into another, by digest: an image with all its platforms, and everything
//! that refers to it. A blob that both sides have is not moved; a blob that the registry can mount
//! does not leave it; the rest comes through the cache, verified.
//!
//! Not responsible for: how requests are sent (`registry`), or in which order (`push`).

use crate::digest::Digest;
use crate::documents::{DocumentError, DocumentTree};
use crate::push::{Overwrite, PushError, PushReport, PushRequest, Pusher, plan};
use crate::registry::{BlobSource, RemoteRepository};
use crate::store::Store;
use crate::ui::Ui;
use oci::Reference;

/// A copy with more referrers than this is refused.
const MOST_REFERRERS: usize = 1000;

/// What copying needs.
pub struct Copier<'a> {
    pub from: &'a RemoteRepository,
    pub to: &'a RemoteRepository,
    /// Blobs pass through it.
    pub store: &'a Store,
    /// Paths of repositories in the destination's registry that blobs may be mounted from.
    pub mount_sources: &'a [String],
    pub overwrite: Overwrite,
    pub ui: &'a Ui,
}

impl std::fmt::Debug for Copier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Copier({} to {})", self.from.repository(), self.to.repository())
    }
}

impl Copier<'_> {
    /// Copies what a reference names, and sets these tags, if any.
    pub async fn copy(
        &self,
        reference: &Reference,
        tags: &[String],
    ) -> Result<PushReport, PushError> {
        let tree = DocumentTree::pull(self.from, reference).await?;
        let plan = plan(&tree, &PushRequest { tags: tags.to_vec(), ..PushRequest::default() })?;
        let plan = plan.with_referrers(&self.referrers(&tree).await?)?;
        let source = |_: &Digest| BlobSource::Repository {
            repository: self.from.clone(),
            store: self.store.clone(),
        };
        let pusher = Pusher {
            remote: self.to,
            mount_sources: self.mount_sources,
            source: &source,
            overwrite: self.overwrite,
            ui: self.ui,
        };
        pusher.push(&plan).await
    }

    /// What refers to the root and to each image, and to those in turn.
    async fn referrers(&self, tree: &DocumentTree) -> Result<Vec<DocumentTree>, PushError> {
        let images = tree.images.iter().map(|image| image.manifest.digest);
        let mut open: Vec<_> = images.chain([tree.root.digest]).collect();
        open.dedup();
        let mut found: Vec<DocumentTree> = Vec::new();
        while let Some(subject) = open.pop() {
            let listed = self.from.referrers(&subject).await?;
            if found.len() + listed.len() > MOST_REFERRERS {
                // A copy that silently lacks some of them would be worse than none.
                let why = format!("more than {MOST_REFERRERS} documents refer to it");
                return Err(DocumentError::Invalid { digest: tree.root.digest, why }.into());
            }
            for digest in listed {
                if found.iter().any(|it| it.root.digest == digest) {
                    continue;
                }
                let repository = self.from.repository().clone();
                let referrer = Reference { repository, tag: None, digest: Some(digest) };
                found.push(DocumentTree::pull(self.from, &referrer).await?);
                open.push(digest);
            }
        }
        Ok(found)
    }
}
