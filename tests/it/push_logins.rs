//! Pushes to a registry that requires a login.

use std::sync::Arc;

use etcdimg::registry::{Login, Secret};

use crate::layout_fixture::{LayoutFixture, SEVEN};
use crate::lies::{Behaviour, LetsIn, Lie};
use crate::lying_registry::{LyingRegistry, State};
use crate::push_fixture::{ALWAYS, PushFixture, behaving};

// --- who we are ----------------------------------------------------------------------------

pub fn lets_in(challenge: &str) -> LetsIn {
    let authorization = ["Basic bWU6c2VjcmV0".to_owned()].into();
    LetsIn { authorization, challenge: challenge.to_owned() }
}

#[tokio::test]
async fn a_login_is_said_when_it_is_asked_for_and_at_once_the_next_time() {
    let mut fixture =
        PushFixture::new(behaving(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    fixture.credentials = Login::password("me", &Secret::new("secret"));
    let (fixture, _) = fixture.arrives().await;
    let without = |fixture: &PushFixture| {
        let state = fixture.registry.state();
        state.requests.iter().filter(|it| it.header("authorization").is_none()).count()
    };
    assert_eq!(without(&fixture), 1);
    let report = fixture.push().await.unwrap();
    assert_eq!((report.requests, without(&fixture)), (1, 1));
}

#[tokio::test]
async fn no_login_is_an_error_with_the_registry_s_name() {
    let fixture =
        PushFixture::new(behaving(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    insta::assert_snapshot!(fixture.fails().await, @r"
    cannot ask registry/etcd what 3.7.1-0 names
      because: registry asks for a login, and none is known for it
    ");
}

#[tokio::test]
async fn a_wrong_password_is_an_error_and_not_tried_for_ever() {
    let mut fixture =
        PushFixture::new(behaving(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    fixture.credentials = Login::password("me", &Secret::new("wrong"));
    let text = fixture.fails().await;
    assert!(!text.contains("d3Jvbmc") && !text.contains("wrong"), "{text}");
    insta::assert_snapshot!(text, @"cannot ask registry/etcd what 3.7.1-0 names: 401 Unauthorized");
}

#[tokio::test]
async fn an_unknown_way_to_log_in_is_an_error() {
    let fixture = PushFixture::new(behaving(|it| it.lets_in = Some(lets_in("Negotiate"))));
    insta::assert_snapshot!(fixture.fails().await, @r"
    cannot ask registry/etcd what 3.7.1-0 names
      because: registry asks for a login by `Negotiate`; only Basic and Bearer are supported
    ");
}

#[tokio::test]
async fn a_401_in_the_middle_is_answered() {
    let mut fixture =
        PushFixture::new(behaving(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    fixture.credentials = Login::password("me", &Secret::new("secret"));
    let says = Lie::Says(401, &[("www-authenticate", "Basic realm=\"here\"")], "");
    let fixture = fixture.and("PUT", "uploads", (1, 1), says.clone());
    fixture.and("PUT", "manifests", (1, 1), says).arrives().await;
}

#[tokio::test]
async fn a_401_before_the_body_was_read_is_answered() {
    let mut fixture =
        PushFixture::new(behaving(|it| it.lets_in = Some(lets_in("Basic realm=\"here\""))));
    fixture.credentials = Login::password("me", &Secret::new("secret"));
    fixture.layout = LayoutFixture::new(&SEVEN[..1], 3_000_000, 0);
    fixture
        .and("PUT", "uploads", (1, 1), Lie::SaysEarly(401, "Basic realm=\"here\""))
        .arrives()
        .await;
}

#[tokio::test]
async fn a_denial_is_an_error_in_the_registry_s_words() {
    let text = r#"{"errors": [{"code": "DENIED", "message": "no push for you"}]}"#;
    let fixture = PushFixture::lying("POST", "uploads", ALWAYS, Lie::Says(403, &[], text));
    insta::assert_snapshot!(fixture.fails().await, @"cannot push the blob … to registry/etcd: 403 Forbidden, DENIED: no push for you");
}

// --- tokens -------------------------------------------------------------------------------

/// A registry whose token server hands out one token after the other.
fn with_tokens(life: &'static str) -> PushFixture {
    let registry = LyingRegistry::start(Behaviour::default());
    let realm = format!("http://{}/token", registry.host());
    let challenge =
        format!("Bearer realm=\"{realm}\",service=\"here\",scope=\"repository:x:pull\"");
    registry.behaviour().lets_in = Some(LetsIn { authorization: [].into(), challenge });
    registry.hand_out_tokens(life);
    let mut fixture = PushFixture::new(registry);
    fixture.credentials = Login::password("me", &Secret::new("secret"));
    fixture
}

#[tokio::test]
async fn one_token_is_asked_for_and_it_is_for_all_that_will_be_done() {
    let mut fixture = with_tokens("300");
    fixture.sources = vec!["older".to_owned()];
    let (fixture, _) = fixture.arrives().await;
    let state = fixture.registry.state();
    let tokens: Vec<_> =
        state.requests.iter().filter(|it| it.target.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].header("authorization"), Some("Basic bWU6c2VjcmV0"));
    insta::assert_snapshot!(tokens[0].target, @"/token?service=here&scope=repository%3Aetcd%3Apull%2Cpush&scope=repository%3Aolder%3Apull");
}

#[tokio::test]
async fn a_known_registry_is_not_asked_how_it_wants_to_be_asked() {
    let (fixture, _) = with_tokens("300").arrives().await;
    fixture.registry.state().requests.clear();
    let report = fixture.push().await.unwrap();
    let asked: Vec<_> =
        fixture.registry.state().requests.iter().map(|it| it.method.clone()).collect();
    // The token, and the tag: two, as it takes without a login.
    assert_eq!((report.requests, asked), (1, vec!["GET".to_owned(), "HEAD".to_owned()]));
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_renewed() {
    let fixture = with_tokens("300");
    let revoke = Lie::After(Arc::new(|state: &mut State| state.valid.clear()));
    let fixture = fixture.and("PUT", "uploads", (1, 1), revoke.clone());
    let (fixture, _) = fixture.and("PUT", "manifests", (1, 1), revoke).arrives().await;
    assert_eq!(fixture.registry.counts()["GET token"], 3);
}

#[tokio::test]
async fn a_token_that_is_about_to_end_is_renewed_before_it_is_refused() {
    let (fixture, _) = with_tokens("0").arrives().await;
    let state = fixture.registry.state();
    let refused = state.requests.iter().filter(|it| it.header("authorization").is_none());
    assert_eq!(refused.count(), 1, "only the very first");
}

#[tokio::test]
async fn an_identity_token_buys_tokens() {
    let mut fixture = with_tokens("300");
    fixture.credentials = Some(Login::IdentityToken(Secret::new("id&entity")));
    let (fixture, _) = fixture.arrives().await;
    let state = fixture.registry.state();
    let token = state.requests.iter().find(|it| it.target.starts_with("/token")).unwrap();
    assert_eq!((&*token.method, token.header("authorization")), ("POST", None));
    let kind = token.header("content-type");
    assert_eq!(kind, Some("application/x-www-form-urlencoded"));
}

#[tokio::test]
async fn a_token_server_without_tls_elsewhere_gets_no_login() {
    let mut fixture = PushFixture::new(behaving(|it| {
        it.lets_in = Some(lets_in("Bearer realm=\"http://auth.example/token\""));
    }));
    fixture.credentials = Login::password("me", &Secret::new("secret"));
    insta::assert_snapshot!(fixture.fails().await, @r"
    cannot ask registry/etcd what 3.7.1-0 names
      because: registry names no token server that can be used: a URL with https is needed
    ");
}

#[tokio::test]
async fn a_token_server_that_refuses_is_named() {
    let fixture = with_tokens("300").and("GET", "/token", ALWAYS, Lie::Says(403, &[], ""));
    insta::assert_snapshot!(fixture.fails().await, @r"
    cannot ask registry/etcd what 3.7.1-0 names
      because: cannot get a token for registry/etcd
      http://registry/token: 403 Forbidden
    ");
}

#[tokio::test]
async fn a_token_server_that_is_busy_is_asked_again() {
    with_tokens("300").and("GET", "/token", (0, 2), Lie::Says(503, &[], "")).arrives().await;
}
