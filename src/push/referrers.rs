//! What refers to an image by `subject`: signatures, bills of material.

use serde_json::{Value, json};

use super::{Content, PushError, Pusher, Wish, plan};
use crate::digest::Digest;
use crate::image::INDEX_TYPE;
use crate::image::json::canonical;
use crate::registry::{Known, Manifest, Naming, Remote, Unwanted, referrers_tag};

/// Hands over a manifest that has a subject, and keeps the list of referrers where the registry
/// does not (distribution-spec, "Pushing Manifests with Subject").
async fn attach(remote: &Remote, referrer: &Manifest) -> Result<(), PushError> {
    let put = |error: Unwanted| match error {
        Unwanted::Incomplete(error) | Unwanted::Other(error) => PushError::Remote(error),
    };
    let known = remote.put_manifest(referrer, None).await.map_err(put)?;
    let Some(subject) = subject(referrer).filter(|_| known == Known::ByDigest) else {
        return Ok(());
    };
    let tag = referrers_tag(&subject);
    let repository = remote.repository().clone();
    let naming = Naming { repository, tag: Some(tag.clone()), digest: None };
    let mut list = match remote.manifest(&naming).await? {
        Some(known) => serde_json::from_slice(&known.bytes).unwrap_or_default(),
        None => Value::Null,
    };
    let mut manifests = list["manifests"].take().as_array().cloned().unwrap_or_default();
    let own = referrer.digest.to_string();
    if manifests.iter().any(|it| it["digest"] == *own) {
        return Ok(());
    }
    manifests.push(descriptor(referrer));
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests });
    let list = Manifest::new(INDEX_TYPE, canonical(&list));
    remote.put_manifest(&list, Some(&tag)).await.map_err(put)?;
    Ok(())
}

/// Pushes something that refers to an image: its blobs and what is below it, and itself last.
pub async fn refer(pusher: &Pusher<'_>, content: &Content) -> Result<(), PushError> {
    let mut plan = plan(content, &Wish::default())?;
    plan.root = None;
    plan.manifests.retain(|manifest| manifest.digest != content.root.digest);
    pusher.push(&plan).await?;
    attach(pusher.remote, &content.root).await
}

/// What a manifest refers to.
pub fn subject(manifest: &Manifest) -> Option<Digest> {
    let document: Value = serde_json::from_slice(&manifest.bytes).ok()?;
    document["subject"]["digest"].as_str()?.parse().ok()
}

/// As the API would list it.
fn descriptor(referrer: &Manifest) -> Value {
    let document: Value = serde_json::from_slice(&referrer.bytes).unwrap_or_default();
    let mut descriptor = json!({
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.bytes.len(),
    });
    let kind = match &document["artifactType"] {
        Value::Null => &document["config"]["mediaType"],
        kind => kind,
    };
    for (name, value) in [("artifactType", kind), ("annotations", &document["annotations"])] {
        if !value.is_null() {
            descriptor[name] = value.clone();
        }
    }
    descriptor
}
