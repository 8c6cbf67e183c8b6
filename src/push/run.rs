//! Obeys the plan.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::referrers::enlist;
use super::{
    Forecast, Found, Piece, PushError, PushPlan, ReferrerPlan, Survey, TagPlan, check, subject,
};
use crate::digest::Digest;
use crate::registry::{
    Belief, Blob, Bring, Delivery, Known, Manifest, Moved, Remote, RemoteError, Unwanted,
};
use crate::ui::{Ui, size};

/// So many blobs are thought of at once; the registry's pace decides how many are on their way.
const AT_ONCE: usize = 32;

/// How often a registry may say that it misses what it was given: some see late what they have.
const LOOKS: u32 = 5;

/// What pushing needs beside the plan.
pub struct Pusher<'a> {
    pub remote: &'a Remote,
    /// Paths of repositories in the same registry that blobs may be mounted from.
    pub sources: &'a [String],
    /// Where the file of a blob is, or will be.
    pub path: &'a (dyn Fn(&Digest) -> PathBuf + Sync),
    pub bring: Option<&'a dyn Bring>,
    pub overwrite: Overwrite,
    pub ui: &'a Ui,
}

/// Whether a tag may be taken from another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Never,
    Forced,
}

/// What was done in one repository.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub repository: String,
    /// What was pushed: the index, or the first image.
    pub digest: Digest,
    /// The index, or each image where there is none.
    #[serde(skip)]
    pub named: Vec<Digest>,
    pub media_type: String,
    pub tags: Vec<TagReport>,
    pub manifests: Vec<ManifestReport>,
    /// What refers to them.
    pub referrers: Vec<ManifestReport>,
    pub blobs: Vec<BlobReport>,
    pub moved_bytes: u64,
    pub mounted_bytes: u64,
    pub skipped_bytes: u64,
    pub requests: u64,
    pub forecast: Forecast,
}

#[derive(Clone, Debug, Serialize)]
pub struct TagReport {
    pub tag: String,
    pub digest: Digest,
    pub state: TagState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TagState {
    /// It named the same image before.
    Same,
    New,
    /// It was taken from another image, by force.
    Moved,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestReport {
    pub media_type: String,
    pub digest: Digest,
    pub size: usize,
    /// Documents are so small that they are handed over unasked.
    #[serde(flatten)]
    pub way: Way,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobReport {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(flatten)]
    pub way: Way,
}

/// How something came there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub enum Way {
    Present,
    Mounted {
        from: Option<String>,
    },
    Uploaded {
        sent: u64,
    },
    /// It stays where it is, because it must not be distributed.
    Foreign,
}

impl From<Moved> for Way {
    fn from(moved: Moved) -> Self {
        match moved {
            Moved::Present => Self::Present,
            Moved::Mounted { from } => Self::Mounted { from },
            Moved::Uploaded { sent } => Self::Uploaded { sent },
        }
    }
}

impl Pusher<'_> {
    /// Whatever fails before the first tag is set, the tags are as they were; what fails later says
    /// which are set.
    pub async fn push(&self, plan: &PushPlan) -> Result<Report, PushError> {
        let before = self.remote.requests();
        let survey = check::tags(self.remote, plan).await?;
        self.refuse(plan, &survey).await?;
        let forecast = self.forecast(plan, &survey);
        let mut ways = BTreeMap::new();
        if plan.has_work(&survey) {
            ways = self.blobs(plan).await?;
            self.manifests(plan, &ways).await?;
        }
        for referrer in &plan.referrers {
            ways.extend(self.refer(referrer).await?);
        }
        self.tags(plan, &survey).await?;
        let requests = self.remote.requests() - before;
        Ok(self.report(plan, &survey, &ways, requests, forecast))
    }

