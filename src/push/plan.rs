//! What is to be pushed, and in which order. Pure.

use std::collections::{BTreeMap, BTreeSet};

use etcd_version::ImageTag;
use oci::document::Descriptor;

use super::{PushError, RemoteState};
use crate::digest::Digest;
use crate::documents::{BlobDescriptor, DocumentTree, ListedImage};
use crate::platform::Platform;
use crate::registry::RawDocument;
use oci::reference::is_tag;

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct PushRequest {
    /// Empty: all of the layout, with its index.
    pub platforms: Vec<Platform>,
    /// The tags of the index; the first is the image's own.
    pub tags: Vec<String>,
    /// Also one tag for each platform.
    pub with_platform_tags: bool,
}

/// Everything that is to be in a repository afterwards, in the order in which it gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushPlan {
    /// Each once, even if images share it; the smallest first, then from the largest down.
    pub blobs: Vec<BlobDescriptor>,
    /// Blobs that must not be pushed: clients download them from elsewhere.
    pub foreign: Vec<BlobDescriptor>,
    /// Image manifests, then indexes below the root.
    pub manifests: Vec<RawDocument>,
    /// What the tags name; pushed by its digest if there are none. `None` if only some platforms
    /// are pushed.
    pub root: Option<RawDocument>,
    pub tags: Vec<TagPlan>,
    /// The blobs that each manifest needs.
    pub needs: BTreeMap<Digest, Vec<Digest>>,
    /// What refers to all this: signatures, bills of material.
    pub referrers: Vec<ReferrerPlan>,
}

/// A document that refers to another by `subject`. It is pushed after its subject, and before the
/// tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerPlan {
    pub document: RawDocument,
    /// What the document refers to.
    pub subject: Option<Digest>,
    /// How a list of referrers names the document.
    pub listed_as: Descriptor,
    /// What the document needs, without tags.
    pub parts: PushPlan,
}

/// A tag, and the document that it will name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPlan {
    pub tag: String,
    pub manifest: RawDocument,
}

/// Decides everything and changes nothing.
pub fn plan(tree: &DocumentTree, request: &PushRequest) -> Result<PushPlan, PushError> {
    let images = chosen(tree, request)?;
    // Some platforms of an index are not the index: no tag may name them as if they were all. Even
    // if a layout has only the platform that is named, the index and its tag are left alone.
    let is_all = request.platforms.is_empty();
    let mut manifests: Vec<_> = images.iter().map(|image| image.manifest.clone()).collect();
    if is_all {
        manifests.extend(tree.indexes.iter().cloned());
        // The root is pushed as the root, also if it is an image.
        manifests.retain(|manifest| manifest.digest != tree.root.digest);
    }
    let blobs: BTreeSet<_> = images.iter().flat_map(|image| image.blobs.iter().cloned()).collect();
    let (foreign, blobs): (Vec<_>, Vec<_>) =
        blobs.into_iter().partition(BlobDescriptor::is_foreign);
    let needs = images.iter().map(|image| {
        let own = image.blobs.iter().filter(|blob| !blob.is_foreign());
        (image.manifest.digest, own.map(|blob| blob.digest).collect())
    });
    Ok(PushPlan {
        blobs: in_order(blobs),
        foreign,
        manifests,
        root: is_all.then(|| tree.root.clone()),
        tags: tags(tree, &images, request),
        needs: needs.collect(),
        referrers: Vec::new(),
    })
}

/// The images of the platforms that were named; without any, all.
fn chosen<'a>(
    tree: &'a DocumentTree,
    request: &PushRequest,
) -> Result<Vec<&'a ListedImage>, PushError> {
    if let Some(tag) = request.tags.iter().find(|tag| !is_tag(tag)) {
        return Err(PushError::Tag(tag.clone()));
    }
    let platforms: Vec<_> = request.platforms.iter().map(ToString::to_string).collect();
    for platform in &platforms {
        if !tree.images.iter().any(|image| image.is_for(platform)) {
            return Err(PushError::NoPlatform(platform.clone()));
        }
    }
    let is_chosen = |image: &&ListedImage| {
        platforms.is_empty() || platforms.iter().any(|platform| image.is_for(platform))
    };
    Ok(tree.images.iter().filter(is_chosen).collect())
}

