//! What refers to an image by `subject`: signatures, bills of material.

use serde_json::{Value, json};

use super::PushError;
use crate::digest::Digest;
use crate::image::INDEX_TYPE;
use crate::image::json::canonical;
use crate::registry::{Manifest, Naming, Remote, Unwanted, referrers_tag};

/// Keeps the list of referrers where the registry does not (distribution-spec, "Pushing Manifests
/// with Subject").
pub(super) async fn enlist(remote: &Remote, referrer: &Manifest) -> Result<(), PushError> {
    let Some(subject) = subject(referrer) else { return Ok(()) };
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
    match remote.put_manifest(&list, Some(&tag)).await {
        Ok(_) => Ok(()),
        Err(Unwanted::Incomplete(error) | Unwanted::Other(error)) => Err(error.into()),
    }
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
