//! Pushing to a registry that lies. Each case ends with everything where it should be, or with
//! one clear error and the tag as it was.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use etcdimg::digest::Digest;
use etcdimg::fetch::Options;
use etcdimg::http::Trust;
use etcdimg::push::{Content, Overwrite, PushError, Pusher, Report, TagState, Way, Wish, plan};
use etcdimg::registry::{Credentials, Host, HostOptions, Login, Remote, Repository, Secret};
use serde_json::json;
use tempfile::TempDir;

use crate::fetch::ui;
use crate::lying_registry::{Habits, LetsIn, Lie, LyingRegistry, State};
use crate::parcel::{self, Parcel, SEVEN};
use crate::shop::without_digests;

const ONCE: (usize, usize) = (0, 1);
const ALWAYS: (usize, usize) = (0, usize::MAX);

/// One registry, one parcel, and a cache.
struct Bench {
    registry: LyingRegistry,
    parcel: Parcel,
    cache: TempDir,
    sources: Vec<String>,
    overwrite: Overwrite,
    credentials: Option<Login>,
    piece_bytes: u64,
}

impl Bench {
    fn new(registry: LyingRegistry) -> Self {
        Self {
            registry,
            parcel: Parcel::small(),
            cache: tempfile::tempdir().unwrap(),
            sources: Vec::new(),
            overwrite: Overwrite::Never,
            credentials: None,
            piece_bytes: etcdimg::registry::PIECE,
        }
    }

    fn honest() -> Self {
        Self::new(LyingRegistry::start(Habits::default()))
    }

    fn lying(method: &'static str, part: &str, turns: (usize, usize), lie: Lie) -> Self {
        Self::new(LyingRegistry::start(Habits::default()).lie(method, part, turns, lie))
    }

    fn and(mut self, method: &'static str, part: &str, turns: (usize, usize), lie: Lie) -> Self {
        self.registry = self.registry.lie(method, part, turns, lie);
        self
    }

    fn repository(&self) -> Repository {
        format!("{}/etcd", self.registry.host()).parse().unwrap()
    }

    /// As a process of its own would see the registry.
    fn remote(&self) -> Remote {
        let repository = self.repository();
        let mut credentials = Credentials::default();
        if let Some(login) = &self.credentials {
            credentials.give(repository.registry(), login.clone());
        }
        let fetch = Options {
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_millis(400),
            backoff: Duration::from_millis(4),
            longest_wait: Duration::from_millis(400),
            ..Options::default()
        };
        let options = HostOptions {
            fetch,
            trust: Trust::default(),
            credentials: Arc::new(credentials),
            folder: self.cache.path().to_owned(),
            piece_bytes: self.piece_bytes,
            ui: ui(),
        };
        let host = Host::new(repository.registry(), options);
        Remote::pushing(host, repository, &self.sources)
    }

    async fn push(&self) -> Result<Report, PushError> {
        self.push_parcel(&self.parcel).await
    }

    async fn push_parcel(&self, parcel: &Parcel) -> Result<Report, PushError> {
        let (remote, ui, layout) = (self.remote(), ui(), parcel.layout());
        let _lock = remote.host().lock(remote.repository()).await.unwrap();
        let pusher = Pusher {
            remote: &remote,
            sources: &self.sources,
            path: &|digest| layout.blob_path(digest),
            bring: None,
            overwrite: self.overwrite,
            ui: &ui,
        };
        pusher.push(&parcel.plan()).await
    }

    /// The push goes well, and everything is where it should be.
    async fn arrives(self) -> (Self, Report) {
        let report = self.push().await.unwrap_or_else(|error| panic!("{error}"));
        self.assert_there(&self.parcel);
        (self, report)
    }

    fn assert_there(&self, parcel: &Parcel) {
        let (plan, state) = (parcel.plan(), self.registry.state());
        let key = |digest| ("etcd".to_owned(), digest);
        for piece in &plan.blobs {
            let there = state.blobs.get(&key(piece.digest));
            assert_eq!(there.map(Digest::of), Some(piece.digest));
        }
        for manifest in plan.manifests.iter().chain(&plan.root) {
            let (media_type, bytes) = &state.manifests[&key(manifest.digest)];
            assert_eq!(**bytes, *manifest.bytes);
            assert_eq!(*media_type, manifest.media_type);
        }
        let tag = state.tags.get(&("etcd".to_owned(), parcel.tag.clone()));
        assert_eq!(tag, Some(&parcel.index));
        assert_eq!(state.violations, Vec::<String>::new());
    }

