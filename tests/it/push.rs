//! Pushing to a registry that lies. Each case ends with everything where it should be, or with
//! one clear error and the tag as it was.

use std::fs;

use etcdimg::digest::Digest;
use etcdimg::documents::DocumentTree;
use etcdimg::push::{Overwrite, PushRequest, Pusher, TagState, plan};
use etcdimg::registry::{BlobOutcome, BlobSource, Login, Secret};
use serde_json::{Value, json};

use crate::fetch::ui;
use crate::layout_fixture::{self, LayoutFixture, SEVEN};
use crate::lies::Lie;
use crate::push_fixture::{ALWAYS, ONCE, PushFixture, behaving};
use crate::push_logins::lets_in;
use crate::wire::ReceivedRequest;

// --- an honest registry --------------------------------------------------------------------

#[tokio::test]
async fn a_first_push_sends_every_byte_once_and_the_tag_last() {
    let (fixture, report) = PushFixture::honest().arrives().await;
    assert_eq!(report.moved_bytes, fixture.layout.size());
    assert_eq!(fixture.received(), fixture.layout.size());
    let state = fixture.registry.state();
    let last = state.requests.last().unwrap();
    assert_eq!((&*last.method, &*last.target), ("PUT", "/v2/etcd/manifests/3.7.1-0"));
}

#[tokio::test]
async fn the_same_again_is_one_question() {
    let (fixture, _) = PushFixture::honest().arrives().await;
    let before = fixture.registry.state().requests.len();
    let report = fixture.push().await.unwrap();
    assert_eq!((report.requests, report.tags[0].state), (1, TagState::Same));
    assert_eq!(fixture.registry.state().requests.len() - before, 1);
}

#[tokio::test]
async fn a_new_revision_sends_only_what_is_new() {
    let (fixture, _) = PushFixture::honest().arrives().await;
    let (next, before) = (LayoutFixture::new(&SEVEN[..2], 100_000, 1), fixture.received());
    let report = fixture.push_layout(&next).await.unwrap();
    fixture.assert_there(&next);
    assert_eq!(fixture.received() - before, report.moved_bytes);
    assert!(report.moved_bytes < next.size() / 100, "{}", report.moved_bytes);
    // The estimate has a range, since it was not known what the registry has.
    assert!((report.estimate.least..report.estimate.most).contains(&report.requests), "{report:?}");
}

#[tokio::test]
async fn requests_are_as_many_as_were_estimated() {
    let mut fixture = PushFixture::honest();
    fixture.layout = LayoutFixture::new(&SEVEN, 20_000, 0);
    let (fixture, first) = fixture.arrives().await;
    // 7 images, 22 blobs. A registry that is met for the first time is tried out.
    assert!((first.estimate.least..=first.estimate.most).contains(&first.requests), "{first:?}");
    assert_eq!(first.requests, fixture.registry.state().requests.len() as u64);
    let next = LayoutFixture::new(&SEVEN, 20_000, 1);
    let before = fixture.registry.state().requests.len() as u64;
    let remote = fixture.remote();
    let (ui, opened) = (ui(), next.layout());
    let source = |digest: &Digest| BlobSource::File(opened.blob_path(digest));
    let (remote, mount_sources) = (&remote, &[][..]);
    let overwrite = Overwrite::Never;
    let pusher = Pusher { remote, mount_sources, source: &source, overwrite, ui: &ui };
    let estimated = pusher.rehearse(&next.plan()).await.unwrap();
    let between = fixture.registry.state().requests.len() as u64;
    assert_eq!(between - before, 1 + 22, "a rehearsal asks for the tag and every blob");
    let done = pusher.push(&next.plan()).await.unwrap();
    assert_eq!(estimated.estimate.least, estimated.estimate.most);
    assert_eq!(done.requests, estimated.estimate.least);
    assert_eq!(estimated.moved_bytes, done.moved_bytes);
    assert_eq!(fixture.registry.state().requests.len() as u64 - between, done.requests);
}

#[tokio::test]
async fn a_first_push_of_seven_images_takes_two_requests_for_each_blob() {
    let mut fixture = PushFixture::honest();
    fixture.push().await.unwrap();
    fixture.layout = LayoutFixture::new(&SEVEN, 21_000, 0);
    fixture.layout.tag = "3.7.1-0".to_owned();
    fixture.registry.state().tags.clear();
    let (_, report) = fixture.arrives().await;
    // The tag twice, 22 blobs with two each, 7 images, the index by its tag.
    assert_eq!(report.requests, 2 + 2 * 22 + 7 + 1);
    assert_eq!(report.estimate.most, report.requests);
}

