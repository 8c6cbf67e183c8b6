//! What is to move where, and what it costs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use etcd_version::ImageTag;
use serde::Serialize;

use super::{Content, Image, Piece, PushError};
use crate::digest::Digest;
use crate::platform::Platform;
use crate::registry::{Manifest, Manners, Told, is_tag};

/// What a person asked for, translated.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Empty: all of the layout, with its index.
    pub platforms: Vec<Platform>,
    /// The tags of the index; the first is the image's own.
    pub tags: Vec<String>,
    /// Also one tag for each platform.
    pub with_platform_tags: bool,
}

/// Everything that is to be in a repository afterwards, in the order it gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushPlan {
    /// Each once, whoever shares it; the smallest first, then from the largest down.
    pub blobs: Vec<Piece>,
    pub foreign: Vec<Piece>,
    /// Image manifests, then indexes below the root.
    pub manifests: Vec<Manifest>,
    /// Named by the tags; by its digest when there is none.
    pub root: Option<Manifest>,
    pub tags: Vec<TagPlan>,
    /// Which blobs each manifest needs.
    pub needs: BTreeMap<Digest, Vec<Digest>>,
    /// What refers to all this: signatures, bills of material.
    pub referrers: Vec<ReferrerPlan>,
}

/// Something that refers to an image by `subject`. It goes when its subject is there, and before
/// the tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerPlan {
    pub manifest: Manifest,
    /// What it needs, without tags.
    pub parts: PushPlan,
}

/// A tag, and what it is to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPlan {
    pub tag: String,
    pub manifest: Manifest,
}

/// What a registry said it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    pub tags: BTreeMap<String, Option<Digest>>,
    /// Of the blobs that were asked for.
    pub blobs: BTreeMap<Digest, Found>,
}

/// Where a registry has a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Here,
    /// In a repository that it can be mounted from; so many are asked before.
    Elsewhere(u64),
    Nowhere,
}

/// How many requests a push takes when nothing goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// When every blob is there that nobody has asked for, and the registry is of the kind sort.
    pub least: u64,
    /// When none is. The same after asking, in a registry that we have met, without referrers.
    pub most: u64,
}

/// What a count of requests goes by.
struct Odds<'a> {
    survey: &'a Survey,
    manners: Manners,
    /// From how many repositories a blob may be mounted.
    sources: u64,
    /// Where a blob is that nobody has asked for.
    unasked: Found,
    /// What it takes to get to know a registry.
    learning: u64,
    /// What it takes to make a referrer known.
    listing: u64,
}

/// Decides everything and does nothing.
pub fn plan(content: &Content, wish: &Wish) -> Result<PushPlan, PushError> {
    if let Some(tag) = wish.tags.iter().find(|tag| !is_tag(tag)) {
        return Err(PushError::Tag(tag.clone()));
    }
    let is_wanted = |image: &&Image| {
        wish.platforms.is_empty() || wish.platforms.iter().any(|it| image.is_for(&it.to_string()))
    };
    for platform in &wish.platforms {
        let text = platform.to_string();
        if !content.images.iter().any(|image| image.is_for(&text)) {
            return Err(PushError::NoPlatform(text));
        }
    }
    let images = content.images.iter().filter(is_wanted);
    let images: Vec<_> = images.collect();
    // A part of an index is no index: nothing may name it as if it were all. Nor is a layout with
    // one platform all of a release, so who names platforms gets those, whatever else there is.
    let is_all = wish.platforms.is_empty();
    let own = content.images.iter().any(|image| image.manifest.digest == content.root.digest);
    let mut manifests: Vec<_> = images.iter().map(|image| image.manifest.clone()).collect();
    let mut tags = Vec::new();
    if is_all {
        manifests.extend(content.indexes.iter().cloned());
        manifests.retain(|manifest| !own || manifest.digest != content.root.digest);
        let root = |tag: &String| TagPlan { tag: tag.clone(), manifest: content.root.clone() };
        tags.extend(wish.tags.iter().map(root));
    }
    if let Some(own) = wish.tags.first().filter(|_| wish.with_platform_tags || !is_all) {
        let named = images.iter().filter_map(|image| Some((image.suffix()?, image)));
        tags.extend(named.map(|(suffix, image)| TagPlan {
            tag: format!("{own}-{suffix}"),
            manifest: image.manifest.clone(),
        }));
    }
    dedup(&mut tags);
    let pieces: BTreeSet<_> =
        images.iter().flat_map(|image| image.pieces.iter().cloned()).collect();
    let (foreign, blobs): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|it| it.is_foreign);
    let needs = images.iter().map(|image| {
        let own = image.pieces.iter().filter(|piece| !piece.is_foreign);
        (image.manifest.digest, own.map(|piece| piece.digest).collect())
    });
    Ok(PushPlan {
        blobs: in_order(blobs),
        foreign,
        manifests,
        root: is_all.then(|| content.root.clone()),
        tags,
        needs: needs.collect(),
        referrers: Vec::new(),
    })
}

