//! How many requests a push takes. Pure.

use serde::Serialize;

use super::{BlobLocation, PushPlan, RemoteState};
use crate::documents::BlobDescriptor;
use crate::registry::{CHUNK_BYTES, Capabilities, SINGLE_POST_LIMIT, Support};

/// How many requests a push takes if nothing goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RequestEstimate {
    /// Lower bound: every blob that was not checked already exists, and the registry supports
    /// mounting.
    pub least: u64,
    /// Upper bound: none of them exists. Equal to `least` once all blobs were checked, the
    /// registry's capabilities are known, and there are no referrers.
    pub most: u64,
}

/// What an estimate assumes.
struct RequestModel<'a> {
    state: &'a RemoteState,
    capabilities: Capabilities,
    /// From how many repositories a blob may be mounted.
    mount_sources: u64,
    /// Where a blob is that was not checked.
    unchecked: BlobLocation,
    /// Requests that probe the capabilities of a new registry.
    probing: u64,
    /// Requests that add one referrer to the list.
    listing: u64,
}

impl PushPlan {
    /// `mount_sources` is from how many repositories a blob may be mounted.
    pub fn estimate(
        &self,
        state: &RemoteState,
        capabilities: &Capabilities,
        mount_sources: u64,
    ) -> RequestEstimate {
        let is_known = capabilities.mount_checks_existence.is_some();
        let assuming = |support| {
            let assumed = Some(support).filter(|_| !is_known);
            Capabilities {
                mount_checks_existence: assumed.or(capabilities.mount_checks_existence),
                single_post: assumed.or(capabilities.single_post),
                ..capabilities.clone()
            }
        };
        let best = RequestModel {
            state,
            capabilities: assuming(Support::Yes),
            mount_sources,
            unchecked: BlobLocation::Here,
            probing: u64::from(!is_known),
            listing: 0,
        };
        let worst = RequestModel {
            capabilities: assuming(Support::No),
            unchecked: BlobLocation::Nowhere,
            probing: if is_known { 0 } else { 3 },
            // Without the API, the list that replaces it is read and written.
            listing: 2,
            ..best
        };
        RequestEstimate { least: self.requests(&best), most: self.requests(&worst) }
    }

    fn requests(&self, model: &RequestModel<'_>) -> u64 {
        let checking = self.tags.len() as u64;
        // Each is looked at once more before it is set.
        let tagging = 2 * self.open_tags(model.state).count() as u64;
        let documents = if self.has_work(model.state) {
            let probing = if self.blobs.is_empty() { 0 } else { model.probing };
            probing + self.pushing(model)
        } else {
            0
        };
        let referrers = self.referrers.iter();
        let referring = referrers.map(|it| it.parts.pushing(model) + 1 + model.listing);
        checking + documents + referring.sum::<u64>() + tagging
    }

    /// Of blobs and documents.
    fn pushing(&self, model: &RequestModel<'_>) -> u64 {
        let blobs: u64 = self.blobs.iter().map(|blob| model.put_blob(blob)).sum();
        blobs + self.manifests.len() as u64 + u64::from(self.root_before_tags().is_some())
    }
}

impl RequestModel<'_> {
    /// What `RemoteRepository::put_blob` does with one blob.
    fn put_blob(&self, blob: &BlobDescriptor) -> u64 {
        let Self { capabilities, mount_sources, .. } = self;
        match self.state.blobs.get(&blob.digest).unwrap_or(&self.unchecked) {
            BlobLocation::Here => return 1,
            BlobLocation::MountSource(index) => return 1 + index + 1,
            BlobLocation::Nowhere => {}
        }
        let sending = chunks(blob.size, capabilities);
        if capabilities.mount_checks_existence == Some(Support::Yes) {
            return 1 + mount_sources + sending;
        }
        let is_single =
            blob.size <= SINGLE_POST_LIMIT && capabilities.single_post == Some(Support::Yes);
        match mount_sources {
            0 if is_single => 2,
            0 => 2 + sending,
            sources => 1 + sources + sending,
        }
    }
}

fn chunks(size: u64, capabilities: &Capabilities) -> u64 {
    let chunk = CHUNK_BYTES.min(capabilities.largest_body.unwrap_or(u64::MAX));
    if capabilities.chunks == Some(Support::No) { 1 } else { size.div_ceil(chunk).max(1) }
}
