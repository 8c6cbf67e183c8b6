//! The list of referrers, kept under a tag where the registry does not keep it.

use oci::json::canonical;
use oci::media_type::INDEX;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PushError, ReferrerPlan};
use crate::registry::{PutManifestError, RawDocument, RemoteRepository, referrers_tag};
use oci::Reference;

/// The list as others wrote it. Their entries are kept as they are, readable or not.
#[derive(Default, Deserialize)]
struct FallbackIndex {
    #[serde(default)]
    manifests: Vec<Value>,
}

/// Adds a document to the list of referrers of its subject (distribution-spec, "Pushing Manifests
/// with Subject").
pub(super) async fn add_to_list(
    remote: &RemoteRepository,
    referrer: &ReferrerPlan,
) -> Result<(), PushError> {
    let Some(subject) = referrer.subject else { return Ok(()) };
    let tag = referrers_tag(&subject);
    let repository = remote.repository().clone();
    let reference = Reference { repository, tag: Some(tag.clone()), digest: None };
    let known = remote.get_manifest(&reference).await?;
    let known = known.map(|list| serde_json::from_slice::<FallbackIndex>(&list.bytes));
    let mut list = known.and_then(Result::ok).unwrap_or_default();
    let own = referrer.document.digest.to_string();
    if list.manifests.iter().any(|it| it["digest"] == *own) {
        return Ok(());
    }
    list.manifests.push(serde_json::to_value(&referrer.listed_as).unwrap_or_default());
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list.manifests });
    let list = RawDocument::new(INDEX, canonical(&list));
    match remote.put_manifest(&list, Some(&tag)).await {
        Ok(_) => Ok(()),
        Err(PutManifestError::BlobUnknown(error) | PutManifestError::Other(error)) => {
            Err(error.into())
        }
    }
}