    /// The push fails with this, and no tag is there that was not.
    async fn fails(self) -> String {
        let tags = self.registry.state().tags.clone();
        let error = self.push().await.expect_err("it should fail");
        assert_eq!(self.registry.state().tags, tags);
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text = format!("{text}\n  because: {error}");
            source = error.source();
        }
        without_digests(&text.replace(&self.registry.host(), "registry"))
    }

    fn received(&self) -> u64 {
        self.registry.state().received
    }
}

fn habits(change: impl FnOnce(&mut Habits)) -> LyingRegistry {
    let mut habits = Habits::default();
    change(&mut habits);
    LyingRegistry::start(habits)
}

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
}

#[tokio::test]
async fn requests_are_as_many_as_were_foretold() {
    let mut bench = Bench::honest();
    bench.parcel = Parcel::new(&SEVEN, 20_000, 0);
    let (bench, first) = bench.arrives().await;
    // 7 images, 22 blobs. A registry that is met for the first time is tried out.
    assert!((first.forecast.least..=first.forecast.most).contains(&first.requests), "{first:?}");
    assert_eq!(first.requests, bench.registry.state().requests.len() as u64);
    let next = Parcel::new(&SEVEN, 20_000, 1);
    let before = bench.registry.state().requests.len() as u64;
    let remote = bench.remote();
    let (ui, layout) = (ui(), next.layout());
    let path = |digest: &Digest| layout.blob_path(digest);
    let (remote, sources) = (&remote, &[][..]);
    let overwrite = Overwrite::Never;
    let pusher = Pusher { remote, sources, path: &path, bring: None, overwrite, ui: &ui };
    let foretold = pusher.rehearse(&next.plan()).await.unwrap();
    let between = bench.registry.state().requests.len() as u64;
    assert_eq!(between - before, 1 + 22, "a rehearsal asks for the tag and every blob");
    let done = pusher.push(&next.plan()).await.unwrap();
    assert_eq!(foretold.forecast.least, foretold.forecast.most);
    assert_eq!(done.requests, foretold.forecast.least);
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
    assert_eq!((report.forecast.least, report.forecast.most), (report.requests, report.requests));
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
    let content = Content::read(&parcel.layout(), &manifest).unwrap();
    let plan = plan(&content, &Wish { tags: vec!["w".into()], ..Wish::default() }).unwrap();
    assert_eq!((plan.blobs.len(), plan.foreign.len()), (1, 1));
    let (remote, ui, layout) = (bench.remote(), ui(), parcel.layout());
    let path = |digest: &Digest| layout.blob_path(digest);
    let (remote, sources, overwrite) = (&remote, &[][..], Overwrite::Never);
    let pusher = Pusher { remote, sources, path: &path, bring: None, overwrite, ui: &ui };
    let report = pusher.push(&plan).await.unwrap();
    assert_eq!(report.blobs[1].way, Way::Foreign);
    assert_eq!(bench.registry.state().blobs.len(), 1);
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
    let registry = habits(|it| it.mounts_own = false).lie("HEAD", "/blobs/", (1, 3), claims);
    let (_, report) = Bench::new(registry).arrives().await;
    assert!(report.requests > 20);
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
    insta::assert_snapshot!(bench.fails().await, @"cannot push the blob … to registry/etcd: the registry's answer makes no sense: 202 Accepted without a usable Location");
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
    cannot push the blob … to registry/etcd: the registry speaks of other bytes
      expected sha256:…
      received sha256:…
    ");
}

#[tokio::test]
async fn a_wrong_digest_after_a_manifest_is_an_error() {
    let bench = Bench::lying("PUT", "manifests/sha256", ALWAYS, wrong_digest());
    assert!(bench.fails().await.contains("the registry speaks of other bytes"));
}

#[tokio::test]
async fn a_wrong_digest_after_a_mount_is_an_error() {
    let mut bench = Bench::lying("POST", "from=older", ALWAYS, wrong_digest());
    bench.sources = vec!["older".to_owned()];
    for piece in bench.parcel.plan().blobs {
        bench.registry.state().blobs.insert(("older".to_owned(), piece.digest), Vec::new());
    }
    assert!(bench.fails().await.contains("the registry speaks of other bytes"));
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
    cannot push the blob … to registry/etcd: `LAYOUT/blobs/sha256/…` is not what its name says
      expected sha256:…
      received sha256:…
    ");
}

