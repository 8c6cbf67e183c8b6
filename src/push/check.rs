//! Tags that exist already: one that names the same image needs no work, one that names another
//! image is refused.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::plan::next_free;
use super::{PushError, PushPlan, RemoteState, TagPlan};
use crate::digest::Digest;
use crate::registry::{RegistryError, RemoteRepository};

const AT_ONCE: usize = 16;

/// Asks for every tag of the plan; for the first one alone, so that the others have its token.
pub(super) async fn tags(
    remote: &RemoteRepository,
    plan: &PushPlan,
) -> Result<RemoteState, PushError> {
    let mut state = RemoteState::default();
    let Some((first, others)) = plan.tags.split_first() else { return Ok(state) };
    state.tags.insert(first.tag.clone(), remote.tag_digest(&first.tag).await?);
    let asking = others.iter().map(async |it| {
        Ok::<_, RegistryError>((it.tag.clone(), remote.tag_digest(&it.tag).await?))
    });
    let asked: Vec<_> = stream::iter(asking).buffer_unordered(AT_ONCE).try_collect().await?;
    state.tags.extend(asked);
    Ok(state)
}

/// A tag of the plan that names something else.
pub(super) fn taken<'a>(plan: &'a PushPlan, state: &RemoteState) -> Option<(&'a TagPlan, Digest)> {
    plan.tags.iter().find_map(|tag| {
        let known = state.tag(&tag.tag).filter(|digest| *digest != tag.manifest.digest)?;
        Some((tag, known))
    })
}

/// The refusal of a tag that names another image, with the next free tag.
pub(super) async fn refusal(
    remote: &RemoteRepository,
    plan: &PushPlan,
    tag: &TagPlan,
    known: Digest,
) -> PushError {
    let own = plan.tags.first().map(|tag| tag.tag.clone()).unwrap_or_default();
    // Only for the hint: without it the refusal is the same.
    let tags = remote.tags().await.unwrap_or_default();
    PushError::Taken {
        repository: remote.repository().to_string().into(),
        tag: tag.tag.clone().into(),
        expected: tag.manifest.digest,
        received: known,
        next: next_free(&own, &tags).map(Into::into),
    }
}
