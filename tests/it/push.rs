//! Pushing to a registry that lies. Each case ends with everything where it should be, or with
//! one clear error and the tag as it was.

use std::fs;

use etcdimg::digest::Digest;
use etcdimg::documents::DocumentTree;
use etcdimg::push::{Overwrite, PushRequest, Pusher, TagState, plan};
use etcdimg::registry::{BlobOutcome, BlobSource, Login, Secret};
use serde_json::{Value, json};

use crate::fetch::ui;
use crate::lies::Lie;
use crate::parcel::{self, Parcel, SEVEN};
use crate::push_bench::{ALWAYS, Bench, ONCE, habits};
use crate::push_logins::lets_in;

// --- when nobody lies ----------------------------------------------------------------------

#[tokio::test]
async fn a_first_push_sends_every_byte_once_and_the_tag_last() {
    let (bench, report) = Bench::honest().arrives().await;
    assert_eq!(report.moved_bytes, bench.parcel.size());
    assert_eq!(bench.received(), bench.parcel.size());
    let state = bench.registry.state();
    let last = state.requests.last().unwrap();
    assert_eq!((&*last.method, &*last.target), ("PUT", "/v2/etcd/manifests/3.7.1-0"));
}

#[tokio::test]
async fn the_same_again_is_one_question() {
    let (bench, _) = Bench::honest().arrives().await;
    let before = bench.registry.state().requests.len();
    let report = bench.push().await.unwrap();
    assert_eq!((report.requests, report.tags[0].state), (1, TagState::Same));
    assert_eq!(bench.registry.state().requests.len() - before, 1);
}

#[tokio::test]
async fn a_new_revision_sends_only_what_is_new() {
    let (bench, _) = Bench::honest().arrives().await;
    let (next, before) = (Parcel::new(&SEVEN[..2], 100_000, 1), bench.received());
    let report = bench.push_parcel(&next).await.unwrap();
    bench.assert_there(&next);
    assert_eq!(bench.received() - before, report.moved_bytes);
    assert!(report.moved_bytes < next.size() / 100, "{}", report.moved_bytes);
    // What is there and what is not, nobody knew.
    assert!((report.estimate.least..report.estimate.most).contains(&report.requests), "{report:?}");
}

#[tokio::test]
async fn requests_are_as_many_as_were_foretold() {
    let mut bench = Bench::honest();
    bench.parcel = Parcel::new(&SEVEN, 20_000, 0);
    let (bench, first) = bench.arrives().await;
    // 7 images, 22 blobs. A registry that is met for the first time is tried out.
    assert!((first.estimate.least..=first.estimate.most).contains(&first.requests), "{first:?}");
    assert_eq!(first.requests, bench.registry.state().requests.len() as u64);
    let next = Parcel::new(&SEVEN, 20_000, 1);
    let before = bench.registry.state().requests.len() as u64;
    let remote = bench.remote();
    let (ui, layout) = (ui(), next.layout());
    let source = |digest: &Digest| BlobSource::File(layout.blob_path(digest));
    let (remote, mount_sources) = (&remote, &[][..]);
    let overwrite = Overwrite::Never;
    let pusher = Pusher { remote, mount_sources, source: &source, overwrite, ui: &ui };
    let foretold = pusher.rehearse(&next.plan()).await.unwrap();
    let between = bench.registry.state().requests.len() as u64;
    assert_eq!(between - before, 1 + 22, "a rehearsal asks for the tag and every blob");
    let done = pusher.push(&next.plan()).await.unwrap();
    assert_eq!(foretold.estimate.least, foretold.estimate.most);
    assert_eq!(done.requests, foretold.estimate.least);
    assert_eq!(foretold.moved_bytes, done.moved_bytes);
    assert_eq!(bench.registry.state().requests.len() as u64 - between, done.requests);
}

#[tokio::test]
async fn a_first_push_of_seven_images_takes_two_requests_for_each_blob() {
    let mut bench = Bench::honest();
    bench.push().await.unwrap();
    bench.parcel = Parcel::new(&SEVEN, 21_000, 0);
    bench.parcel.tag = "3.7.1-0".to_owned();
    bench.registry.state().tags.clear();
    let (_, report) = bench.arrives().await;
    // The tag twice, 22 blobs with two each, 7 images, the index by its tag.
    assert_eq!(report.requests, 2 + 2 * 22 + 7 + 1);
    assert_eq!(report.estimate.most, report.requests);
}