// --- connections that break ----------------------------------------------------------------

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_was() {
    // Of the three large ones, one is cut.
    let bench = Bench::lying("PUT", "uploads", (0, 4), Lie::Cuts(60_000));
    let (bench, _) = bench.arrives().await;
    assert!(bench.received() <= bench.parcel.size(), "nothing is sent twice");
}

#[tokio::test]
async fn a_broken_upload_starts_over_where_nothing_was_kept() {
    let registry = habits(|it| it.keeps_partial = false);
    let bench = Bench::new(registry.lie("PUT", "uploads", (0, 4), Lie::Cuts(60_000)));
    let (bench, _) = bench.arrives().await;
    assert!(bench.received() > bench.parcel.size());
}

#[tokio::test]
async fn an_upload_that_the_registry_forgot_starts_over() {
    let forget = |state: &mut State| state.forget_uploads();
    Bench::lying("PUT", "uploads", (2, 1), Lie::After(Arc::new(forget))).arrives().await;
}

#[tokio::test]
async fn an_upload_that_is_cut_again_and_again_comes_to_its_end() {
    // More often than there are attempts, but each gets further.
    let mut bench = Bench::lying("PUT", "uploads", (0, 16), Lie::Cuts(20_000));
    bench.parcel = Parcel::new(&SEVEN[..1], 150_000, 0);
    let (bench, _) = bench.arrives().await;
    assert!(bench.received() <= bench.parcel.size());
}

#[tokio::test]
async fn an_upload_whose_end_was_done_in_silence_is_not_sent_again() {
    let bench = Bench::lying("PUT", "uploads", (1, 2), Lie::DoesSilently);
    let (bench, _) = bench.arrives().await;
    assert_eq!(bench.received(), bench.parcel.size());
}

#[tokio::test]
async fn an_error_after_the_upload_did_arrive_is_not_sent_again() {
    let bench = Bench::lying("PUT", "uploads", (1, 2), Lie::DoesButSays(500));
    let (bench, _) = bench.arrives().await;
    assert_eq!(bench.received(), bench.parcel.size());
}

#[tokio::test]
async fn a_manifest_whose_answer_got_lost_is_handed_over_again() {
    Bench::lying("PUT", "manifests", (0, 2), Lie::DoesSilently).arrives().await;
}

