//! Pushing over connections that break, in pieces, and to registries under load.

use std::sync::Arc;
use std::time::Duration;

use etcdimg::registry::RemoteRepository;
use oci::Repository;

use crate::lies::{Habits, Lie};
use crate::lying_registry::State;
use crate::parcel::{Parcel, SEVEN};
use crate::push_bench::{ALWAYS, Bench, ONCE, habits};

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
    remote = RemoteRepository::pushing(Arc::clone(remote.registry()), repository, &[]);
    let error = remote.tag_digest("3.7.1-0").await.unwrap_err().to_string();
    let text = error.replace(&gone.to_string(), "registry");
    insta::assert_snapshot!(text, @"cannot ask registry/etcd what 3.7.1-0 names: cannot connect: Connection refused (os error 111), after 5 attempts");
}

// --- uploads of an earlier run -------------------------------------------------------------

/// A registry that has a part of two layers, from a push that came to no end.
async fn interrupted(change: impl FnOnce(&mut Habits)) -> Bench {
    let mut bench = Bench::new(habits(change));
    bench.parcel = Parcel::new(&SEVEN[..1], 200_000, 0);
    bench.chunk_bytes = 30_000;
    let bench = bench.and("PATCH", "uploads", (2, 1), Lie::Says(403, &[], ""));
    bench.push().await.unwrap_err();
    assert!(bench.registry.state().tags.is_empty());
    while !bench.registry.is_alone() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = bench.received();
    assert!(before > 0 && before < bench.parcel.size(), "{before}");
    bench
}

#[tokio::test]
async fn a_registry_that_is_busy_for_a_moment_has_not_lost_an_upload() {
    for lie in [Lie::Says(503, &[], ""), Lie::Says(429, &[], ""), Lie::DoesSilently] {
        let bench = interrupted(|_| {}).await.and("GET", "uploads", (0, 3), lie);
        let (bench, _) = bench.arrives().await;
        assert_eq!(bench.received(), bench.parcel.size(), "nothing is sent twice");
    }
}

#[tokio::test]
async fn an_upload_whose_place_is_gone_for_good_starts_over() {
    let lie = Lie::Says(503, &[], "");
    interrupted(|_| {}).await.and("GET", "uploads", (0, 40), lie).arrives().await;
}

#[tokio::test]
async fn a_blob_that_somebody_else_has_brought_is_not_sent_to_its_end() {
    let bench = interrupted(|_| {}).await;
    for piece in bench.parcel.plan().blobs {
        let bytes = std::fs::read(bench.parcel.blob(&piece.digest)).unwrap();
        bench.registry.state().blobs.insert(("etcd".to_owned(), piece.digest), bytes);
    }
    let before = bench.received();
    let (bench, report) = bench.arrives().await;
    assert_eq!((report.moved_bytes, bench.received()), (0, before));
}

#[tokio::test]
async fn a_blob_that_can_be_mounted_now_is_not_sent_to_its_end() {
    let mut bench = interrupted(|_| {}).await;
    bench.sources = vec!["older".to_owned()];
    for piece in bench.parcel.plan().blobs {
        let bytes = std::fs::read(bench.parcel.blob(&piece.digest)).unwrap();
        bench.registry.state().blobs.insert(("older".to_owned(), piece.digest), bytes);
    }
    let before = bench.received();
    let (bench, report) = bench.arrives().await;
    assert_eq!((report.moved_bytes, bench.received()), (0, before));
}

#[tokio::test]
async fn the_smallest_piece_is_known_to_the_next_run() {
    let mut bench = interrupted(|it| it.smallest_chunk = 50_000).await;
    bench.chunk_bytes = 10_000;
    let before = bench.registry.state().requests.len();
    let (bench, _) = bench.arrives().await;
    let state = bench.registry.state();
    let pieces = state.requests[before..].iter().filter(|it| it.method == "PATCH");
    let pieces: Vec<_> = pieces.map(|it| it.length).collect();
    assert!(!pieces.is_empty() && pieces.iter().all(|length| *length >= 50_000), "{pieces:?}");
}

// --- pieces -------------------------------------------------------------------------------

#[tokio::test]
async fn a_large_blob_goes_in_pieces() {
    let mut bench = Bench::honest();
    bench.chunk_bytes = 30_000;
    let (bench, _) = bench.arrives().await;
    // Each of three blobs of 100,000 bytes: three pieces, and the rest with the end.
    assert_eq!(bench.registry.counts()["PATCH uploads"], 9);
    assert_eq!(bench.received(), bench.parcel.size());
}

#[tokio::test]
async fn a_registry_without_pieces_gets_all_at_once() {
    let mut bench = Bench::new(habits(|it| it.takes_chunks = false));
    bench.chunk_bytes = 30_000;
    bench.arrives().await;
}

#[tokio::test]
async fn a_piece_is_as_long_as_the_registry_wants() {
    let mut bench = Bench::new(habits(|it| it.smallest_chunk = 50_000));
    bench.chunk_bytes = 10_000;
    let (bench, _) = bench.arrives().await;
    let state = bench.registry.state();
    let mut pieces = state.requests.iter().filter(|it| it.method == "PATCH");
    assert!(pieces.all(|piece| piece.length >= 50_000));
}

#[tokio::test]
async fn a_broken_piece_goes_on_where_it_was() {
    let mut bench = Bench::lying("PATCH", "uploads", (1, 2), Lie::Cuts(10_000));
    bench.chunk_bytes = 30_000;
    let (bench, _) = bench.arrives().await;
    assert!(bench.received() <= bench.parcel.size());
}

#[tokio::test]
async fn a_registry_that_says_it_got_less_is_asked_where_it_is() {
    let lie = Lie::DoesButHeader("range", Some("0-99".to_owned()));
    let mut bench = Bench::lying("PATCH", "uploads", (1, 1), lie);
    bench.chunk_bytes = 30_000;
    bench.arrives().await;
}

#[tokio::test]
async fn a_registry_that_says_it_got_more_than_there_is_starts_over() {
    let lie = Lie::DoesButHeader("range", Some("0-999999999".to_owned()));
    let mut bench = Bench::lying("PATCH", "uploads", (1, 1), lie);
    bench.chunk_bytes = 30_000;
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