#[tokio::test]
async fn foreign_layers_stay_where_they_are() {
    let bench = Bench::honest();
    let parcel = &bench.parcel;
    let mut layer = parcel.add("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"ms");
    layer["urls"] = json!(["https://mcr.example/blob"]);
    let config = parcel.add("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = parcel.add(parcel::MANIFEST, manifest.to_string().as_bytes());
    let manifest = serde_json::from_value(manifest).unwrap();
    let content = DocumentTree::read(&parcel.layout(), &manifest).unwrap();
    let request = PushRequest { tags: vec!["w".into()], ..PushRequest::default() };
    let plan = plan(&content, &request).unwrap();
    assert_eq!((plan.blobs.len(), plan.foreign.len()), (1, 1));
    let (remote, ui, layout) = (bench.remote(), ui(), parcel.layout());
    let source = |digest: &Digest| BlobSource::File(layout.blob_path(digest));
    let (remote, mount_sources, overwrite) = (&remote, &[][..], Overwrite::Never);
    let pusher = Pusher { remote, mount_sources, source: &source, overwrite, ui: &ui };
    let report = pusher.push(&plan).await.unwrap();
    assert_eq!(report.blobs[1].outcome, BlobOutcome::Foreign);
    assert_eq!(bench.registry.state().blobs.len(), 1);
}

#[tokio::test]
async fn foreign_layers_are_foreign_in_docker_types_too() {
    const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let bench = Bench::honest();
    let parcel = &bench.parcel;
    let oci = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let mut foreign = parcel.add(oci, b"ms");
    foreign["urls"] = json!(["https://mcr.example/blob"]);
    let own = parcel.add("application/vnd.oci.image.layer.v1.tar+gzip", b"own");
    let config = parcel.add("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [foreign, own] });
    let manifest = parcel.add(parcel::MANIFEST, manifest.to_string().as_bytes());
    let manifest = serde_json::from_value(manifest).unwrap();
    let content =
        DocumentTree::read(&parcel.layout(), &manifest).unwrap().in_docker_types().unwrap();
    let document: Value = serde_json::from_slice(&content.root.bytes).unwrap();
    assert_eq!(document["layers"][0]["mediaType"], FOREIGN);
    assert_eq!(document["layers"][0]["urls"], json!(["https://mcr.example/blob"]));
    assert_eq!(document["layers"][1].get("urls"), None);
    let request = PushRequest { tags: vec!["w".into()], ..PushRequest::default() };
    let plan = plan(&content, &request).unwrap();
    assert_eq!((plan.blobs.len(), &*plan.foreign[0].media_type), (2, FOREIGN));
    let (remote, ui, layout) = (bench.remote(), ui(), parcel.layout());
    let source = |digest: &Digest| BlobSource::File(layout.blob_path(digest));
    let (remote, mount_sources, overwrite) = (&remote, &[][..], Overwrite::Never);
    let pusher = Pusher { remote, mount_sources, source: &source, overwrite, ui: &ui };
    // The registry would miss a plain layer that nobody gave it.
    let report = pusher.push(&plan).await.unwrap();
    assert_eq!(report.blobs[2].outcome, BlobOutcome::Foreign);
}

// --- what is there already -----------------------------------------------------------------

#[tokio::test]
async fn a_registry_that_does_not_tell_by_mounts_is_asked() {
    let bench = Bench::new(habits(|it| it.mounts_own = false));
    let (bench, _) = bench.arrives().await;
    bench.registry.state().tags.clear();
    let before = bench.received();
    let (bench, report) = bench.arrives().await;
    assert_eq!((report.moved_bytes, bench.received()), (0, before));
}

#[tokio::test]
async fn blobs_are_mounted_from_where_they_are() {
    let mut bench = Bench::honest();
    bench.sources = vec!["older".to_owned()];
    for piece in bench.parcel.plan().blobs {
        let bytes = fs::read(bench.parcel.blob(&piece.digest)).unwrap();
        bench.registry.state().blobs.insert(("older".to_owned(), piece.digest), bytes);
    }
    let (bench, report) = bench.arrives().await;
    assert_eq!((report.mounted_bytes, bench.received()), (bench.parcel.size(), 0));
}

#[tokio::test]
async fn a_mount_that_becomes_an_upload_is_one() {
    let mut bench = Bench::honest();
    bench.sources = vec!["older".to_owned(), "oldest".to_owned()];
    let (bench, report) = bench.arrives().await;
    assert_eq!((report.mounted_bytes, bench.received()), (0, bench.parcel.size()));
}

#[tokio::test]
async fn a_mount_that_is_not_allowed_is_an_upload() {
    let denied = Lie::Says(403, &[], r#"{"errors": [{"code": "DENIED"}]}"#);
    let mut bench = Bench::lying("POST", "from=older", ALWAYS, denied);
    bench.sources = vec!["older".to_owned()];
    bench.arrives().await;
}

#[tokio::test]
async fn blobs_are_mounted_from_anywhere() {
    let bench = Bench::new(habits(|it| {
        it.mounts_from_anywhere = true;
        it.mounts_own = false;
    }));
    for piece in bench.parcel.plan().blobs {
        let bytes = fs::read(bench.parcel.blob(&piece.digest)).unwrap();
        bench.registry.state().blobs.insert(("any".to_owned(), piece.digest), bytes);
    }
    let (bench, report) = bench.arrives().await;
    assert!(bench.received() < 1000, "but for what is small enough to come along");
    assert!(report.mounted_bytes > 300_000);
}

#[tokio::test]
async fn a_mount_from_anywhere_may_be_a_bad_request() {
    let registry = habits(|it| it.mounts_own = false);
    let bad = Lie::Says(400, &[], r#"{"errors": [{"code": "UNSUPPORTED"}]}"#);
    // Two questions for one blob: the second time it is known.
    let (bench, _) = Bench::new(registry.lie("POST", "?mount=", ALWAYS, bad)).arrives().await;
    let asked =
        bench.registry.state().requests.iter().filter(|it| it.target.contains("?mount=")).count();
    assert!(asked <= 9, "{asked}");
}

#[tokio::test]
async fn a_small_blob_comes_with_its_first_request() {
    let bench = Bench::new(habits(|it| {
        it.takes_single_post = true;
        it.mounts_own = false;
    }));
    let (bench, _) = bench.arrives().await;
    let puts = bench.registry.counts()["PUT uploads"];
    assert_eq!(puts, 3, "only the three that are not small");
}

#[tokio::test]
async fn a_registry_that_refuses_small_blobs_gets_them_as_others() {
    let bad = Lie::Says(400, &[], r#"{"errors": [{"code": "UNSUPPORTED"}]}"#);
    Bench::lying("POST", "?digest=", ALWAYS, bad).arrives().await;
}

#[tokio::test]
async fn a_blob_that_is_there_with_another_size_is_not_there() {
    let piece = Parcel::small().plan().blobs[1].clone();
    let bench = Bench::new(habits(|it| it.mounts_own = false));
    let key = ("etcd".to_owned(), piece.digest);
    bench.registry.state().blobs.insert(key, b"half".to_vec());
    bench.arrives().await;
}

#[tokio::test]
async fn a_registry_that_claims_what_it_has_not_gets_it() {
    let claims = Lie::Says(200, &[], "");
    let honest = || habits(|it| it.mounts_own = false);
    let (_, usual) = Bench::new(honest()).arrives().await;
    let (_, report) = Bench::new(honest().lie("HEAD", "/blobs/", (1, 3), claims)).arrives().await;
    // Each blob takes as many requests as before, only later; what is more are manifests that the
    // registry did not accept without them.
    assert!(report.requests > usual.requests, "{} of {}", report.requests, usual.requests);
}

#[tokio::test]
async fn a_mount_that_did_not_happen_is_noticed_and_mended() {
    // The first mount is the one by which the registry shows how it behaves.
    Bench::lying("POST", "?mount=", (1, 2), Lie::Says(201, &[], "")).arrives().await;
}

// --- locations ----------------------------------------------------------------------------

#[tokio::test]
async fn relative_locations_keep_their_query() {
    let (bench, _) = Bench::new(habits(|it| it.relative_locations = true)).arrives().await;
    let state = bench.registry.state();
    let mut puts =
        state.requests.iter().filter(|it| it.method == "PUT" && it.target.contains("uploads"));
    assert!(puts.all(|it| it.target.contains("?_state=kept%2Fas-it-is&digest=sha256%3A")));
}

#[tokio::test]
async fn an_upload_without_a_location_is_an_error() {
    let lie = Lie::DoesButHeader("location", None);
    let bench = Bench::lying("POST", "uploads", ALWAYS, lie);
    insta::assert_snapshot!(bench.fails().await, @"cannot push the blob … to registry/etcd: unexpected response from the registry: 202 Accepted without a usable Location");
}

#[tokio::test]
async fn a_location_of_another_kind_is_an_error() {
    let lie = Lie::DoesButHeader("location", Some("file:///etc/passwd".to_owned()));
    let bench = Bench::lying("POST", "uploads", ALWAYS, lie);
    assert!(bench.fails().await.ends_with("202 Accepted without a usable Location"));
}

#[tokio::test]
async fn an_upload_to_another_host_goes_without_the_login() {
    let mut bench = Bench::new(habits(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    bench.credentials = Login::password("me", &Secret::new("secret"));
    let elsewhere = bench.registry.host().replace("127.0.0.1", "localhost");
    // The first upload of all has the number 1.
    let location = format!("http://{elsewhere}/v2/etcd/blobs/uploads/1?sig=x");
    let lie = Lie::DoesButHeader("location", Some(location));
    let (bench, _) = bench.and("POST", "uploads", ONCE, lie).arrives().await;
    let state = bench.registry.state();
    let is_elsewhere = |host: Option<&str>| host.is_some_and(|it| it.starts_with("localhost"));
    let sent: Vec<_> = state.requests.iter().filter(|it| is_elsewhere(it.header("host"))).collect();
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn redirects_are_followed_with_the_body() {
    let bench = Bench::honest();
    let to = format!("http://{}/v2/etcd/blobs/uploads/1?x", bench.registry.host());
    // Only the first upload is sent around.
    let lie = Lie::Redirects(307, to.clone() + &digest_query(&bench.parcel));
    bench.and("PUT", "uploads/1?_state", ONCE, lie).arrives().await;
}

fn digest_query(parcel: &Parcel) -> String {
    format!("&digest={}", parcel.plan().blobs[0].digest)
}

#[tokio::test]
async fn a_redirect_in_circles_is_an_error() {
    let lie = Lie::Redirects(307, "/v2/etcd/manifests/3.7.1-0".to_owned());
    let bench = Bench::lying("HEAD", "manifests", ALWAYS, lie);
    insta::assert_snapshot!(bench.fails().await, @"cannot ask registry/etcd what 3.7.1-0 names: 307 Temporary Redirect");
}

// --- digests ------------------------------------------------------------------------------

fn wrong_digest() -> Lie {
    Lie::DoesButHeader("docker-content-digest", Some(Digest::of("other").to_string()))
}

#[tokio::test]
async fn a_wrong_digest_after_an_upload_is_an_error() {
    let bench = Bench::lying("PUT", "uploads", ALWAYS, wrong_digest());
    insta::assert_snapshot!(bench.fails().await, @r"
    cannot push the blob … to registry/etcd: the registry returned a different digest
      expected sha256:…
      received sha256:…
    ");
}

#[tokio::test]
async fn a_wrong_digest_after_a_manifest_is_an_error() {
    let bench = Bench::lying("PUT", "manifests/sha256", ALWAYS, wrong_digest());
    assert!(bench.fails().await.contains("the registry returned a different digest"));
}

#[tokio::test]
async fn a_wrong_digest_after_a_mount_is_an_error() {
    let mut bench = Bench::lying("POST", "from=older", ALWAYS, wrong_digest());
    bench.sources = vec!["older".to_owned()];
    for piece in bench.parcel.plan().blobs {
        bench.registry.state().blobs.insert(("older".to_owned(), piece.digest), Vec::new());
    }
    assert!(bench.fails().await.contains("the registry returned a different digest"));
}

#[tokio::test]
async fn a_registry_that_says_no_digests_is_believed_by_its_bytes() {
    let (bench, _) = Bench::new(habits(|it| it.says_digests = false)).arrives().await;
    let report = bench.push().await.unwrap();
    assert_eq!((report.requests, report.tags[0].state), (2, TagState::Same));
}

#[tokio::test]
async fn bytes_that_got_mixed_up_on_the_way_are_sent_again() {
    let mixed = Lie::Says(400, &[], r#"{"errors": [{"code": "DIGEST_INVALID"}]}"#);
    Bench::lying("PUT", "uploads", (2, 1), mixed).arrives().await;
}

#[tokio::test]
async fn our_own_broken_file_is_named() {
    let bench = Bench::honest();
    let piece = bench.parcel.plan().blobs[1].clone();
    let mut bytes = fs::read(bench.parcel.blob(&piece.digest)).unwrap();
    bytes[0] ^= 1;
    fs::write(bench.parcel.blob(&piece.digest), bytes).unwrap();
    let folder = bench.parcel.path().display().to_string();
    insta::assert_snapshot!(bench.fails().await.replace(&folder, "LAYOUT"), @r"
    cannot push the blob … to registry/etcd: `LAYOUT/blobs/sha256/…` does not match its digest
      expected sha256:…
      received sha256:…
    ");
}