#[tokio::test]
async fn foreign_layers_stay_where_they_are() {
    let fixture = PushFixture::honest();
    let layout = &fixture.layout;
    let mut layer = layout.add("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"ms");
    layer["urls"] = json!(["https://mcr.example/blob"]);
    let config = layout.add("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = layout.add(layout_fixture::MANIFEST, manifest.to_string().as_bytes());
    let manifest = serde_json::from_value(manifest).unwrap();
    let content = DocumentTree::read(&layout.layout(), &manifest).unwrap();
    let request = PushRequest { tags: vec!["w".into()], ..PushRequest::default() };
    let plan = plan(&content, &request).unwrap();
    assert_eq!((plan.blobs.len(), plan.foreign.len()), (1, 1));
    let (remote, ui, opened) = (fixture.remote(), ui(), layout.layout());
    let source = |digest: &Digest| BlobSource::File(opened.blob_path(digest));
    let (remote, mount_sources, overwrite) = (&remote, &[][..], Overwrite::Never);
    let pusher = Pusher { remote, mount_sources, source: &source, overwrite, ui: &ui };
    let report = pusher.push(&plan).await.unwrap();
    assert_eq!(report.blobs[1].outcome, BlobOutcome::Foreign);
    assert_eq!(fixture.registry.state().blobs.len(), 1);
}

#[tokio::test]
async fn foreign_layers_are_foreign_in_docker_types_too() {
    const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let fixture = PushFixture::honest();
    let layout = &fixture.layout;
    let oci = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let mut foreign = layout.add(oci, b"ms");
    foreign["urls"] = json!(["https://mcr.example/blob"]);
    let own = layout.add("application/vnd.oci.image.layer.v1.tar+gzip", b"own");
    let config = layout.add("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [foreign, own] });
    let manifest = layout.add(layout_fixture::MANIFEST, manifest.to_string().as_bytes());
    let manifest = serde_json::from_value(manifest).unwrap();
    let content =
        DocumentTree::read(&layout.layout(), &manifest).unwrap().in_docker_types().unwrap();
    let document: Value = serde_json::from_slice(&content.root.bytes).unwrap();
    assert_eq!(document["layers"][0]["mediaType"], FOREIGN);
    assert_eq!(document["layers"][0]["urls"], json!(["https://mcr.example/blob"]));
    assert_eq!(document["layers"][1].get("urls"), None);
    let request = PushRequest { tags: vec!["w".into()], ..PushRequest::default() };
    let plan = plan(&content, &request).unwrap();
    assert_eq!((plan.blobs.len(), &*plan.foreign[0].media_type), (2, FOREIGN));
    let (remote, ui, opened) = (fixture.remote(), ui(), layout.layout());
    let source = |digest: &Digest| BlobSource::File(opened.blob_path(digest));
    let (remote, mount_sources, overwrite) = (&remote, &[][..], Overwrite::Never);
    let pusher = Pusher { remote, mount_sources, source: &source, overwrite, ui: &ui };
    // If the plan treated it as a plain layer, the registry would report it as missing.
    let report = pusher.push(&plan).await.unwrap();
    assert_eq!(report.blobs[2].outcome, BlobOutcome::Foreign);
}

// --- what is there already -----------------------------------------------------------------

#[tokio::test]
async fn a_registry_that_does_not_tell_by_mounts_is_asked() {
    let fixture = PushFixture::new(behaving(|it| it.mounts_own = false));
    let (fixture, _) = fixture.arrives().await;
    fixture.registry.state().tags.clear();
    let before = fixture.received();
    let (fixture, report) = fixture.arrives().await;
    assert_eq!((report.moved_bytes, fixture.received()), (0, before));
}

#[tokio::test]
async fn blobs_are_mounted_from_where_they_are() {
    let mut fixture = PushFixture::honest();
    fixture.sources = vec!["older".to_owned()];
    for blob in fixture.layout.plan().blobs {
        let bytes = fs::read(fixture.layout.blob(&blob.digest)).unwrap();
        fixture.registry.state().blobs.insert(("older".to_owned(), blob.digest), bytes);
    }
    let (fixture, report) = fixture.arrives().await;
    assert_eq!((report.mounted_bytes, fixture.received()), (fixture.layout.size(), 0));
}

#[tokio::test]
async fn a_mount_that_becomes_an_upload_is_one() {
    let mut fixture = PushFixture::honest();
    fixture.sources = vec!["older".to_owned(), "oldest".to_owned()];
    let (fixture, report) = fixture.arrives().await;
    assert_eq!((report.mounted_bytes, fixture.received()), (0, fixture.layout.size()));
}

#[tokio::test]
async fn a_mount_that_is_not_allowed_is_an_upload() {
    let denied = Lie::Says(403, &[], r#"{"errors": [{"code": "DENIED"}]}"#);
    let mut fixture = PushFixture::lying("POST", "from=older", ALWAYS, denied);
    fixture.sources = vec!["older".to_owned()];
    fixture.arrives().await;
}

#[tokio::test]
async fn blobs_are_mounted_from_anywhere() {
    let fixture = PushFixture::new(behaving(|it| {
        it.mounts_from_anywhere = true;
        it.mounts_own = false;
    }));
    for blob in fixture.layout.plan().blobs {
        let bytes = fs::read(fixture.layout.blob(&blob.digest)).unwrap();
        fixture.registry.state().blobs.insert(("any".to_owned(), blob.digest), bytes);
    }
    let (fixture, report) = fixture.arrives().await;
    assert!(fixture.received() < 1000, "but for what is small enough to come along");
    assert!(report.mounted_bytes > 300_000);
}

#[tokio::test]
async fn a_mount_from_anywhere_may_be_a_bad_request() {
    let registry = behaving(|it| it.mounts_own = false);
    let bad = Lie::Says(400, &[], r#"{"errors": [{"code": "UNSUPPORTED"}]}"#);
    // Two questions for one blob: the second time it is known.
    let (fixture, _) =
        PushFixture::new(registry.lie("POST", "?mount=", ALWAYS, bad)).arrives().await;
    let asked =
        fixture.registry.state().requests.iter().filter(|it| it.target.contains("?mount=")).count();
    assert!(asked <= 9, "{asked}");
}

#[tokio::test]
async fn a_small_blob_comes_with_its_first_request() {
    let fixture = PushFixture::new(behaving(|it| {
        it.takes_single_post = true;
        it.mounts_own = false;
    }));
    let (fixture, _) = fixture.arrives().await;
    let puts = fixture.registry.counts()["PUT uploads"];
    assert_eq!(puts, 3, "only the three that are not small");
}

#[tokio::test]
async fn a_registry_that_refuses_small_blobs_gets_them_as_others() {
    let bad = Lie::Says(400, &[], r#"{"errors": [{"code": "UNSUPPORTED"}]}"#);
    PushFixture::lying("POST", "?digest=", ALWAYS, bad).arrives().await;
}

#[tokio::test]
async fn a_blob_that_is_there_with_another_size_is_not_there() {
    let blob = LayoutFixture::small().plan().blobs[1].clone();
    let fixture = PushFixture::new(behaving(|it| it.mounts_own = false));
    let key = ("etcd".to_owned(), blob.digest);
    fixture.registry.state().blobs.insert(key, b"half".to_vec());
    fixture.arrives().await;
}

#[tokio::test]
async fn a_registry_that_claims_what_it_has_not_gets_it() {
    let claims = Lie::Says(200, &[], "");
    let honest = || behaving(|it| it.mounts_own = false);
    let (_, usual) = PushFixture::new(honest()).arrives().await;
    let (_, report) =
        PushFixture::new(honest().lie("HEAD", "/blobs/", (1, 3), claims)).arrives().await;
    // Each blob takes as many requests as before, only later; what is more are manifests that the
    // registry did not accept without them.
    assert!(report.requests > usual.requests, "{} of {}", report.requests, usual.requests);
}

/// However often it claims: what it reports as missing is sent without asking.
#[tokio::test]
async fn a_registry_that_goes_on_claiming_what_it_has_not_gets_it() {
    let registry = behaving(|it| it.mounts_own = false);
    let claims = Lie::Says(200, &[], "");
    PushFixture::new(registry.lie("HEAD", "/blobs/", (1, usize::MAX), claims)).arrives().await;
}

#[tokio::test]
async fn a_mount_that_did_not_happen_is_noticed_and_uploaded() {
    // The first mount is the one by which the registry shows how it behaves.
    PushFixture::lying("POST", "?mount=", (1, 2), Lie::Says(201, &[], "")).arrives().await;
}

// --- locations ----------------------------------------------------------------------------

#[tokio::test]
async fn relative_locations_keep_their_query() {
    let (fixture, _) =
        PushFixture::new(behaving(|it| it.relative_locations = true)).arrives().await;
    let state = fixture.registry.state();
    let is_upload = |it: &&ReceivedRequest| it.method == "PUT" && it.target.contains("uploads");
    let puts: Vec<_> = state.requests.iter().filter(is_upload).collect();
    assert!(!puts.is_empty());
    assert!(puts.iter().all(|it| it.target.contains("?_state=kept%2Fas-it-is&digest=sha256%3A")));
}

#[tokio::test]
async fn an_upload_without_a_location_is_an_error() {
    let lie = Lie::DoesButHeader("location", None);
    let fixture = PushFixture::lying("POST", "uploads", ALWAYS, lie);
    insta::assert_snapshot!(fixture.fails().await, @"cannot push the blob … to registry/etcd: unexpected response from the registry: 202 Accepted without a usable Location");
}

#[tokio::test]
async fn a_location_of_another_kind_is_an_error() {
    let lie = Lie::DoesButHeader("location", Some("file:///etc/passwd".to_owned()));
    let fixture = PushFixture::lying("POST", "uploads", ALWAYS, lie);
    assert!(fixture.fails().await.ends_with("202 Accepted without a usable Location"));
}

#[tokio::test]
async fn an_upload_to_another_host_goes_without_the_login() {
    let mut fixture =
        PushFixture::new(behaving(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    fixture.credentials = Login::password("me", &Secret::new("secret"));
    let elsewhere = fixture.registry.host().replace("127.0.0.1", "localhost");
    // The first upload of all has the number 1.
    let location = format!("http://{elsewhere}/v2/etcd/blobs/uploads/1?sig=x");
    let lie = Lie::DoesButHeader("location", Some(location));
    let (fixture, _) = fixture.and("POST", "uploads", ONCE, lie).arrives().await;
    let state = fixture.registry.state();
    let is_elsewhere = |host: Option<&str>| host.is_some_and(|it| it.starts_with("localhost"));
    let sent: Vec<_> = state.requests.iter().filter(|it| is_elsewhere(it.header("host"))).collect();
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn redirects_are_followed_with_the_body() {
    let fixture = PushFixture::honest();
    let to = format!("http://{}/v2/etcd/blobs/uploads/1?x", fixture.registry.host());
    // Only the first upload is sent around.
    let lie = Lie::Redirects(307, to.clone() + &digest_query(&fixture.layout));
    fixture.and("PUT", "uploads/1?_state", ONCE, lie).arrives().await;
}

fn digest_query(layout: &LayoutFixture) -> String {
    format!("&digest={}", layout.plan().blobs[0].digest)
}

#[tokio::test]
async fn a_redirect_in_circles_is_an_error() {
    let lie = Lie::Redirects(307, "/v2/etcd/manifests/3.7.1-0".to_owned());
    let fixture = PushFixture::lying("HEAD", "manifests", ALWAYS, lie);
    insta::assert_snapshot!(fixture.fails().await, @"cannot ask registry/etcd what 3.7.1-0 names: 307 Temporary Redirect");
}

// --- digests ------------------------------------------------------------------------------

fn wrong_digest() -> Lie {
    Lie::DoesButHeader("docker-content-digest", Some(Digest::of("other").to_string()))
}

#[tokio::test]
async fn a_wrong_digest_after_an_upload_is_an_error() {
    let fixture = PushFixture::lying("PUT", "uploads", ALWAYS, wrong_digest());
    insta::assert_snapshot!(fixture.fails().await, @r"
    cannot push the blob … to registry/etcd: the registry returned a different digest
      expected sha256:…
      received sha256:…
    ");
}

#[tokio::test]
async fn a_wrong_digest_after_a_manifest_is_an_error() {
    let fixture = PushFixture::lying("PUT", "manifests/sha256", ALWAYS, wrong_digest());
    assert!(fixture.fails().await.contains("the registry returned a different digest"));
}

#[tokio::test]
async fn a_wrong_digest_after_a_mount_is_an_error() {
    let mut fixture = PushFixture::lying("POST", "from=older", ALWAYS, wrong_digest());
    fixture.sources = vec!["older".to_owned()];
    for blob in fixture.layout.plan().blobs {
        fixture.registry.state().blobs.insert(("older".to_owned(), blob.digest), Vec::new());
    }
    assert!(fixture.fails().await.contains("the registry returned a different digest"));
}

#[tokio::test]
async fn a_registry_that_says_no_digests_is_believed_by_its_bytes() {
    let (fixture, _) = PushFixture::new(behaving(|it| it.says_digests = false)).arrives().await;
    let report = fixture.push().await.unwrap();
    assert_eq!((report.requests, report.tags[0].state), (2, TagState::Same));
}

#[tokio::test]
async fn bytes_that_got_mixed_up_on_the_way_are_sent_again() {
    let mixed = Lie::Says(400, &[], r#"{"errors": [{"code": "DIGEST_INVALID"}]}"#);
    PushFixture::lying("PUT", "uploads", (2, 1), mixed).arrives().await;
}

#[tokio::test]
async fn our_own_broken_file_is_named() {
    let fixture = PushFixture::honest();
    let blob = fixture.layout.plan().blobs[1].clone();
    let mut bytes = fs::read(fixture.layout.blob(&blob.digest)).unwrap();
    bytes[0] ^= 1;
    fs::write(fixture.layout.blob(&blob.digest), bytes).unwrap();
    let folder = fixture.layout.path().display().to_string();
    insta::assert_snapshot!(fixture.fails().await.replace(&folder, "LAYOUT"), @r"
    cannot push the blob … to registry/etcd: `LAYOUT/blobs/sha256/…` does not match its digest
      expected sha256:…
      received sha256:…
    ");
}
