//! Tags that were set by another client, before or during a push.

use std::sync::Arc;

use etcdimg::digest::Digest;
use etcdimg::push::{Overwrite, PushError, PushRequest, TagState, plan};

use crate::layout_fixture::{self, LayoutFixture, SEVEN};
use crate::lies::Lie;
use crate::lying_registry::State;
use crate::push_fixture::{ALWAYS, ONCE, PushFixture};

fn set_tag(state: &mut State, tag: &str, digest: Digest) {
    let bytes = (layout_fixture::INDEX.to_owned(), b"{}".to_vec());
    state.manifests.insert(("etcd".to_owned(), digest), bytes);
    state.tags.insert(("etcd".to_owned(), tag.to_owned()), digest);
}

#[tokio::test]
async fn a_tag_that_names_another_image_is_left_alone() {
    let fixture = PushFixture::honest();
    set_tag(&mut fixture.registry.state(), "3.7.1-0", Digest::of("other"));
    set_tag(&mut fixture.registry.state(), "3.7.1-3", Digest::of("other"));
    let Err(PushError::Taken { next, .. }) = fixture.push().await else { panic!() };
    assert_eq!(next.as_deref(), Some("3.7.1-4"));
    assert_eq!(fixture.received(), 0);
    insta::assert_snapshot!(fixture.fails().await, @r"
    registry/etcd has another image tagged 3.7.1-0
      expected sha256:…
      received sha256:…
    ");
}

#[tokio::test]
async fn force_takes_a_tag() {
    let mut fixture = PushFixture::honest();
    fixture.overwrite = Overwrite::Forced;
    set_tag(&mut fixture.registry.state(), "3.7.1-0", Digest::of("other"));
    let (_, report) = fixture.arrives().await;
    assert_eq!(report.tags[0].state, TagState::Moved);
}

fn another_client_tags(digest: Digest) -> Lie {
    Lie::After(Arc::new(move |state: &mut State| set_tag(state, "3.7.1-0", digest)))
}

#[tokio::test]
async fn a_tag_that_appears_in_the_meantime_is_left_alone() {
    let other = Digest::of("other");
    let fixture = PushFixture::lying("PUT", "manifests/sha256", ONCE, another_client_tags(other));
    let Err(PushError::Taken { received: known, .. }) = fixture.push().await else { panic!() };
    assert_eq!(known, other);
    let state = fixture.registry.state();
    assert_eq!(state.tags[&("etcd".to_owned(), "3.7.1-0".to_owned())], other);
}

#[tokio::test]
async fn force_does_not_take_a_tag_that_changed_in_the_meantime() {
    let lie = another_client_tags(Digest::of("third"));
    let mut fixture = PushFixture::lying("PUT", "manifests/sha256", ONCE, lie);
    fixture.overwrite = Overwrite::Forced;
    set_tag(&mut fixture.registry.state(), "3.7.1-0", Digest::of("other"));
    assert!(matches!(fixture.push().await, Err(PushError::Taken { .. })));
}

#[tokio::test]
async fn two_pushes_of_the_same_image_at_once_succeed() {
    let fixture = PushFixture::honest();
    let (a, b) = tokio::join!(fixture.push(), fixture.push());
    fixture.assert_there(&fixture.layout);
    let mut moved = [a.unwrap().moved_bytes, b.unwrap().moved_bytes];
    moved.sort_unstable();
    assert_eq!(moved, [0, fixture.layout.size()], "one waits for the other");
}

#[tokio::test]
async fn of_two_images_with_one_tag_one_is_refused() {
    let fixture = PushFixture::honest();
    let mut other = LayoutFixture::new(&SEVEN[..2], 90_000, 0);
    other.tag = fixture.layout.tag.clone();
    let (a, b) = tokio::join!(fixture.push(), fixture.push_layout(&other));
    let winner = match (a, b) {
        (Ok(_), Err(PushError::Taken { .. })) => &fixture.layout,
        (Err(PushError::Taken { .. }), Ok(_)) => &other,
        both => panic!("{both:?}"),
    };
    fixture.assert_there(winner);
}

#[tokio::test]
async fn two_machines_that_push_the_same_converge() {
    // Each has its own cache, so neither knows of the other.
    let fixture = PushFixture::honest();
    let twin = PushFixture { cache: tempfile::tempdir().unwrap(), ..PushFixture::honest() };
    let twin = PushFixture { registry: fixture.registry.twin(), ..twin };
    let (a, b) = tokio::join!(fixture.push(), twin.push());
    a.unwrap();
    b.unwrap();
    fixture.assert_there(&fixture.layout);
}

#[tokio::test]
async fn a_registry_that_keeps_its_tags_says_so() {
    let text = r#"{"errors": [{"code": "TAG_INVALID", "message": "the tag is immutable"}]}"#;
    let fixture = PushFixture::lying("PUT", "manifests/3.7.1-0", ALWAYS, Lie::Says(409, &[], text));
    insta::assert_snapshot!(fixture.fails().await, @"cannot tag … in registry/etcd as 3.7.1-0: 409 Conflict, TAG_INVALID: the tag is immutable");
}

// --- answers about the tag itself ----------------------------------------------------------

#[tokio::test]
async fn a_tag_that_is_set_is_set_whatever_the_answer_says() {
    let digest = Some(Digest::of("other").to_string());
    for lie in [
        Lie::DoesButSays(500),
        Lie::DoesButSays(409),
        Lie::DoesSilently,
        Lie::DoesButHeader("docker-content-digest", digest),
    ] {
        PushFixture::lying("PUT", "manifests/3.7.1-0", ALWAYS, lie).arrives().await;
    }
}

#[tokio::test]
async fn a_tag_that_is_not_set_is_an_error() {
    let fixture = PushFixture::lying("PUT", "manifests/3.7.1-0", ALWAYS, Lie::Says(500, &[], ""));
    insta::assert_snapshot!(fixture.fails().await, @"cannot tag … in registry/etcd as 3.7.1-0: 500 Internal Server Error");
    // A promise without a deed is found out when the same is pushed again.
    let fixture = PushFixture::lying("PUT", "manifests/3.7.1-0", ONCE, Lie::Says(201, &[], ""));
    fixture.push().await.unwrap();
    fixture.arrives().await;
}

#[tokio::test]
async fn an_unknown_state_of_a_tag_is_reported_as_unknown() {
    let fixture = PushFixture::lying("PUT", "manifests/3.7.1-0", ALWAYS, Lie::DoesButSays(500));
    let fixture = fixture.and("HEAD", "manifests/3.7.1-0", (2, 99), Lie::Says(403, &[], ""));
    let error = fixture.push().await.unwrap_err();
    assert!(matches!(&error, PushError::TagUnknown { tag, .. } if tag == "3.7.1-0"), "{error}");
}

#[tokio::test]
async fn who_fails_at_the_second_tag_says_that_the_first_is_set() {
    let denied = Lie::Says(403, &[], r#"{"errors": [{"code": "DENIED"}]}"#);
    let fixture = PushFixture::lying("PUT", "manifests/latest", ALWAYS, denied);
    let tags = ["3.7.1-0", "latest", "newest"].map(ToOwned::to_owned).to_vec();
    let plan =
        plan(&fixture.layout.content(), &PushRequest { tags, ..PushRequest::default() }).unwrap();
    let error = fixture.push_plan(&fixture.layout, &plan).await.unwrap_err();
    assert_eq!(error.to_string(), "only these tags are set: 3.7.1-0");
    fixture.assert_there(&fixture.layout);
    assert_eq!(fixture.registry.state().tags.len(), 1);
}
