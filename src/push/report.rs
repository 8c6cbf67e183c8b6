//! What a push did in one repository, for people and programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{PushPlan, RemoteState, RequestEstimate, TagPlan};
use crate::digest::Digest;
use crate::documents::BlobDescriptor;
use crate::registry::{BlobOutcome, RawDocument};

/// What was done in one repository.
#[derive(Clone, Debug, Serialize)]
pub struct PushReport {
    pub repository: String,
    /// What was pushed: the index, or the first image.
    pub digest: Digest,
    /// The index, or each image if no index was pushed.
    #[serde(skip)]
    pub named: Vec<Digest>,
    pub media_type: String,
    pub tags: Vec<TagReport>,
    pub manifests: Vec<ManifestReport>,
    /// Documents that refer to those.
    pub referrers: Vec<ManifestReport>,
    pub blobs: Vec<BlobReport>,
    pub moved_bytes: u64,
    pub mounted_bytes: u64,
    pub skipped_bytes: u64,
    /// Requests that were sent to the registry.
    pub requests: u64,
    #[serde(rename = "forecast")]
    pub estimate: RequestEstimate,
}

/// One tag.
#[derive(Clone, Debug, Serialize)]
pub struct TagReport {
    pub tag: String,
    pub digest: Digest,
    pub state: TagState,
}

/// What a tag named before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TagState {
    /// The same image.
    Same,
    /// It did not exist.
    New,
    /// Another image, which has lost it by `--force`.
    Moved,
}

/// One document.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestReport {
    pub media_type: String,
    pub digest: Digest,
    pub size: usize,
    /// Documents are so small that they are sent without asking whether they exist.
    #[serde(flatten)]
    pub outcome: BlobOutcome,
}

/// One blob.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobReport {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(flatten)]
    pub outcome: BlobOutcome,
}

/// How the blobs of a plan came to be in the repository. A blob that is not listed existed.
pub(super) type Outcomes = BTreeMap<Digest, BlobOutcome>;

/// What was found out and done, beside the plan.
pub(super) struct Done<'a> {
    pub(super) repository: String,
    pub(super) state: &'a RemoteState,
    pub(super) outcomes: &'a Outcomes,
    pub(super) requests: u64,
    pub(super) estimate: RequestEstimate,
}

impl Done<'_> {
    pub(super) fn report(self, plan: &PushPlan) -> PushReport {
        let root = plan.root.as_ref().or(plan.manifests.first());
        let named = plan.root.iter().chain(plan.manifests.iter().filter(|_| plan.root.is_none()));
        let mut blobs: Vec<_> = plan.all_blobs().map(|blob| self.blob(blob)).collect();
        let sum = |is: &dyn Fn(&BlobOutcome) -> bool| {
            blobs.iter().filter(|it| is(&it.outcome)).map(|it| it.size).sum::<u64>()
        };
        let mounted_bytes = sum(&|it| matches!(it, BlobOutcome::Mounted { .. }));
        let skipped_bytes = sum(&|it| *it == BlobOutcome::Exists);
        let moved = blobs.iter().map(|it| match it.outcome {
            BlobOutcome::Uploaded { sent } => sent,
            _ => 0,
        });
        let moved_bytes = moved.sum();
        blobs.extend(plan.foreign.iter().map(|blob| report_blob(blob, BlobOutcome::Foreign)));
        let has_work = plan.has_work(self.state);
        let documents = plan.manifests.iter().chain(plan.root.iter());
        let referrers = plan.referrers.iter();
        let referrers = referrers.flat_map(|it| it.parts.manifests.iter().chain([&it.document]));
        PushReport {
            repository: self.repository,
            digest: root.map_or(Digest::of(""), |root| root.digest),
            named: named.map(|manifest| manifest.digest).collect(),
            media_type: root.map(|root| root.media_type.clone()).unwrap_or_default(),
            tags: plan.tags.iter().map(|tag| report_tag(tag, self.state)).collect(),
            manifests: documents.map(|it| report_manifest(it, has_work)).collect(),
            referrers: referrers.map(|it| report_manifest(it, true)).collect(),
            blobs,
            moved_bytes,
            mounted_bytes,
            skipped_bytes,
            requests: self.requests,
            estimate: self.estimate,
        }
    }

    fn blob(&self, blob: &BlobDescriptor) -> BlobReport {
        let outcome = self.outcomes.get(&blob.digest).cloned();
        report_blob(blob, outcome.unwrap_or(BlobOutcome::Exists))
    }
}

fn report_blob(blob: &BlobDescriptor, outcome: BlobOutcome) -> BlobReport {
    let BlobDescriptor { digest, size, media_type, .. } = blob;
    BlobReport { media_type: media_type.clone(), digest: *digest, size: *size, outcome }
}

fn report_tag(tag: &TagPlan, state: &RemoteState) -> TagReport {
    let digest = tag.manifest.digest;
    let state = match state.tag(&tag.tag) {
        Some(known) if known == digest => TagState::Same,
        Some(_) => TagState::Moved,
        None => TagState::New,
    };
    TagReport { tag: tag.tag.clone(), digest, state }
}

fn report_manifest(manifest: &RawDocument, is_sent: bool) -> ManifestReport {
    let RawDocument { media_type, digest, bytes } = manifest;
    let sent = bytes.len() as u64;
    let outcome = if is_sent { BlobOutcome::Uploaded { sent } } else { BlobOutcome::Exists };
    ManifestReport { media_type: media_type.clone(), digest: *digest, size: bytes.len(), outcome }
}