/// The smallest shows how the registry behaves; then the largest, so that it is not what
/// everybody waits for at the end.
fn in_order(mut blobs: Vec<Piece>) -> Vec<Piece> {
    blobs.sort_by(|a, b| (b.size, a.digest).cmp(&(a.size, b.digest)));
    blobs.dedup_by_key(|piece| piece.digest);
    if let Some(smallest) = blobs.pop() {
        blobs.insert(0, smallest);
    }
    blobs
}

fn dedup(tags: &mut Vec<TagPlan>) {
    let mut seen = BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.tag.clone()));
}

impl PushPlan {
    /// The same with what refers to it, in an order in which subjects come first.
    pub fn with_referrers(mut self, referrers: &[Content]) -> Result<Self, PushError> {
        let mut known: BTreeSet<_> = self.blobs.iter().map(|piece| piece.digest).collect();
        for content in referrers {
            let mut parts = plan(content, &Wish::default())?;
            parts.root = None;
            parts.manifests.retain(|manifest| manifest.digest != content.root.digest);
            // Signatures share their empty config.
            parts.blobs.retain(|piece| known.insert(piece.digest));
            self.referrers.push(ReferrerPlan { manifest: content.root.clone(), parts });
        }
        Ok(self)
    }

    /// Those of the referrers included.
    pub fn all_blobs(&self) -> impl Iterator<Item = &Piece> {
        let of_referrers = self.referrers.iter().flat_map(|referrer| &referrer.parts.blobs);
        self.blobs.iter().chain(of_referrers)
    }

    pub fn size_bytes(&self) -> u64 {
        self.blobs.iter().map(|piece| piece.size).sum()
    }

    /// Whether anything but tags and referrers may be missing.
    pub fn has_work(&self, survey: &Survey) -> bool {
        let is_open = self.tags.is_empty() || self.open_tags(survey).next().is_some();
        is_open && !self.is_proven_by(survey)
    }

    /// The root, where it cannot wait for a tag to bring it: no tag does, or something refers to it.
    pub fn root_before_tags(&self) -> Option<&Manifest> {
        let is_subject = !self.referrers.is_empty();
        let root = self.root.as_ref()?;
        let is_tagged = self.tags.iter().any(|tag| tag.manifest.digest == root.digest);
        Some(root).filter(|_| is_subject || !is_tagged)
    }

    /// Whether a tag that names the root already proves that everything is there.
    pub fn is_proven_by(&self, survey: &Survey) -> bool {
        let root = self.root.as_ref().map(|root| root.digest);
        let names_root = |tag: &TagPlan| {
            Some(tag.manifest.digest) == root
                && survey.tags.get(&tag.tag) == Some(&Some(tag.manifest.digest))
        };
        root.is_some() && self.tags.iter().any(names_root)
    }

    /// The tags that do not name yet what they should.
    pub fn open_tags<'a>(&'a self, survey: &'a Survey) -> impl Iterator<Item = &'a TagPlan> {
        let is_open = |tag: &&TagPlan| {
            survey.tags.get(&tag.tag).copied().flatten() != Some(tag.manifest.digest)
        };
        self.tags.iter().filter(is_open)
    }

    /// `sources` is from how many repositories a blob may be mounted.
    pub fn forecast(&self, survey: &Survey, manners: &Manners, sources: u64) -> Forecast {
        let is_known = manners.tells_by_mount.is_some();
        let said = |told| {
            let told = Some(told).filter(|_| !is_known);
            Manners {
                tells_by_mount: told.or(manners.tells_by_mount),
                takes_single_post: told.or(manners.takes_single_post),
                ..manners.clone()
            }
        };
        let best = Odds {
            survey,
            manners: said(Told::Yes),
            sources,
            unasked: Found::Here,
            learning: u64::from(!is_known),
            listing: 0,
        };
        let worst = Odds {
            manners: said(Told::No),
            unasked: Found::Nowhere,
            learning: if is_known { 0 } else { 3 },
            // Without the API: the list that stands in for it is read and written.
            listing: 2,
            ..best
        };
        Forecast { least: self.requests(&best), most: self.requests(&worst) }
    }

    fn requests(&self, odds: &Odds<'_>) -> u64 {
        let asked = self.tags.len() as u64;
        // Each is looked at once more before it is set.
        let tagging = 2 * self.open_tags(odds.survey).count() as u64;
        let documents = if self.has_work(odds.survey) {
            let learning = if self.blobs.is_empty() { 0 } else { odds.learning };
            learning + self.deliveries(odds)
        } else {
            0
        };
        let referrers = self.referrers.iter();
        let referring = referrers.map(|it| it.parts.deliveries(odds) + 1 + odds.listing);
        asked + documents + referring.sum::<u64>() + tagging
    }

