//! Pushes over broken connections, pushes in chunks, and pushes to overloaded registries.

use std::sync::Arc;
use std::time::Duration;

use etcdimg::registry::RemoteRepository;
use oci::Repository;

use crate::layout_fixture::{LayoutFixture, SEVEN};
use crate::lies::{Behaviour, Lie};
use crate::lying_registry::State;
use crate::push_fixture::{ALWAYS, ONCE, PushFixture, behaving};

// --- connections that break ----------------------------------------------------------------

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_was() {
    let fixture = PushFixture::lying("PUT", "uploads", (0, 2), Lie::Cuts(60_000));
    let (fixture, _) = fixture.arrives().await;
    assert!(fixture.received() <= fixture.layout.size(), "nothing is sent twice");
}

#[tokio::test]
async fn a_broken_upload_starts_over_where_nothing_was_kept() {
    let registry = behaving(|it| it.keeps_partial = false);
    let fixture = PushFixture::new(registry.lie("PUT", "uploads", (0, 2), Lie::Cuts(60_000)));
    let (fixture, _) = fixture.arrives().await;
    assert!(fixture.received() > fixture.layout.size());
}

#[tokio::test]
async fn an_upload_that_the_registry_forgot_starts_over() {
    let forget = |state: &mut State| state.forget_uploads();
    PushFixture::lying("PUT", "uploads", (2, 1), Lie::After(Arc::new(forget))).arrives().await;
}

#[tokio::test]
async fn an_upload_that_is_cut_again_and_again_comes_to_its_end() {
    // More often than there are attempts, but each gets further.
    let mut fixture = PushFixture::lying("PUT", "uploads", (0, 16), Lie::Cuts(20_000));
    fixture.layout = LayoutFixture::new(&SEVEN[..1], 150_000, 0);
    let (fixture, _) = fixture.arrives().await;
    assert!(fixture.received() <= fixture.layout.size());
}

#[tokio::test]
async fn an_upload_whose_end_was_done_in_silence_is_not_sent_again() {
    let fixture = PushFixture::lying("PUT", "uploads", (1, 2), Lie::DoesSilently);
    let (fixture, _) = fixture.arrives().await;
    assert_eq!(fixture.received(), fixture.layout.size());
}

#[tokio::test]
async fn an_error_after_the_upload_did_arrive_is_not_sent_again() {
    let fixture = PushFixture::lying("PUT", "uploads", (1, 2), Lie::DoesButSays(500));
    let (fixture, _) = fixture.arrives().await;
    assert_eq!(fixture.received(), fixture.layout.size());
}

#[tokio::test]
async fn a_manifest_whose_answer_got_lost_is_handed_over_again() {
    PushFixture::lying("PUT", "manifests", (0, 2), Lie::DoesSilently).arrives().await;
}

