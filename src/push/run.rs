//! Executes a [`PushPlan`] against one repository.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::referrers::add_to_list;
use super::report::{Done, Outcomes};
use super::{
    BlobLocation, PushError, PushPlan, PushReport, ReferrerPlan, RemoteState, RequestEstimate,
    TagPlan, check,
};
use crate::digest::Digest;
use crate::documents::BlobDescriptor;
use crate::registry::{
    Blob, BlobOutcome, BlobSource, BlobUpload, ExistenceCheck, PutManifestError, RawDocument,
    RegistryError, RemoteRepository, SubjectSupport,
};
use crate::ui::{Ui, size};

/// How many blobs are worked on at once; the registry's limiter decides how many requests are in
/// flight.
const AT_ONCE: usize = 32;

/// How often a document is sent to a registry that reports one of its blobs as missing: some
/// registries are eventually consistent.
const MOST_PUTS: u32 = 5;

/// What pushing needs beside the plan.
pub struct Pusher<'a> {
    pub remote: &'a RemoteRepository,
    /// Paths of repositories in the same registry that blobs may be mounted from.
    pub mount_sources: &'a [String],
    /// Where the bytes of a blob are.
    pub source: &'a (dyn Fn(&Digest) -> BlobSource + Sync),
    pub overwrite: Overwrite,
    pub ui: &'a Ui,
}

/// Whether a tag may be taken from another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Never,
    Forced,
}

