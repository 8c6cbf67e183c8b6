//! Which blobs, documents and tags a plan has, in which order, and its requests.

use super::super::{BlobLocation, RequestEstimate};
use super::*;
use crate::registry::{Capabilities, Support};

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
    let mut tree = tree();
    tree.images.truncate(1);
    let plan = plan(&tree, &request(&["linux/amd64"], &["latest"], false)).unwrap();
    assert_eq!(plan.root, None);
    let tags: Vec<_> = plan.tags.iter().map(|tag| &*tag.tag).collect();
    assert_eq!(tags, ["3.7.1-0-linux-amd64"]);
}

#[test]
fn requests_are_counted_before_they_are_made() {
    let plan = plan(&tree(), &request(&[], &[], false)).unwrap();
    let supporting =
        |support| Capabilities { mount_checks_existence: Some(support), ..Capabilities::default() };
    let requests = |state: &RemoteState, capabilities: &Capabilities| {
        let RequestEstimate { least, most } = plan.estimate(state, capabilities, 0);
        (least, most)
    };
    let found = |found| plan.blobs.iter().map(|blob| (blob.digest, found)).collect();
    let tagged = |digest| [("3.7.1-0".to_owned(), digest)].into();
    let state = |blobs| RemoteState { tags: tagged(None), blobs };
    // One look at the tag, two for each blob, one for each manifest; the tag, looked at again.
    let nowhere = state(found(BlobLocation::Nowhere));
    assert_eq!(
        requests(&nowhere, &supporting(Support::Yes)),
        (1 + 5 * 2 + 2 + 2, 1 + 5 * 2 + 2 + 2)
    );
    assert_eq!(
        requests(&nowhere, &supporting(Support::No)),
        (1 + 5 * 3 + 2 + 2, 1 + 5 * 3 + 2 + 2)
    );
    assert_eq!(requests(&nowhere, &Capabilities::default()), (16, 23));
    let here = state(found(BlobLocation::Here));
    assert_eq!(requests(&here, &supporting(Support::Yes)), (1 + 5 + 2 + 2, 1 + 5 + 2 + 2));
    let elsewhere = state(found(BlobLocation::MountSource(1)));
    assert_eq!(requests(&elsewhere, &supporting(Support::Yes)).1, 1 + 5 * 3 + 2 + 2);
    // Of the blobs that were not checked, all may exist, or none.
    let unasked = state(BTreeMap::new());
    assert_eq!(requests(&unasked, &supporting(Support::Yes)), (1 + 5 + 2 + 2, 1 + 5 * 2 + 2 + 2));
    let root = plan.root.as_ref().unwrap().digest;
    let same = RemoteState { tags: tagged(Some(root)), ..RemoteState::default() };
    assert_eq!(requests(&same, &supporting(Support::Yes)), (1, 1));
}

#[test]
fn what_refers_to_the_root_comes_after_it_and_before_the_tags() {
    let signature = |name: &str| {
        let root = RawDocument::new("signature", name.as_bytes());
        let image = image(&root, None, vec![blob("empty", 2), blob(name, 9)]);
        DocumentTree::of_images(root, vec![image])
    };
    let plan = plan(&tree(), &request(&[], &[], false)).unwrap();
    assert_eq!(plan.root_before_tags(), None);
    let bare = plan.estimate(&RemoteState::default(), &Capabilities::default(), 0);
    let plan = plan.with_referrers(&[signature("one"), signature("two")]).unwrap();
    assert_eq!(plan.root_before_tags(), plan.root.as_ref());
    let blobs = |it: &ReferrerPlan| it.parts.blobs.len();
    assert_eq!(plan.referrers.iter().map(blobs).collect::<Vec<_>>(), [2, 1]);
    let signed = plan.estimate(&RemoteState::default(), &Capabilities::default(), 0);
    // The root by its digest, three blobs, two manifests; at worst two lists by tags.
    assert_eq!(signed.least - bare.least, 1 + 3 + 2);
    assert_eq!(signed.most - bare.most, 1 + 3 * 3 + 2 + 2 * 2);
}

#[track_caller]
fn check(platforms: &[&str], tags: &[&str], with_platform_tags: bool, expected: &str) {
    let tree = tree();
    let plan = plan(&tree, &request(platforms, tags, with_platform_tags)).unwrap();
    let mut lines = Vec::new();
    for blob in &plan.blobs {
        lines.push(format!("blob {} {}", blob.media_type, blob.size));
    }
    for manifest in &plan.manifests {
        let image = tree.images.iter().find(|it| it.manifest == *manifest).unwrap();
        lines.push(format!("manifest {}", image.name()));
    }
    for tag in &plan.tags {
        let kind = if tag.manifest == tree.root { "index" } else { "image" };
        lines.push(format!("{kind} {}", tag.tag));
    }
    let expected: Vec<_> = expected.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    assert_eq!(lines, expected);
}

fn request(platforms: &[&str], tags: &[&str], with_platform_tags: bool) -> PushRequest {
    let tags = std::iter::once(&"3.7.1-0").chain(tags).map(|tag| (*tag).to_owned()).collect();
    let platforms = platforms.iter().map(|it| it.parse().unwrap()).collect();
    PushRequest { platforms, tags, with_platform_tags }
}

fn blob(name: &str, size: u64) -> BlobDescriptor {
    let (digest, media_type) = (Digest::of(name), name.to_owned());
    BlobDescriptor { digest, size, media_type, urls: Vec::new() }
}

fn image(
    manifest: &RawDocument,
    platform: Option<&str>,
    blobs: Vec<BlobDescriptor>,
) -> ListedImage {
    let platform = platform.map(ToOwned::to_owned);
    ListedImage { manifest: manifest.clone(), platform, os_version: None, blobs, base: None }
}

fn tree() -> DocumentTree {
    let image = |platform: &str, blobs: Vec<BlobDescriptor>| {
        image(&RawDocument::new("image", platform.as_bytes()), Some(platform), blobs)
    };
    let shared = blob("shared", 900);
    let amd64 = vec![blob("config-amd64", 4), shared.clone(), blob("own-amd64", 50)];
    let arm = vec![blob("config-arm", 3), shared, blob("own-arm", 40)];
    let images = vec![image("linux/amd64", amd64), image("linux/arm/v7", arm)];
    DocumentTree::of_images(RawDocument::new("index", &b"index"[..]), images)
}