    /// What a push would do, after asking for everything and changing nothing.
    pub async fn rehearse(&self, plan: &PushPlan) -> Result<Report, PushError> {
        let mut survey = check::tags(self.remote, plan).await?;
        self.refuse(plan, &survey).await?;
        let is_wanted = plan.has_work(&survey);
        let own = plan.blobs.iter().filter(|_| is_wanted);
        let of_referrers = plan.referrers.iter().flat_map(|referrer| &referrer.parts.blobs);
        let asking = own
            .chain(of_referrers)
            .map(async |piece| Ok::<_, RemoteError>((piece, self.find(piece).await?)));
        let found: Vec<_> = stream::iter(asking.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        survey.blobs = found.iter().map(|(piece, found)| (piece.digest, *found)).collect();
        let way = |piece: &Piece, found: Found| match found {
            Found::Here => Way::Present,
            Found::Elsewhere(at) => {
                let from = usize::try_from(at).ok().and_then(|at| self.sources.get(at)).cloned();
                Way::Mounted { from }
            }
            Found::Nowhere => Way::Uploaded { sent: piece.size },
        };
        let ways = found.iter().map(|(piece, found)| (piece.digest, way(piece, *found))).collect();
        let forecast = self.forecast(plan, &survey);
        Ok(self.report(plan, &survey, &ways, 0, forecast))
    }

    async fn find(&self, piece: &Piece) -> Result<Found, RemoteError> {
        if self.remote.has_blob(&piece.digest, piece.size).await? {
            return Ok(Found::Here);
        }
        for (at, source) in (0..).zip(self.sources) {
            if self.remote.can_mount(source, &piece.digest, piece.size).await? {
                return Ok(Found::Elsewhere(at));
            }
        }
        Ok(Found::Nowhere)
    }

    fn forecast(&self, plan: &PushPlan, survey: &Survey) -> Forecast {
        plan.forecast(survey, &self.remote.host().manners(), self.sources.len() as u64)
    }

    async fn refuse(&self, plan: &PushPlan, survey: &Survey) -> Result<(), PushError> {
        match check::taken(plan, survey).filter(|_| self.overwrite == Overwrite::Never) {
            Some((tag, known)) => Err(check::refusal(self.remote, plan, tag, known).await),
            None => Ok(()),
        }
    }

    async fn blobs(&self, plan: &PushPlan) -> Result<BTreeMap<Digest, Way>, PushError> {
        let mut ways = BTreeMap::new();
        let mut pieces = &plan.blobs[..];
        // With a registry that we do not know, one small blob goes ahead and looks around.
        if self.remote.host().manners().tells_by_mount.is_none()
            && let Some((scout, others)) = pieces.split_first()
        {
            ways.insert(scout.digest, self.blob(scout, Belief::Asks).await?.into());
            self.remote.learn(&self.file(scout)).await?;
            pieces = others;
        }
        let moving = pieces.iter().map(async |piece| {
            Ok::<_, RemoteError>((piece.digest, Way::from(self.blob(piece, Belief::Asks).await?)))
        });
        let moved: Vec<_> = stream::iter(moving).buffer_unordered(AT_ONCE).try_collect().await?;
        ways.extend(moved);
        Ok(ways)
    }

    async fn blob(&self, piece: &Piece, belief: Belief) -> Result<Moved, RemoteError> {
        let blob = self.file(piece);
        let name = format!("{} to {}", piece.digest.short(), self.remote.repository());
        // Made when bytes move, so that nothing flickers for what is there.
        let transfer = Mutex::new(None);
        let (ui, total) = (self.ui.clone(), piece.size);
        let listener = move |bytes: u64| {
            let mut transfer = transfer.lock().unwrap_or_else(PoisonError::into_inner);
            let shown = transfer.get_or_insert_with(|| ui.upload(&name, Some(total)));
            shown.set_position(bytes.min(total));
        };
        let (sources, bring) = (self.sources, self.bring);
        let delivery =
            Delivery { blob: &blob, sources, belief, listener: Arc::new(listener), bring };
        let moved = self.remote.push_blob(&delivery).await?;
        let text = format!("{} {}", piece.digest.short(), size(piece.size));
        match &moved {
            Moved::Present => {}
            Moved::Mounted { from: Some(from) } => {
                self.ui.status("Mounted", format!("{text} from {from}"));
            }
            Moved::Mounted { from: None } => self.ui.status("Mounted", text),
            Moved::Uploaded { .. } => self.ui.status("Pushed", text),
        }
        Ok(moved)
    }

    fn file(&self, piece: &Piece) -> Blob {
        Blob { digest: piece.digest, size: piece.size, path: (self.path)(&piece.digest) }
    }

    async fn manifests(
        &self,
        plan: &PushPlan,
        ways: &BTreeMap<Digest, Way>,
    ) -> Result<(), PushError> {
        let is_image = |it: &&Manifest| plan.needs.contains_key(&it.digest);
        let (images, indexes): (Vec<_>, Vec<_>) = plan.manifests.iter().partition(is_image);
        let putting = images.into_iter().map(async |it| self.put(plan, ways, it, None).await);
        let _: Vec<_> = stream::iter(putting).buffer_unordered(AT_ONCE).try_collect().await?;
        // From the inside out.
        for index in indexes {
            self.put(plan, ways, index, None).await?;
        }
        if let Some(root) = plan.root_before_tags() {
            self.put(plan, ways, root, None).await?;
        }
        Ok(())
    }

    /// What refers to something that is there, with its blobs and what is below it, itself last.
    async fn refer(&self, referrer: &ReferrerPlan) -> Result<BTreeMap<Digest, Way>, PushError> {
        let ReferrerPlan { manifest, parts } = referrer;
        let ways = self.blobs(parts).await?;
        self.manifests(parts, &ways).await?;
        if self.put(parts, &ways, manifest, None).await? == Known::ByDigest {
            enlist(self.remote, manifest).await?;
        }
        let subject = subject(manifest).map(|it| it.short()).unwrap_or_default();
        let text = format!("{} which refers to {subject}", manifest.digest.short());
        self.ui.status("Pushed", text);
        Ok(ways)
    }

    /// A registry that misses a blob which it said to have gets it, said or not.
    async fn put(
        &self,
        plan: &PushPlan,
        ways: &BTreeMap<Digest, Way>,
        manifest: &Manifest,
        tag: Option<&str>,
    ) -> Result<Known, PushError> {
        let mut looks = 1;
        loop {
            let missing = match self.remote.put_manifest(manifest, tag).await {
                Ok(known) => return Ok(known),
                Err(Unwanted::Other(error)) => return Err(error.into()),
                Err(Unwanted::Incomplete(error)) => error,
            };
            if looks == LOOKS {
                return Err(missing.into());
            }
            self.ui.note(format!("{missing}; looking again"));
            tokio::time::sleep(self.lag(looks)).await;
            if looks == LOOKS - 2 {
                self.insist(plan, ways, manifest).await?;
            }
            looks += 1;
        }
    }

    fn lag(&self, looks: u32) -> Duration {
        self.remote.host().patience() * 2_u32.pow(looks - 1)
    }

    async fn insist(
        &self,
        plan: &PushPlan,
        ways: &BTreeMap<Digest, Way>,
        manifest: &Manifest,
    ) -> Result<(), PushError> {
        let needed = plan.needs.get(&manifest.digest).into_iter().flatten();
        for digest in
            needed.filter(|digest| !matches!(ways.get(digest), Some(Way::Uploaded { .. })))
        {
            if let Some(piece) = plan.blobs.iter().find(|piece| piece.digest == *digest) {
                self.blob(piece, Belief::Insists).await?;
            }
        }
        Ok(())
    }

    async fn tags(&self, plan: &PushPlan, survey: &Survey) -> Result<(), PushError> {
        let mut done = Vec::new();
        for tag in plan.open_tags(survey) {
            match self.tag(plan, survey, tag).await {
                Ok(()) => done.push(&*tag.tag),
                Err(error) if done.is_empty() => return Err(error),
                Err(error) => {
                    let (done, source) = (done.join(", "), Box::new(error));
                    return Err(PushError::Partly { done, source });
                }
            }
        }
        Ok(())
    }

    /// Looks once more before it sets a tag: another may have been faster. And after a refusal: what
    /// counts is what the tag names, not what the registry says about it.
    async fn tag(&self, plan: &PushPlan, survey: &Survey, tag: &TagPlan) -> Result<(), PushError> {
        let ours = Some(tag.manifest.digest);
        let known = self.remote.tagged(&tag.tag).await?;
        if known == ours {
            return Ok(());
        }
        let as_before = known == survey.tags.get(&tag.tag).copied().flatten();
        if let Some(known) = known.filter(|_| !as_before || self.overwrite == Overwrite::Never) {
            return Err(check::refusal(self.remote, plan, tag, known).await);
        }
        let nothing = BTreeMap::new();
        if let Err(error) = self.put(plan, &nothing, &tag.manifest, Some(&tag.tag)).await {
            match self.remote.tagged(&tag.tag).await {
                Ok(now) if now == ours => self.ui.note(format!("{error}; but it is")),
                Ok(_) => return Err(error),
                Err(_) => {
                    let (tag, source) = (tag.tag.clone(), Box::new(error));
                    return Err(PushError::Unsure { tag, source });
                }
            }
        }
        self.ui.status("Tagged", format!("{}:{}", self.remote.repository(), tag.tag));
        Ok(())
    }

    fn report(
        &self,
        plan: &PushPlan,
        survey: &Survey,
        ways: &BTreeMap<Digest, Way>,
        requests: u64,
        forecast: Forecast,
    ) -> Report {
        let root = plan.root.as_ref().or(plan.manifests.first());
        let named = plan.root.iter().chain(plan.manifests.iter().filter(|_| plan.root.is_none()));
        let way = |piece: &Piece| ways.get(&piece.digest).cloned().unwrap_or(Way::Present);
        let blob = |piece: &Piece, way: Way| BlobReport {
            media_type: piece.media_type.clone(),
            digest: piece.digest,
            size: piece.size,
            way,
        };
        let blobs: Vec<_> = plan.all_blobs().map(|piece| blob(piece, way(piece))).collect();
        let sum = |is: &dyn Fn(&Way) -> bool| {
            blobs.iter().filter(|it| is(&it.way)).map(|it| it.size).sum::<u64>()
        };
        let moved = blobs.iter().map(|it| match it.way {
            Way::Uploaded { sent } => sent,
            _ => 0,
        });
        let has_work = plan.has_work(survey);
        let documents = plan.manifests.iter().chain(plan.root.iter());
        let referrers = plan.referrers.iter();
        let referrers = referrers.flat_map(|it| it.parts.manifests.iter().chain([&it.manifest]));
        Report {
            repository: self.remote.repository().to_string(),
            digest: root.map_or(Digest::of(""), |root| root.digest),
            named: named.map(|manifest| manifest.digest).collect(),
            media_type: root.map(|root| root.media_type.clone()).unwrap_or_default(),
            tags: plan.tags.iter().map(|tag| tag_report(tag, survey)).collect(),
            manifests: documents.map(|it| manifest_report(it, has_work)).collect(),
            referrers: referrers.map(|it| manifest_report(it, true)).collect(),
            moved_bytes: moved.sum(),
            mounted_bytes: sum(&|way| matches!(way, Way::Mounted { .. })),
            skipped_bytes: sum(&|way| *way == Way::Present),
            blobs: blobs
                .iter()
                .cloned()
                .chain(plan.foreign.iter().map(|piece| blob(piece, Way::Foreign)))
                .collect(),
            requests,
            forecast,
        }
    }
}

fn tag_report(tag: &TagPlan, survey: &Survey) -> TagReport {
    let digest = tag.manifest.digest;
    let state = match survey.tags.get(&tag.tag).copied().flatten() {
        Some(known) if known == digest => TagState::Same,
        Some(_) => TagState::Moved,
        None => TagState::New,
    };
    TagReport { tag: tag.tag.clone(), digest, state }
}

fn manifest_report(manifest: &Manifest, is_sent: bool) -> ManifestReport {
    let Manifest { media_type, digest, bytes } = manifest;
    let sent = bytes.len() as u64;
    let way = if is_sent { Way::Uploaded { sent } } else { Way::Present };
    ManifestReport { media_type: media_type.clone(), digest: *digest, size: bytes.len(), way }
}

impl std::fmt::Debug for Pusher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pusher({})", self.remote.repository())
    }
}