impl Pusher<'_> {
    /// If it fails before the first tag is set, all tags are as they were; if it fails later, the
    /// error says which are set.
    pub async fn push(&self, plan: &PushPlan) -> Result<PushReport, PushError> {
        let before = self.remote.requests();
        let state = check::tags(self.remote, plan).await?;
        self.refuse_taken(plan, &state).await?;
        let estimate = self.estimate(plan, &state);
        let mut outcomes = Outcomes::new();
        if plan.has_work(&state) {
            outcomes = self.put_blobs(plan).await?;
            self.put_manifests(plan, &outcomes).await?;
        }
        for referrer in &plan.referrers {
            outcomes.extend(self.put_referrer(referrer).await?);
        }
        self.set_tags(plan, &state).await?;
        let requests = self.remote.requests() - before;
        let (repository, outcomes) = (self.remote.repository().to_string(), &outcomes);
        Ok(Done { repository, state: &state, outcomes, requests, estimate }.report(plan))
    }

    /// What a push would do. Asks for everything and changes nothing.
    pub async fn rehearse(&self, plan: &PushPlan) -> Result<PushReport, PushError> {
        let mut state = check::tags(self.remote, plan).await?;
        self.refuse_taken(plan, &state).await?;
        let is_wanted = plan.has_work(&state);
        let own = plan.blobs.iter().filter(|_| is_wanted);
        let of_referrers = plan.referrers.iter().flat_map(|referrer| &referrer.parts.blobs);
        let asking = own
            .chain(of_referrers)
            .map(async |blob| Ok::<_, RegistryError>((blob, self.find(blob).await?)));
        let found: Vec<_> = stream::iter(asking.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        state.blobs = found.iter().map(|(blob, location)| (blob.digest, *location)).collect();
        let outcomes = found.iter().map(|(blob, at)| (blob.digest, self.outcome(blob, *at)));
        let (repository, outcomes) = (self.remote.repository().to_string(), &outcomes.collect());
        let estimate = self.estimate(plan, &state);
        Ok(Done { repository, state: &state, outcomes, requests: 0, estimate }.report(plan))
    }

    fn outcome(&self, blob: &BlobDescriptor, location: BlobLocation) -> BlobOutcome {
        match location {
            BlobLocation::Here => BlobOutcome::Exists,
            BlobLocation::MountSource(index) => {
                let index = usize::try_from(index).ok();
                let from = index.and_then(|index| self.mount_sources.get(index)).cloned();
                BlobOutcome::Mounted { from }
            }
            BlobLocation::Nowhere => BlobOutcome::Uploaded { sent: blob.size },
        }
    }

    async fn find(&self, blob: &BlobDescriptor) -> Result<BlobLocation, RegistryError> {
        if self.remote.has_blob(&blob.digest, blob.size).await? {
            return Ok(BlobLocation::Here);
        }
        for (index, source) in (0..).zip(self.mount_sources) {
            if self.remote.can_mount(source, &blob.digest, blob.size).await? {
                return Ok(BlobLocation::MountSource(index));
            }
        }
        Ok(BlobLocation::Nowhere)
    }

    fn estimate(&self, plan: &PushPlan, state: &RemoteState) -> RequestEstimate {
        let capabilities = self.remote.registry().capabilities();
        plan.estimate(state, &capabilities, self.mount_sources.len() as u64)
    }

    async fn refuse_taken(&self, plan: &PushPlan, state: &RemoteState) -> Result<(), PushError> {
        match check::taken(plan, state).filter(|_| self.overwrite == Overwrite::Never) {
            Some((tag, known)) => Err(check::refusal(self.remote, plan, tag, known).await),
            None => Ok(()),
        }
    }

    async fn put_blobs(&self, plan: &PushPlan) -> Result<Outcomes, PushError> {
        let mut outcomes = Outcomes::new();
        let mut blobs = &plan.blobs[..];
        // In a new registry, one small blob goes first, to see what the registry supports.
        if self.remote.registry().capabilities().mount_checks_existence.is_none()
            && let Some((first, others)) = blobs.split_first()
        {
            outcomes.insert(first.digest, self.put_blob(first, ExistenceCheck::Trust).await?);
            self.remote.probe_mount(&self.blob(first)).await?;
            blobs = others;
        }
        let putting = blobs.iter().map(async |blob| {
            let outcome = self.put_blob(blob, ExistenceCheck::Trust).await?;
            Ok::<_, RegistryError>((blob.digest, outcome))
        });
        let put: Vec<_> = stream::iter(putting).buffer_unordered(AT_ONCE).try_collect().await?;
        outcomes.extend(put);
        Ok(outcomes)
    }

    async fn put_blob(
        &self,
        descriptor: &BlobDescriptor,
        existence: ExistenceCheck,
    ) -> Result<BlobOutcome, RegistryError> {
        let blob = self.blob(descriptor);
        let name = format!("{} to {}", blob.digest.short(), self.remote.repository());
        // Made with the first byte, so that no bar flickers for a blob that exists.
        let transfer = Mutex::new(None);
        let (ui, total) = (self.ui.clone(), blob.size);
        let listener = Arc::new(move |bytes: u64| {
            let mut transfer = transfer.lock().unwrap_or_else(PoisonError::into_inner);
            let shown = transfer.get_or_insert_with(|| ui.upload(&name, Some(total)));
            shown.set_position(bytes.min(total));
        });
        let mount_sources = self.mount_sources;
        let upload = BlobUpload { blob: &blob, mount_sources, existence, listener };
        let outcome = self.remote.put_blob(&upload).await?;
        let text = format!("{} {}", blob.digest.short(), size(blob.size));
        match &outcome {
            BlobOutcome::Exists | BlobOutcome::Foreign => {}
            BlobOutcome::Mounted { from: Some(from) } => {
                self.ui.status("Mounted", format!("{text} from {from}"));
            }
            BlobOutcome::Mounted { from: None } => self.ui.status("Mounted", text),
            BlobOutcome::Uploaded { .. } => self.ui.status("Pushed", text),
        }
        Ok(outcome)
    }

    fn blob(&self, blob: &BlobDescriptor) -> Blob {
        Blob { digest: blob.digest, size: blob.size, source: (self.source)(&blob.digest) }
    }

    async fn put_manifests(&self, plan: &PushPlan, outcomes: &Outcomes) -> Result<(), PushError> {
        let is_image = |it: &&RawDocument| plan.needs.contains_key(&it.digest);
        let (images, indexes): (Vec<_>, Vec<_>) = plan.manifests.iter().partition(is_image);
        let putting = images.into_iter().map(async |it| self.put(plan, outcomes, it, None).await);
        let _: Vec<_> = stream::iter(putting).buffer_unordered(AT_ONCE).try_collect().await?;
        // Each index comes after those that it names.
        for index in indexes {
            self.put(plan, outcomes, index, None).await?;
        }
        if let Some(root) = plan.root_before_tags() {
            self.put(plan, outcomes, root, None).await?;
        }
        Ok(())
    }

    /// Pushes a document that refers to one which exists, after its blobs and the documents below
    /// it.
    async fn put_referrer(&self, referrer: &ReferrerPlan) -> Result<Outcomes, PushError> {
        let ReferrerPlan { document, parts, .. } = referrer;
        let outcomes = self.put_blobs(parts).await?;
        self.put_manifests(parts, &outcomes).await?;
        let support = self.put(parts, &outcomes, document, None).await?;
        if support == SubjectSupport::Unsupported {
            add_to_list(self.remote, referrer).await?;
        }
        let subject = referrer.subject.map(|it| it.short()).unwrap_or_default();
        let text = format!("{} which refers to {subject}", document.digest.short());
        self.ui.status("Pushed", text);
        Ok(outcomes)
    }

    /// Sends a document. If the registry reports a blob as missing after claiming it exists, the
    /// blob is uploaded again, ignoring the existence check.
    async fn put(
        &self,
        plan: &PushPlan,
        outcomes: &Outcomes,
        document: &RawDocument,
        tag: Option<&str>,
    ) -> Result<SubjectSupport, PushError> {
        let mut puts = 1;
        loop {
            let missing = match self.remote.put_manifest(document, tag).await {
                Ok(support) => return Ok(support),
                Err(PutManifestError::Other(error)) => return Err(error.into()),
                Err(PutManifestError::BlobUnknown(error)) => error,
            };
            if puts == MOST_PUTS {
                return Err(missing.into());
            }
            self.ui.note(format!("{missing}; trying again"));
            tokio::time::sleep(self.lag(puts)).await;
            if puts == MOST_PUTS - 2 {
                self.upload_again(plan, outcomes, document).await?;
            }
            puts += 1;
        }
    }

    fn lag(&self, puts: u32) -> Duration {
        self.remote.registry().backoff() * 2_u32.pow(puts - 1)
    }

    /// The blobs of a document that were not uploaded in this run.
    async fn upload_again(
        &self,
        plan: &PushPlan,
        outcomes: &Outcomes,
        document: &RawDocument,
    ) -> Result<(), PushError> {
        let is_uploaded =
            |digest: &Digest| matches!(outcomes.get(digest), Some(BlobOutcome::Uploaded { .. }));
        let needed = plan.needs.get(&document.digest).into_iter().flatten();
        for digest in needed.filter(|digest| !is_uploaded(digest)) {
            if let Some(blob) = plan.blobs.iter().find(|blob| blob.digest == *digest) {
                self.put_blob(blob, ExistenceCheck::Ignore).await?;
            }
        }
        Ok(())
    }

    async fn set_tags(&self, plan: &PushPlan, state: &RemoteState) -> Result<(), PushError> {
        let mut done = Vec::new();
        for tag in plan.open_tags(state) {
            match self.set_tag(plan, state, tag).await {
                Ok(()) => done.push(&*tag.tag),
                Err(error) if done.is_empty() => return Err(error),
                Err(error) => {
                    let (done, source) = (done.join(", "), Box::new(error));
                    return Err(PushError::PartlyTagged { done, source });
                }
            }
        }
        Ok(())
    }

    /// Looks at the tag once more before it is set, because another push may have been faster; and
    /// after an error, because the tag may have been set nevertheless.
    async fn set_tag(
        &self,
        plan: &PushPlan,
        state: &RemoteState,
        tag: &TagPlan,
    ) -> Result<(), PushError> {
        let ours = Some(tag.manifest.digest);
        let known = self.remote.tag_digest(&tag.tag).await?;
        if known == ours {
            return Ok(());
        }
        let is_as_before = known == state.tag(&tag.tag);
        let is_taken = !is_as_before || self.overwrite == Overwrite::Never;
        if let Some(known) = known.filter(|_| is_taken) {
            return Err(check::refusal(self.remote, plan, tag, known).await);
        }
        let outcomes = Outcomes::new();
        if let Err(error) = self.put(plan, &outcomes, &tag.manifest, Some(&tag.tag)).await {
            match self.remote.tag_digest(&tag.tag).await {
                Ok(now) if now == ours => self.ui.note(format!("{error}, but the tag was set")),
                Ok(_) => return Err(error),
                Err(_) => {
                    let (tag, source) = (tag.tag.clone(), Box::new(error));
                    return Err(PushError::TagUnknown { tag, source });
                }
            }
        }
        self.ui.status("Tagged", format!("{}:{}", self.remote.repository(), tag.tag));
        Ok(())
    }
}

impl std::fmt::Debug for Pusher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pusher({})", self.remote.repository())
    }
}
