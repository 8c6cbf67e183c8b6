//! What a registry says that it has. Pure.

use std::collections::BTreeMap;

use crate::digest::Digest;

/// What a registry said that it has, before anything was pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteState {
    /// What each tag of the plan names; `None` if the tag does not exist.
    pub tags: BTreeMap<String, Option<Digest>>,
    /// The blobs that were asked for.
    pub blobs: BTreeMap<Digest, BlobLocation>,
}

/// Where a registry has a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobLocation {
    Here,
    /// In the mount source with this index: as many others are asked before it.
    MountSource(u64),
    Nowhere,
}

impl RemoteState {
    /// What a tag names, if it exists and was asked for.
    pub fn tag(&self, tag: &str) -> Option<Digest> {
        self.tags.get(tag).copied().flatten()
    }
}