#[tokio::test]
async fn answers_that_end_in_the_middle_are_asked_for_again() {
    PushFixture::lying("PUT", "manifests", (0, 2), Lie::DoesButTruncates).arrives().await;
    PushFixture::lying("POST", "uploads", (0, 2), Lie::DoesButTruncates).arrives().await;
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_asked_again() {
    PushFixture::lying("HEAD", "manifests", ONCE, Lie::Stalls).arrives().await;
    PushFixture::lying("PUT", "uploads", (1, 1), Lie::Stalls).arrives().await;
}

#[tokio::test]
async fn a_registry_that_trickles_is_asked_again() {
    PushFixture::lying("HEAD", "manifests", ONCE, Lie::Trickles).arrives().await;
    PushFixture::lying("PUT", "manifests", ONCE, Lie::Trickles).arrives().await;
}

#[tokio::test]
async fn a_registry_that_is_slow_to_take_bytes_is_waited_for() {
    // Longer than the longest time without a byte.
    let mut fixture = PushFixture::new(behaving(|it| it.pace = Some(2000)));
    fixture.layout = LayoutFixture::new(&SEVEN[..1], 1_500_000, 0);
    fixture.arrives().await;
}

#[tokio::test]
async fn a_registry_that_never_answers_is_an_error() {
    let fixture = PushFixture::lying("HEAD", "manifests", ALWAYS, Lie::Stalls);
    insta::assert_snapshot!(fixture.fails().await, @"cannot ask registry/etcd what 3.7.1-0 names: no byte for 0.4 s, after 5 attempts");
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_an_error() {
    let fixture = PushFixture::honest();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut remote = fixture.remote();
    let repository: Repository = format!("{gone}/etcd").parse().unwrap();
    remote = RemoteRepository::pushing(Arc::clone(remote.registry()), repository, &[]);
    let error = remote.tag_digest("3.7.1-0").await.unwrap_err().to_string();
    let text = error.replace(&gone.to_string(), "registry");
    insta::assert_snapshot!(text, @"cannot ask registry/etcd what 3.7.1-0 names: cannot connect: Connection refused (os error 111), after 5 attempts");
}

// --- uploads of an earlier run -------------------------------------------------------------

/// A registry that has parts of two layers, from an interrupted push.
async fn interrupted(change: impl FnOnce(&mut Behaviour)) -> PushFixture {
    let mut fixture = PushFixture::new(behaving(change));
    fixture.layout = LayoutFixture::new(&SEVEN[..1], 200_000, 0);
    fixture.chunk_bytes = 30_000;
    let fixture = fixture.and("PATCH", "uploads", (2, 1), Lie::Says(403, &[], ""));
    fixture.push().await.unwrap_err();
    assert!(fixture.registry.state().tags.is_empty());
    while !fixture.registry.is_alone() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = fixture.received();
    assert!(before > 0 && before < fixture.layout.size(), "{before}");
    fixture
}

#[tokio::test]
async fn a_registry_that_is_busy_for_a_moment_has_not_lost_an_upload() {
    for lie in [Lie::Says(503, &[], ""), Lie::Says(429, &[], ""), Lie::DoesSilently] {
        let fixture = interrupted(|_| {}).await.and("GET", "uploads", (0, 3), lie);
        let (fixture, _) = fixture.arrives().await;
        assert_eq!(fixture.received(), fixture.layout.size(), "nothing is sent twice");
    }
}

#[tokio::test]
async fn an_upload_whose_place_is_gone_for_good_starts_over() {
    let lie = Lie::Says(503, &[], "");
    interrupted(|_| {}).await.and("GET", "uploads", (0, 40), lie).arrives().await;
}

#[tokio::test]
async fn a_blob_that_somebody_else_has_brought_is_not_sent_to_its_end() {
    let fixture = interrupted(|_| {}).await;
    for blob in fixture.layout.plan().blobs {
        let bytes = std::fs::read(fixture.layout.blob(&blob.digest)).unwrap();
        fixture.registry.state().blobs.insert(("etcd".to_owned(), blob.digest), bytes);
    }
    let before = fixture.received();
    let (fixture, report) = fixture.arrives().await;
    assert_eq!((report.moved_bytes, fixture.received()), (0, before));
}

#[tokio::test]
async fn a_blob_that_can_be_mounted_now_is_not_sent_to_its_end() {
    let mut fixture = interrupted(|_| {}).await;
    fixture.sources = vec!["older".to_owned()];
    for blob in fixture.layout.plan().blobs {
        let bytes = std::fs::read(fixture.layout.blob(&blob.digest)).unwrap();
        fixture.registry.state().blobs.insert(("older".to_owned(), blob.digest), bytes);
    }
    let before = fixture.received();
    let (fixture, report) = fixture.arrives().await;
    assert_eq!((report.moved_bytes, fixture.received()), (0, before));
}

#[tokio::test]
async fn the_smallest_chunk_is_known_to_the_next_run() {
    let mut fixture = interrupted(|it| it.smallest_chunk = 50_000).await;
    fixture.chunk_bytes = 10_000;
    let before = fixture.registry.state().requests.len();
    let (fixture, _) = fixture.arrives().await;
    let state = fixture.registry.state();
    let chunks = state.requests[before..].iter().filter(|it| it.method == "PATCH");
    let chunks: Vec<_> = chunks.map(|it| it.length).collect();
    assert!(!chunks.is_empty() && chunks.iter().all(|length| *length >= 50_000), "{chunks:?}");
}

// --- chunks -------------------------------------------------------------------------------

#[tokio::test]
async fn a_large_blob_goes_in_chunks() {
    let mut fixture = PushFixture::honest();
    fixture.chunk_bytes = 30_000;
    let (fixture, _) = fixture.arrives().await;
    // Each of three blobs of 100,000 bytes: three chunks, and the rest with the end.
    assert_eq!(fixture.registry.counts()["PATCH uploads"], 9);
    // Each says where it belongs; distribution-spec demands it of chunks.
    let requests = fixture.registry.state().requests.clone();
    let chunks = requests.iter().filter(|it| it.method == "PATCH");
    let mut ranges: Vec<_> = chunks.map(|it| it.header("content-range").unwrap()).collect();
    ranges.sort_unstable();
    let expected = ["0-29999", "30000-59999", "60000-89999"];
    assert_eq!(ranges, expected.into_iter().flat_map(|it| [it; 3]).collect::<Vec<_>>());
    assert_eq!(fixture.received(), fixture.layout.size());
}

#[tokio::test]
async fn a_registry_without_chunks_gets_all_at_once() {
    let mut fixture = PushFixture::new(behaving(|it| it.takes_chunks = false));
    fixture.chunk_bytes = 30_000;
    let (fixture, _) = fixture.arrives().await;
    // A chunk was refused, and nothing of it was kept.
    assert!(!fixture.upload_lengths("PATCH").is_empty());
    let mut whole = fixture.upload_lengths("PUT");
    whole.sort_unstable();
    let blobs = fixture.layout.plan().blobs.into_iter();
    let mut sizes: Vec<_> = blobs.map(|blob| usize::try_from(blob.size).unwrap()).collect();
    sizes.sort_unstable();
    assert_eq!(whole, sizes);
}

#[tokio::test]
async fn a_chunk_is_as_long_as_the_registry_wants() {
    let mut fixture = PushFixture::new(behaving(|it| it.smallest_chunk = 50_000));
    fixture.chunk_bytes = 10_000;
    let (fixture, _) = fixture.arrives().await;
    let chunks = fixture.upload_lengths("PATCH");
    assert!(!chunks.is_empty() && chunks.iter().all(|length| *length >= 50_000), "{chunks:?}");
}

#[tokio::test]
async fn a_broken_chunk_goes_on_where_it_was() {
    let mut fixture = PushFixture::lying("PATCH", "uploads", (1, 2), Lie::Cuts(10_000));
    fixture.chunk_bytes = 30_000;
    let (fixture, _) = fixture.arrives().await;
    assert!(fixture.received() <= fixture.layout.size());
}

#[tokio::test]
async fn a_registry_that_says_it_got_less_is_asked_where_it_is() {
    let lie = Lie::DoesButHeader("range", Some("0-99".to_owned()));
    let mut fixture = PushFixture::lying("PATCH", "uploads", (1, 1), lie);
    fixture.chunk_bytes = 30_000;
    fixture.arrives().await;
}

#[tokio::test]
async fn a_registry_that_says_it_got_more_than_there_is_starts_over() {
    let lie = Lie::DoesButHeader("range", Some("0-999999999".to_owned()));
    let mut fixture = PushFixture::lying("PATCH", "uploads", (1, 1), lie);
    fixture.chunk_bytes = 30_000;
    fixture.arrives().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_for_a_front_end_becomes_smaller() {
    const LARGEST: usize = 1_200_000;
    let mut fixture = PushFixture::new(behaving(|it| it.largest_body = LARGEST));
    fixture.layout = LayoutFixture::new(&SEVEN[..1], 4_000_000, 0);
    let (fixture, _) = fixture.arrives().await;
    let bodies = [fixture.upload_lengths("PUT"), fixture.upload_lengths("PATCH")].concat();
    let is_refused = |length: &&usize| **length > LARGEST;
    assert!(bodies.iter().any(|length| is_refused(&length)), "{bodies:?}");
    let taken: usize = bodies.iter().filter(|length| !is_refused(length)).sum();
    assert_eq!(taken as u64, fixture.layout.size());
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
            PushFixture::lying(method, part, (0, 2), Lie::Says(status, &[], "")).arrives().await;
        }
    }
}

#[tokio::test]
async fn a_registry_that_says_when_to_come_back_is_heard() {
    let lie = Lie::Says(429, &[("retry-after", "1")], "");
    let (fixture, _) = PushFixture::lying("PUT", "uploads", ONCE, lie).arrives().await;
    // The longest wait of the fixture; by itself it would wait 4 ms at most.
    let said = fixture.said.statuses();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].ends_with("; attempt 2 of 5 in 0.4 s"), "{said:?}");
}