#[tokio::test]
async fn answers_that_end_in_the_middle_are_asked_for_again() {
    Bench::lying("PUT", "manifests", (0, 2), Lie::DoesButTruncates).arrives().await;
    Bench::lying("POST", "uploads", (0, 2), Lie::DoesButTruncates).arrives().await;
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_asked_again() {
    Bench::lying("HEAD", "manifests", ONCE, Lie::Stalls).arrives().await;
    Bench::lying("PUT", "uploads", (1, 1), Lie::Stalls).arrives().await;
}

#[tokio::test]
async fn a_registry_that_trickles_is_asked_again() {
    Bench::lying("HEAD", "manifests", ONCE, Lie::Trickles).arrives().await;
    Bench::lying("PUT", "manifests", ONCE, Lie::Trickles).arrives().await;
}

#[tokio::test]
async fn a_registry_that_is_slow_to_take_bytes_is_waited_for() {
    // Longer than the longest time without a byte.
    let mut bench = Bench::new(habits(|it| it.pace = Some(2000)));
    bench.parcel = Parcel::new(&SEVEN[..1], 1_500_000, 0);
    bench.arrives().await;
}

#[tokio::test]
async fn a_registry_that_never_answers_is_an_error() {
    let bench = Bench::lying("HEAD", "manifests", ALWAYS, Lie::Stalls);
    insta::assert_snapshot!(bench.fails().await, @"cannot ask registry/etcd what 3.7.1-0 names: no byte for 0.4 s, after 5 attempts");
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_an_error() {
    let bench = Bench::honest();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut remote = bench.remote();
    let repository: Repository = format!("{gone}/etcd").parse().unwrap();
    remote = Remote::pushing(Arc::clone(remote.host()), repository, &[]);
    let error = remote.tagged("3.7.1-0").await.unwrap_err().to_string();
    let text = error.replace(&gone.to_string(), "registry");
    insta::assert_snapshot!(text, @"cannot ask registry/etcd what 3.7.1-0 names: cannot connect: Connection refused (os error 111), after 5 attempts");
}

// --- pieces -------------------------------------------------------------------------------

#[tokio::test]
async fn a_large_blob_goes_in_pieces() {
    let mut bench = Bench::honest();
    bench.piece_bytes = 30_000;
    let (bench, _) = bench.arrives().await;
    // Each of three blobs of 100,000 bytes: three pieces, and the rest with the end.
    assert_eq!(bench.registry.counts()["PATCH uploads"], 9);
    assert_eq!(bench.received(), bench.parcel.size());
}

#[tokio::test]
async fn a_registry_without_pieces_gets_all_at_once() {
    let mut bench = Bench::new(habits(|it| it.takes_chunks = false));
    bench.piece_bytes = 30_000;
    bench.arrives().await;
}

#[tokio::test]
async fn a_piece_is_as_long_as_the_registry_wants() {
    let mut bench = Bench::new(habits(|it| it.smallest_chunk = 50_000));
    bench.piece_bytes = 10_000;
    let (bench, _) = bench.arrives().await;
    let state = bench.registry.state();
    let mut pieces = state.requests.iter().filter(|it| it.method == "PATCH");
    assert!(pieces.all(|piece| piece.length >= 50_000));
}

#[tokio::test]
async fn a_broken_piece_goes_on_where_it_was() {
    let mut bench = Bench::lying("PATCH", "uploads", (1, 2), Lie::Cuts(10_000));
    bench.piece_bytes = 30_000;
    let (bench, _) = bench.arrives().await;
    assert!(bench.received() <= bench.parcel.size());
}

#[tokio::test]
async fn a_registry_that_says_it_got_less_is_asked_where_it_is() {
    let lie = Lie::DoesButHeader("range", Some("0-99".to_owned()));
    let mut bench = Bench::lying("PATCH", "uploads", (1, 1), lie);
    bench.piece_bytes = 30_000;
    bench.arrives().await;
}

#[tokio::test]
async fn a_registry_that_says_it_got_more_than_there_is_starts_over() {
    let lie = Lie::DoesButHeader("range", Some("0-999999999".to_owned()));
    let mut bench = Bench::lying("PATCH", "uploads", (1, 1), lie);
    bench.piece_bytes = 30_000;
    bench.arrives().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_for_a_front_end_becomes_smaller() {
    let mut bench = Bench::new(habits(|it| it.largest_body = 1_200_000));
    bench.parcel = Parcel::new(&SEVEN[..1], 4_000_000, 0);
    bench.arrives().await;
}

// --- registries under load -----------------------------------------------------------------

#[tokio::test]
async fn errors_that_pass_are_waited_out() {
    for status in [408, 429, 500, 502, 503, 504] {
        for (method, part) in [
            ("HEAD", "manifests"),
            ("HEAD", "blobs"),
            ("POST", "uploads"),
            ("PUT", "uploads"),
            ("PUT", "manifests"),
        ] {
            Bench::lying(method, part, (0, 2), Lie::Says(status, &[], "")).arrives().await;
        }
    }
}

#[tokio::test]
async fn a_registry_that_says_when_to_come_back_is_heard() {
    let lie = Lie::Says(429, &[("retry-after", "1")], "");
    let started = std::time::Instant::now();
    Bench::lying("PUT", "uploads", ONCE, lie).arrives().await;
    // No longer than the longest wait, and no shorter.
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_secondary_rate_limit_is_no_denial() {
    let text = r#"{"errors": [{"code": "DENIED", "message": "You have exceeded a secondary rate limit"}]}"#;
    Bench::lying("PUT", "manifests", (0, 3), Lie::Says(403, &[], text)).arrives().await;
    Bench::lying("POST", "uploads", (0, 3), Lie::Says(403, &[], text)).arrives().await;
}

#[tokio::test]
async fn an_error_that_does_not_pass_is_said_in_the_registry_s_words() {
    let text = r#"{"errors": [{"code": "TOOMANY", "message": "quota of 1 GB reached"}]}"#;
    let bench = Bench::lying("PUT", "manifests", ALWAYS, Lie::Says(507, &[], text));
    insta::assert_snapshot!(bench.fails().await, @"cannot push the manifest … to registry/etcd: 507 Insufficient Storage, TOOMANY: quota of 1 GB reached");
}

#[tokio::test]
async fn a_registry_that_sees_late_what_it_has_is_waited_for() {
    let late = r#"{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown"}]}"#;
    Bench::lying("PUT", "manifests/sha256", (0, 3), Lie::Says(404, &[], late)).arrives().await;
    let late = r#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}"#;
    Bench::lying("PUT", "manifests/3.7.1-0", (0, 3), Lie::Says(400, &[], late)).arrives().await;
}

#[tokio::test]
async fn a_registry_that_never_sees_what_it_has_is_an_error() {
    let late = r#"{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown"}]}"#;
    let bench = Bench::lying("PUT", "manifests/sha256", ALWAYS, Lie::Says(404, &[], late));
    insta::assert_snapshot!(bench.fails().await, @"cannot push the manifest … to registry/etcd: 404 Not Found, MANIFEST_BLOB_UNKNOWN: blob unknown");
}

// --- who we are ----------------------------------------------------------------------------

fn lets_in(challenge: &str) -> LetsIn {
    let authorization = ["Basic bWU6c2VjcmV0".to_owned()].into();
    LetsIn { authorization, challenge: challenge.to_owned() }
}

#[tokio::test]
async fn a_login_is_said_when_it_is_asked_for_and_at_once_the_next_time() {
    let mut bench = Bench::new(habits(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    bench.credentials = Login::password("me", &Secret::new("secret"));
    let (bench, _) = bench.arrives().await;
    let without = |bench: &Bench| {
        let state = bench.registry.state();
        state.requests.iter().filter(|it| it.header("authorization").is_none()).count()
    };
    assert_eq!(without(&bench), 1);
    let report = bench.push().await.unwrap();
    assert_eq!((report.requests, without(&bench)), (1, 1));
}

#[tokio::test]
async fn no_login_is_an_error_with_the_registry_s_name() {
    let bench = Bench::new(habits(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    insta::assert_snapshot!(bench.fails().await, @r"
    cannot ask registry/etcd what 3.7.1-0 names
      because: registry wants a login, and there is none for it
    ");
}

#[tokio::test]
async fn a_wrong_password_is_an_error_and_not_tried_for_ever() {
    let mut bench = Bench::new(habits(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    bench.credentials = Login::password("me", &Secret::new("wrong"));
    let text = bench.fails().await;
    assert!(!text.contains("d3Jvbmc") && !text.contains("wrong"), "{text}");
    insta::assert_snapshot!(text, @"cannot ask registry/etcd what 3.7.1-0 names: 401 Unauthorized");
}

#[tokio::test]
async fn an_unknown_way_to_log_in_is_an_error() {
    let bench = Bench::new(habits(|it| it.lets_in = Some(lets_in("Negotiate"))));
    insta::assert_snapshot!(bench.fails().await, @r"
    cannot ask registry/etcd what 3.7.1-0 names
      because: registry asks for a login in a way that is not known here: `Negotiate`
    ");
}

#[tokio::test]
async fn a_401_in_the_middle_is_answered() {
    let mut bench = Bench::new(habits(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    bench.credentials = Login::password("me", &Secret::new("secret"));
    let says = Lie::Says(401, &[("www-authenticate", "Basic realm=\"here\"")], "");
    let bench = bench.and("PUT", "uploads", (1, 1), says.clone());
    bench.and("PUT", "manifests", (1, 1), says).arrives().await;
}

#[tokio::test]
async fn a_401_before_the_body_was_read_is_answered() {
    let mut bench = Bench::new(habits(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    bench.credentials = Login::password("me", &Secret::new("secret"));
    bench.parcel = Parcel::new(&SEVEN[..1], 3_000_000, 0);
    bench
        .and("PUT", "uploads", (1, 1), Lie::SaysEarly(401, "Basic realm=\"here\""))
        .arrives()
        .await;
}

#[tokio::test]
async fn a_denial_is_an_error_in_the_registry_s_words() {
    let text = r#"{"errors": [{"code": "DENIED", "message": "no push for you"}]}"#;
    let bench = Bench::lying("POST", "uploads", ALWAYS, Lie::Says(403, &[], text));
    insta::assert_snapshot!(bench.fails().await, @"cannot push the blob … to registry/etcd: 403 Forbidden, DENIED: no push for you");
}

// --- tags ---------------------------------------------------------------------------------

fn set_tag(state: &mut State, tag: &str, digest: Digest) {
    let bytes = (parcel::INDEX.to_owned(), b"{}".to_vec());
    state.manifests.insert(("etcd".to_owned(), digest), bytes);
    state.tags.insert(("etcd".to_owned(), tag.to_owned()), digest);
}

#[tokio::test]
async fn a_tag_that_names_another_image_is_left_alone() {
    let bench = Bench::honest();
    set_tag(&mut bench.registry.state(), "3.7.1-0", Digest::of("other"));
    set_tag(&mut bench.registry.state(), "3.7.1-3", Digest::of("other"));
    let Err(PushError::Taken { next, .. }) = bench.push().await else { panic!() };
    assert_eq!(next.as_deref(), Some("3.7.1-4"));
    assert_eq!(bench.received(), 0);
    insta::assert_snapshot!(bench.fails().await, @r"
    registry/etcd has another image tagged 3.7.1-0
      expected sha256:…
      received sha256:…
    ");
}

#[tokio::test]
async fn force_takes_a_tag() {
    let mut bench = Bench::honest();
    bench.overwrite = Overwrite::Forced;
    set_tag(&mut bench.registry.state(), "3.7.1-0", Digest::of("other"));
    let (_, report) = bench.arrives().await;
    assert_eq!(report.tags[0].state, TagState::Moved);
}

fn somebody_tags(digest: Digest) -> Lie {
    Lie::After(Arc::new(move |state: &mut State| set_tag(state, "3.7.1-0", digest)))
}

#[tokio::test]
async fn a_tag_that_appears_in_the_meantime_is_left_alone() {
    let other = Digest::of("other");
    let bench = Bench::lying("PUT", "manifests/sha256", ONCE, somebody_tags(other));
    let Err(PushError::Taken { known, .. }) = bench.push().await else { panic!() };
    assert_eq!(known, other);
    let state = bench.registry.state();
    assert_eq!(state.tags[&("etcd".to_owned(), "3.7.1-0".to_owned())], other);
}

#[tokio::test]
async fn force_does_not_take_a_tag_that_changed_in_the_meantime() {
    let lie = somebody_tags(Digest::of("third"));
    let mut bench = Bench::lying("PUT", "manifests/sha256", ONCE, lie);
    bench.overwrite = Overwrite::Forced;
    set_tag(&mut bench.registry.state(), "3.7.1-0", Digest::of("other"));
    assert!(matches!(bench.push().await, Err(PushError::Taken { .. })));
}

#[tokio::test]
async fn somebody_who_pushes_the_same_at_once_is_no_trouble() {
    let bench = Bench::honest();
    let (a, b) = tokio::join!(bench.push(), bench.push());
    bench.assert_there(&bench.parcel);
    let mut moved = [a.unwrap().moved_bytes, b.unwrap().moved_bytes];
    moved.sort_unstable();
    assert_eq!(moved, [0, bench.parcel.size()], "one waits for the other");
}

#[tokio::test]
async fn of_two_images_with_one_tag_one_is_refused() {
    let bench = Bench::honest();
    let mut other = Parcel::new(&SEVEN[..2], 90_000, 0);
    other.tag = bench.parcel.tag.clone();
    let (a, b) = tokio::join!(bench.push(), bench.push_parcel(&other));
    let winner = match (a, b) {
        (Ok(_), Err(PushError::Taken { .. })) => &bench.parcel,
        (Err(PushError::Taken { .. }), Ok(_)) => &other,
        both => panic!("{both:?}"),
    };
    bench.assert_there(winner);
}

#[tokio::test]
async fn two_machines_that_push_the_same_converge() {
    // Each has its own cache, so neither knows of the other.
    let bench = Bench::honest();
    let twin = Bench { cache: tempfile::tempdir().unwrap(), ..Bench::honest() };
    let twin = Bench { registry: bench.registry.twin(), ..twin };
    let (a, b) = tokio::join!(bench.push(), twin.push());
    a.unwrap();
    b.unwrap();
    bench.assert_there(&bench.parcel);
}

#[tokio::test]
async fn a_registry_that_keeps_its_tags_says_so() {
    let text = r#"{"errors": [{"code": "TAG_INVALID", "message": "the tag is immutable"}]}"#;
    let bench = Bench::lying("PUT", "manifests/3.7.1-0", ALWAYS, Lie::Says(409, &[], text));
    insta::assert_snapshot!(bench.fails().await, @"cannot tag … in registry/etcd as 3.7.1-0: 409 Conflict, TAG_INVALID: the tag is immutable");
}

// --- tokens -------------------------------------------------------------------------------

/// A registry whose token server hands out one token after the other.
fn with_tokens(life: &'static str) -> Bench {
    let registry = LyingRegistry::start(Habits::default());
    let realm = format!("http://{}/token", registry.host());
    let challenge =
        format!("Bearer realm=\"{realm}\",service=\"here\",scope=\"repository:x:pull\"");
    registry.habits().lets_in = Some(LetsIn { authorization: [].into(), challenge });
    registry.hand_out_tokens(life);
    let mut bench = Bench::new(registry);
    bench.credentials = Login::password("me", &Secret::new("secret"));
    bench
}

#[tokio::test]
async fn one_token_is_asked_for_and_it_is_for_all_that_will_be_done() {
    let mut bench = with_tokens("300");
    bench.sources = vec!["older".to_owned()];
    let (bench, _) = bench.arrives().await;
    let state = bench.registry.state();
    let tokens: Vec<_> =
        state.requests.iter().filter(|it| it.target.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].header("authorization"), Some("Basic bWU6c2VjcmV0"));
    insta::assert_snapshot!(tokens[0].target, @"/token?service=here&scope=repository%3Aetcd%3Apull%2Cpush&scope=repository%3Aolder%3Apull");
}

#[tokio::test]
async fn a_known_registry_is_not_asked_how_it_wants_to_be_asked() {
    let (bench, _) = with_tokens("300").arrives().await;
    bench.registry.state().requests.clear();
    let report = bench.push().await.unwrap();
    let asked: Vec<_> =
        bench.registry.state().requests.iter().map(|it| it.method.clone()).collect();
    // The token, and the tag: two, as it takes without a login.
    assert_eq!((report.requests, asked), (1, vec!["GET".to_owned(), "HEAD".to_owned()]));
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_renewed() {
    let bench = with_tokens("300");
    let revoke = Lie::After(Arc::new(|state: &mut State| state.valid.clear()));
    let bench = bench.and("PUT", "uploads", (1, 1), revoke.clone());
    let (bench, _) = bench.and("PUT", "manifests", (1, 1), revoke).arrives().await;
    assert_eq!(bench.registry.counts()["GET token"], 3);
}

#[tokio::test]
async fn a_token_that_is_about_to_end_is_renewed_before_it_is_refused() {
    let (bench, _) = with_tokens("0").arrives().await;
    let state = bench.registry.state();
    let refused = state.requests.iter().filter(|it| it.header("authorization").is_none());
    assert_eq!(refused.count(), 1, "only the very first");
}

#[tokio::test]
async fn an_identity_token_buys_tokens() {
    let mut bench = with_tokens("300");
    bench.credentials = Some(Login::IdentityToken(Secret::new("id&entity")));
    let (bench, _) = bench.arrives().await;
    let state = bench.registry.state();
    let token = state.requests.iter().find(|it| it.target.starts_with("/token")).unwrap();
    assert_eq!((&*token.method, token.header("authorization")), ("POST", None));
    let kind = token.header("content-type");
    assert_eq!(kind, Some("application/x-www-form-urlencoded"));
}

#[tokio::test]
async fn a_token_server_without_tls_elsewhere_gets_no_login() {
    let mut bench = Bench::new(habits(|it| {
        it.lets_in = Some(lets_in("Bearer realm=\"http://auth.example/token\""));
    }));
    bench.credentials = Login::password("me", &Secret::new("secret"));
    insta::assert_snapshot!(bench.fails().await, @r"
    cannot ask registry/etcd what 3.7.1-0 names
      because: registry names no usable token server
    ");
}

#[tokio::test]
async fn a_token_server_that_refuses_is_named() {
    let bench = with_tokens("300").and("GET", "/token", ALWAYS, Lie::Says(403, &[], ""));
    insta::assert_snapshot!(bench.fails().await, @r"
    cannot ask registry/etcd what 3.7.1-0 names
      because: no token for registry/etcd
      http://registry/token: 403 Forbidden
    ");
}

#[tokio::test]
async fn a_token_server_that_is_busy_is_asked_again() {
    with_tokens("300").and("GET", "/token", (0, 2), Lie::Says(503, &[], "")).arrives().await;
}
