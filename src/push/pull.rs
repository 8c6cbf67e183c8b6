//! Documents as a registry has them: what is copied or looked at is read from there first.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::Value;

use super::PushError;
use crate::digest::Digest;
use crate::registry::{Manifest, Naming, Remote};

/// One document, which must be there.
pub async fn get(remote: &Remote, naming: &Naming) -> Result<Manifest, PushError> {
    let found = remote.manifest(naming).await?;
    found.ok_or_else(|| PushError::Nothing(naming.to_string()))
}

/// What is named, and all documents below it, each pulled once.
pub async fn documents(
    remote: &Remote,
    naming: &Naming,
) -> Result<(Manifest, BTreeMap<Digest, Manifest>), PushError> {
    let root = get(remote, naming).await?;
    let mut known = BTreeMap::from([(root.digest, root.clone())]);
    let mut open = children(&root);
    while let Some(digest) = open.pop() {
        if let Entry::Vacant(entry) = known.entry(digest) {
            let repository = remote.repository().clone();
            let child = Naming { repository, tag: None, digest: Some(digest) };
            let manifest = get(remote, &child).await?;
            open.extend(children(&manifest));
            entry.insert(manifest);
        }
    }
    Ok((root, known))
}

fn children(manifest: &Manifest) -> Vec<Digest> {
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let children = document["manifests"].as_array().into_iter().flatten();
    children.filter_map(|child| child["digest"].as_str()?.parse().ok()).collect()
}