    /// Of blobs and manifests.
    fn deliveries(&self, odds: &Odds<'_>) -> u64 {
        let blobs: u64 = self.blobs.iter().map(|piece| odds.blob(piece)).sum();
        blobs + self.manifests.len() as u64 + u64::from(self.root_before_tags().is_some())
    }
}

impl Odds<'_> {
    /// What `Remote::push_blob` does with one blob.
    fn blob(&self, piece: &Piece) -> u64 {
        let Self { manners, sources, .. } = self;
        match self.survey.blobs.get(&piece.digest).unwrap_or(&self.unasked) {
            Found::Here => return 1,
            Found::Elsewhere(before) => return 1 + before + 1,
            Found::Nowhere => {}
        }
        let sending = pieces(piece.size, manners);
        if manners.tells_by_mount == Some(Told::Yes) {
            return 1 + sources + sending;
        }
        let is_single =
            piece.size <= crate::registry::SMALL && manners.takes_single_post == Some(Told::Yes);
        match sources {
            0 if is_single => 2,
            0 => 2 + sending,
            sources => 1 + sources + sending,
        }
    }
}

fn pieces(size: u64, manners: &Manners) -> u64 {
    let piece = crate::registry::PIECE.min(manners.largest_body.unwrap_or(u64::MAX));
    if manners.takes_chunks == Some(Told::No) { 1 } else { size.div_ceil(piece).max(1) }
}

