//! From one repository into another, by digest: an image with all its platforms, and everything
//! that refers to it. What both sides have does not move; what one registry can mount does not
//! leave it; the rest comes through the cache, verified.
//!
//! Not responsible for: how a registry is spoken to (`registry`), or in which order (`push`).

use crate::digest::Digest;
use crate::push::{Content, Overwrite, PushError, Pusher, Report, Wish, documents, get, plan};
use crate::registry::{Bringer, Manifest, Naming, Puller, Remote};
use crate::store::Store;
use crate::ui::Ui;

/// Who needs more than this signs the signatures of signatures.
const MOST_REFERRERS: usize = 1000;

/// What copying needs.
pub struct Copier<'a> {
    pub from: &'a Remote,
    pub to: &'a Remote,
    /// Brings blobs of the source into the store.
    pub puller: &'a Puller<'a>,
    pub store: &'a Store,
    pub sources: &'a [String],
    pub overwrite: Overwrite,
    pub ui: &'a Ui,
}

impl std::fmt::Debug for Copier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Copier({} to {})", self.from.repository(), self.to.repository())
    }
}

impl Copier<'_> {
    /// Copies what `naming` names, under these tags or none.
    pub async fn copy(&self, naming: &Naming, tags: &[String]) -> Result<Report, PushError> {
        let root = get(self.from, naming).await?;
        let content = self.content(&root).await?;
        let plan = plan(&content, &Wish { tags: tags.to_vec(), ..Wish::default() })?;
        let plan = plan.with_referrers(&self.referrers(&content).await?)?;
        let source = |_: &Digest| Some(self.from.repository().clone());
        let bring = Bringer { puller: self.puller, repository: &source };
        let path = |digest: &Digest| self.store.path(digest);
        let pusher = Pusher {
            remote: self.to,
            sources: self.sources,
            path: &path,
            bring: Some(&bring),
            overwrite: self.overwrite,
            ui: self.ui,
        };
        pusher.push(&plan).await
    }

    /// All documents below one.
    async fn content(&self, root: &Manifest) -> Result<Content, PushError> {
        let (_, documents) = documents(self.from, &self.by_digest(root.digest)).await?;
        let get = |digest: &Digest| {
            let found = documents.get(digest).map(|manifest| manifest.bytes.to_vec());
            found.ok_or(PushError::Lacks(*digest))
        };
        let descriptor = serde_json::json!({ "mediaType": root.media_type, "digest": root.digest });
        Content::gather(&descriptor, &get)
    }

    /// What refers to the root and to each image, and to those in turn.
    async fn referrers(&self, content: &Content) -> Result<Vec<Content>, PushError> {
        let images = content.images.iter().map(|image| image.manifest.digest);
        let mut open: Vec<_> = images.chain([content.root.digest]).collect();
        open.dedup();
        let mut found: Vec<Content> = Vec::new();
        while let Some(subject) = open.pop() {
            let listed = self.from.referrers(&subject).await?;
            if found.len() + listed.len() > MOST_REFERRERS {
                // Better none than a copy that silently lacks some.
                let why = format!("more than {MOST_REFERRERS} documents refer to it");
                return Err(PushError::Document { digest: content.root.digest, why });
            }
            for descriptor in listed {
                let digest = descriptor["digest"].as_str().and_then(|it| it.parse().ok());
                let is_known = |digest| found.iter().any(|it| it.root.digest == digest);
                let Some(digest) = digest.filter(|digest| !is_known(*digest)) else { continue };
                let referrer = get(self.from, &self.by_digest(digest)).await?;
                found.push(self.content(&referrer).await?);
                open.push(digest);
            }
        }
        Ok(found)
    }

    fn by_digest(&self, digest: Digest) -> Naming {
        let repository = self.from.repository().clone();
        Naming { repository, tag: None, digest: Some(digest) }
    }
}
