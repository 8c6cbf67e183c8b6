//! Tags that are there already: the same image is no work, another one is a refusal.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::plan::next_free;
use super::{PushError, PushPlan, Survey, TagPlan};
use crate::digest::Digest;
use crate::registry::Remote;

/// Asks for every tag of the plan. The first one alone: its answer says how to be let in.
pub(super) async fn tags(remote: &Remote, plan: &PushPlan) -> Result<Survey, PushError> {
    let mut survey = Survey::default();
    let Some((first, others)) = plan.tags.split_first() else { return Ok(survey) };
    survey.tags.insert(first.tag.clone(), remote.tagged(&first.tag).await?);
    let asked = others.iter().map(async |it| Ok((it.tag.clone(), remote.tagged(&it.tag).await?)));
    let asked: Vec<_> = stream::iter(asked)
        .buffer_unordered(16)
        .try_collect()
        .await
        .map_err(|error: crate::registry::RemoteError| error)?;
    survey.tags.extend(asked);
    Ok(survey)
}

/// A tag of the plan that names something else.
pub(super) fn taken<'a>(plan: &'a PushPlan, survey: &Survey) -> Option<(&'a TagPlan, Digest)> {
    let known = |tag: &TagPlan| survey.tags.get(&tag.tag).copied().flatten();
    let other = |tag: &&TagPlan| known(tag).is_some_and(|digest| digest != tag.manifest.digest);
    let tag = plan.tags.iter().find(other)?;
    Some((tag, known(tag)?))
}

/// The refusal, with the way out.
pub(super) async fn refusal(
    remote: &Remote,
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
        ours: tag.manifest.digest,
        known,
        next: next_free(&own, &tags).map(Into::into),
    }
}