/// The tag that the next revision of the same etcd has, if `tag` is one of ours.
pub(super) fn next_free(tag: &str, known: &[String]) -> Option<String> {
    let taken: ImageTag = tag.parse().ok()?;
    let revisions = known.iter().filter_map(|tag| tag.parse::<ImageTag>().ok());
    let same = revisions.filter(|known| known.etcd == taken.etcd).map(|known| known.revision);
    let last = same.max().unwrap_or(taken.revision).max(taken.revision);
    Some(ImageTag { etcd: taken.etcd, revision: last + 1 }.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_revision_is_the_first_that_nobody_has() {
        let known = ["3.7.1-0", "3.7.1-4", "3.7.2-9", "latest", "3.7.1-5-linux-arm"];
        let known = known.map(ToOwned::to_owned);
        assert_eq!(next_free("3.7.1-0", &known).as_deref(), Some("3.7.1-5"));
        assert_eq!(next_free("3.7.3-0", &known).as_deref(), Some("3.7.3-1"));
        assert_eq!(next_free("latest", &known), None);
    }

    #[test]
    fn a_push_is_planned_from_blobs_to_tags() {
        check(
            &[],
            &[],
            false,
            r"
            blob config-arm 3
            blob shared 900
            blob own-amd64 50
            blob own-arm 40
            blob config-amd64 4
            manifest linux/amd64
            manifest linux/arm/v7
            index 3.7.1-0
        ",
        );
        check(
            &[],
            &["latest"],
            true,
            r"
            blob config-arm 3
            blob shared 900
            blob own-amd64 50
            blob own-arm 40
            blob config-amd64 4
            manifest linux/amd64
            manifest linux/arm/v7
            index 3.7.1-0
            index latest
            image 3.7.1-0-linux-amd64
            image 3.7.1-0-linux-arm
        ",
        );
        // A part of an index gets no index, and only the tags of its platforms.
        check(
            &["linux/arm"],
            &[],
            false,
            r"
            blob config-arm 3
            blob shared 900
            blob own-arm 40
            manifest linux/arm/v7
            image 3.7.1-0-linux-arm
        ",
        );
    }

    #[test]
    fn a_platform_that_is_named_is_never_the_whole() {
        let mut content = content();
        content.images.truncate(1);
        let plan = plan(&content, &wish(&["linux/amd64"], &["latest"], false)).unwrap();
        assert_eq!(plan.root, None);
        let tags: Vec<_> = plan.tags.iter().map(|tag| &*tag.tag).collect();
        assert_eq!(tags, ["3.7.1-0-linux-amd64"]);
    }

    #[test]
    fn requests_are_counted_before_they_are_made() {
        let plan = plan(&content(), &wish(&[], &[], false)).unwrap();
        let told = |told| Manners { tells_by_mount: Some(told), ..Manners::default() };
        let requests = |survey: &Survey, manners: &Manners| {
            let Forecast { least, most } = plan.forecast(survey, manners, 0);
            (least, most)
        };
        let found = |found| plan.blobs.iter().map(|piece| (piece.digest, found)).collect();
        let tagged = |digest| [("3.7.1-0".to_owned(), digest)].into();
        let survey = |blobs| Survey { tags: tagged(None), blobs };
        // One look at the tag, two for each blob, one for each manifest; the tag, looked at again.
        let nowhere = survey(found(Found::Nowhere));
        assert_eq!(requests(&nowhere, &told(Told::Yes)), (1 + 5 * 2 + 2 + 2, 1 + 5 * 2 + 2 + 2));
        assert_eq!(requests(&nowhere, &told(Told::No)), (1 + 5 * 3 + 2 + 2, 1 + 5 * 3 + 2 + 2));
        assert_eq!(requests(&nowhere, &Manners::default()), (16, 23));
        let here = survey(found(Found::Here));
        assert_eq!(requests(&here, &told(Told::Yes)), (1 + 5 + 2 + 2, 1 + 5 + 2 + 2));
        let elsewhere = survey(found(Found::Elsewhere(1)));
        assert_eq!(requests(&elsewhere, &told(Told::Yes)).1, 1 + 5 * 3 + 2 + 2);
        // Blobs that nobody has asked for may all be there, or none.
        let unasked = survey(BTreeMap::new());
        assert_eq!(requests(&unasked, &told(Told::Yes)), (1 + 5 + 2 + 2, 1 + 5 * 2 + 2 + 2));
        let root = plan.root.as_ref().unwrap().digest;
        let same = Survey { tags: tagged(Some(root)), ..Survey::default() };
        assert_eq!(requests(&same, &told(Told::Yes)), (1, 1));
    }

    #[test]
    fn what_refers_to_the_root_comes_after_it_and_before_the_tags() {
        let signature = |name: &str| Content {
            root: Manifest::new("signature", name.as_bytes()),
            indexes: Vec::new(),
            images: vec![super::super::Image {
                manifest: Manifest::new("signature", name.as_bytes()),
                platform: None,
                os_version: None,
                pieces: vec![piece("empty", 2), piece(name, 9)],
            }],
        };
        let plan = plan(&content(), &wish(&[], &[], false)).unwrap();
        assert_eq!(plan.root_before_tags(), None);
        let bare = plan.forecast(&Survey::default(), &Manners::default(), 0);
        let plan = plan.with_referrers(&[signature("one"), signature("two")]).unwrap();
        assert_eq!(plan.root_before_tags(), plan.root.as_ref());
        let blobs = |it: &ReferrerPlan| it.parts.blobs.len();
        assert_eq!(plan.referrers.iter().map(blobs).collect::<Vec<_>>(), [2, 1]);
        let signed = plan.forecast(&Survey::default(), &Manners::default(), 0);
        // The root by its digest, three blobs, two manifests; at worst two lists by tags.
        assert_eq!(signed.least - bare.least, 1 + 3 + 2);
        assert_eq!(signed.most - bare.most, 1 + 3 * 3 + 2 + 2 * 2);
    }

    #[track_caller]
    fn check(platforms: &[&str], tags: &[&str], with_platform_tags: bool, expected: &str) {
        let content = content();
        let plan = plan(&content, &wish(platforms, tags, with_platform_tags)).unwrap();
        let mut lines = Vec::new();
        for blob in &plan.blobs {
            lines.push(format!("blob {} {}", blob.media_type, blob.size));
        }
        for manifest in &plan.manifests {
            let image = content.images.iter().find(|it| it.manifest == *manifest).unwrap();
            lines.push(format!("manifest {}", image.name()));
        }
        for tag in &plan.tags {
            let kind = if tag.manifest == content.root { "index" } else { "image" };
            lines.push(format!("{kind} {}", tag.tag));
        }
        let expected: Vec<_> =
            expected.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
        assert_eq!(lines, expected);
    }

    fn wish(platforms: &[&str], tags: &[&str], with_platform_tags: bool) -> Wish {
        let tags = std::iter::once(&"3.7.1-0").chain(tags).map(|tag| (*tag).to_owned()).collect();
        let platforms = platforms.iter().map(|it| it.parse().unwrap()).collect();
        Wish { platforms, tags, with_platform_tags }
    }

    fn piece(name: &str, size: u64) -> Piece {
        let (digest, media_type) = (Digest::of(name), name.to_owned());
        Piece { digest, size, media_type, is_foreign: false }
    }

    fn content() -> Content {
        let image = |platform: &str, pieces: Vec<Piece>| super::super::Image {
            manifest: Manifest::new("image", platform.as_bytes()),
            platform: Some(platform.to_owned()),
            os_version: None,
            pieces,
        };
        let shared = piece("shared", 900);
        Content {
            root: Manifest::new("index", &b"index"[..]),
            indexes: Vec::new(),
            images: vec![
                image(
                    "linux/amd64",
                    vec![piece("config-amd64", 4), shared.clone(), piece("own-amd64", 50)],
                ),
                image("linux/arm/v7", vec![piece("config-arm", 3), shared, piece("own-arm", 40)]),
            ],
        }
    }
}