#[tokio::test]
async fn a_secondary_rate_limit_is_no_denial() {
    let text = r#"{"errors": [{"code": "DENIED", "message": "You have exceeded a secondary rate limit"}]}"#;
    PushFixture::lying("PUT", "manifests", (0, 3), Lie::Says(403, &[], text)).arrives().await;
    PushFixture::lying("POST", "uploads", (0, 3), Lie::Says(403, &[], text)).arrives().await;
}

#[tokio::test]
async fn an_error_that_does_not_pass_is_said_in_the_registry_s_words() {
    let text = r#"{"errors": [{"code": "TOOMANY", "message": "quota of 1 GB reached"}]}"#;
    let fixture = PushFixture::lying("PUT", "manifests", ALWAYS, Lie::Says(507, &[], text));
    insta::assert_snapshot!(fixture.fails().await, @"cannot push the manifest … to registry/etcd: 507 Insufficient Storage, TOOMANY: quota of 1 GB reached");
}

#[tokio::test]
async fn a_registry_that_sees_late_what_it_has_is_waited_for() {
    let late = r#"{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown"}]}"#;
    PushFixture::lying("PUT", "manifests/sha256", (0, 3), Lie::Says(404, &[], late))
        .arrives()
        .await;
    let late = r#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}"#;
    PushFixture::lying("PUT", "manifests/3.7.1-0", (0, 3), Lie::Says(400, &[], late))
        .arrives()
        .await;
}

#[tokio::test]
async fn a_registry_that_never_sees_what_it_has_is_an_error() {
    let late = r#"{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown"}]}"#;
    let fixture = PushFixture::lying("PUT", "manifests/sha256", ALWAYS, Lie::Says(404, &[], late));
    insta::assert_snapshot!(fixture.fails().await, @"cannot push the manifest … to registry/etcd: 404 Not Found, MANIFEST_BLOB_UNKNOWN: blob unknown");
}