fn tags(tree: &DocumentTree, images: &[&ListedImage], request: &PushRequest) -> Vec<TagPlan> {
    let mut tags = Vec::new();
    if request.platforms.is_empty() {
        let of_root = |tag: &String| TagPlan { tag: tag.clone(), manifest: tree.root.clone() };
        tags.extend(request.tags.iter().map(of_root));
    }
    let has_platform_tags = request.with_platform_tags || !request.platforms.is_empty();
    if let Some(own) = request.tags.first().filter(|_| has_platform_tags) {
        let named = images.iter().filter_map(|image| Some((image.suffix()?, image)));
        tags.extend(named.map(|(suffix, image)| TagPlan {
            tag: format!("{own}-{suffix}"),
            manifest: image.manifest.clone(),
        }));
    }
    let mut seen = BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.tag.clone()));
    tags
}

/// The smallest blob shows what the registry supports; then the largest, so that it is not what
/// everybody waits for at the end.
fn in_order(mut blobs: Vec<BlobDescriptor>) -> Vec<BlobDescriptor> {
    blobs.sort_by(|a, b| (b.size, a.digest).cmp(&(a.size, b.digest)));
    blobs.dedup_by_key(|blob| blob.digest);
    if let Some(smallest) = blobs.pop() {
        blobs.insert(0, smallest);
    }
    blobs
}

impl PushPlan {
    /// The same with what refers to it; `referrers` have each subject before what refers to it.
    pub fn with_referrers(mut self, referrers: &[DocumentTree]) -> Result<Self, PushError> {
        let mut known: BTreeSet<_> = self.blobs.iter().map(|blob| blob.digest).collect();
        for tree in referrers {
            let mut parts = plan(tree, &PushRequest::default())?;
            parts.root = None;
            parts.manifests.retain(|manifest| manifest.digest != tree.root.digest);
            // Signatures share their empty config.
            parts.blobs.retain(|blob| known.insert(blob.digest));
            self.referrers.push(ReferrerPlan {
                document: tree.root.clone(),
                subject: tree.subject(),
                listed_as: tree.referrer_descriptor(),
                parts,
            });
        }
        Ok(self)
    }

    /// Those of the referrers included.
    pub fn all_blobs(&self) -> impl Iterator<Item = &BlobDescriptor> {
        let of_referrers = self.referrers.iter().flat_map(|referrer| &referrer.parts.blobs);
        self.blobs.iter().chain(of_referrers)
    }

    pub fn size_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }

    /// Whether anything but tags and referrers may be missing.
    pub fn has_work(&self, state: &RemoteState) -> bool {
        let is_open = self.tags.is_empty() || self.open_tags(state).next().is_some();
        is_open && !self.is_proven_by(state)
    }

    /// The root, if it cannot wait until a tag names it: no tag will, or something refers to it.
    pub fn root_before_tags(&self) -> Option<&RawDocument> {
        let is_subject = !self.referrers.is_empty();
        let root = self.root.as_ref()?;
        let is_tagged = self.tags.iter().any(|tag| tag.manifest.digest == root.digest);
        Some(root).filter(|_| is_subject || !is_tagged)
    }

    /// Whether a tag that names the root already proves that everything exists.
    pub fn is_proven_by(&self, state: &RemoteState) -> bool {
        let root = self.root.as_ref().map(|root| root.digest);
        let names_root = |tag: &TagPlan| {
            Some(tag.manifest.digest) == root
                && state.tags.get(&tag.tag) == Some(&Some(tag.manifest.digest))
        };
        root.is_some() && self.tags.iter().any(names_root)
    }

    /// The tags that do not name yet what they should.
    pub fn open_tags<'a>(&'a self, state: &'a RemoteState) -> impl Iterator<Item = &'a TagPlan> {
        self.tags.iter().filter(|tag| state.tag(&tag.tag) != Some(tag.manifest.digest))
    }
}

/// The tag that the next revision of the same etcd has, if `tag` is one of ours.
pub(super) fn next_free(tag: &str, known: &[String]) -> Option<String> {
    let taken: ImageTag = tag.parse().ok()?;
    let revisions = known.iter().filter_map(|tag| tag.parse::<ImageTag>().ok());
    let same = revisions.filter(|known| known.etcd == taken.etcd).map(|known| known.revision);
    let last = same.max().unwrap_or(taken.revision).max(taken.revision);
    Some(ImageTag { etcd: taken.etcd, revision: last + 1 }.to_string())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
