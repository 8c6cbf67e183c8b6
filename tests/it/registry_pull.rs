//! Pulling from a registry on 127.0.0.1.

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use etcdimg::digest::Digest;
use etcdimg::fetch::http::{Client, TlsTrust, reason};
use etcdimg::registry::{
    CHUNK_BYTES, Credentials, Registries, RegistryError, RegistryOptions, RemoteRepository,
};
use oci::{PinnedReference, Reference, Repository};

use crate::fetch::{FILE, FetchFixture, ui};
use crate::release_server::{FakeResponse, ReleaseServer};
use crate::require;

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

/// A registry that wants a token from its own token server.
struct TokenRegistry {
    server: ReleaseServer,
    challenge: String,
}

impl TokenRegistry {
    fn start() -> Self {
        let server = ReleaseServer::start();
        let realm = server.on("/token", [FakeResponse::file(br#"{"token": "t0ken"}"#)]);
        let scope = "repository:library/busybox:pull,push";
        let challenge = format!(r#"Bearer realm="{realm}",service="here",scope="{scope}""#);
        Self { server, challenge }
    }

    fn serve(&self, kind: &str, digest: Digest, answer: FakeResponse) {
        let answer = answer.only_for("Bearer t0ken", &self.challenge);
        self.server.on(&format!("/v2/library/busybox/{kind}/{digest}"), [answer]);
    }

    fn reference(&self, digest: Digest) -> PinnedReference {
        format!("{}/library/busybox:1@{digest}", self.server.host()).parse().unwrap()
    }

    fn targets(&self) -> Vec<String> {
        self.server.requests().into_iter().map(|request| request.target).collect()
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_only_what_is_needed_is_pulled() {
    let (registry, fixture) = (TokenRegistry::start(), FetchFixture::new());
    let (manifest, layer) = (Digest::of(MANIFEST), Digest::of(&*FILE));
    registry.serve("manifests", manifest, FakeResponse::file(MANIFEST));
    registry.serve("blobs", layer, FakeResponse::file(&FILE));
    let remote = remote(&fixture, &registry.reference(manifest).repository).await;
    let pull = async || remote.get_document(&fixture.store, "busybox", manifest).await.unwrap();

    assert_eq!(pull().await, MANIFEST);
    remote.get_blob(&fixture.store, layer, FILE.len() as u64).await.unwrap();
    // Everything is there now.
    assert_eq!(pull().await, MANIFEST);
    fixture.assert_whole();

    let first = format!("/v2/library/busybox/manifests/{manifest}");
    let token = "/token?service=here&scope=repository%3Alibrary%2Fbusybox%3Apull";
    let blob = format!("/v2/library/busybox/blobs/{layer}");
    assert_eq!(registry.targets(), [&first, token, &first, &blob]);
    let accept = registry.server.received("accept")[0].clone().unwrap();
    for media_type in ["oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2"] {
        assert!(accept.contains(media_type), "{accept}");
    }
    assert!(!format!("{remote:?}").contains("t0ken"));
}

#[tokio::test]
async fn documents_and_blobs_share_one_token_with_the_next_run() {
    let (registry, fixture) = (TokenRegistry::start(), FetchFixture::new());
    let (manifest, layer) = (Digest::of(MANIFEST), Digest::of(&*FILE));
    registry.serve("manifests", manifest, FakeResponse::file(MANIFEST));
    registry.serve("blobs", layer, FakeResponse::file(&FILE));
    let reference = registry.reference(manifest);
    let named =
        Reference { repository: reference.repository.clone(), tag: None, digest: Some(manifest) };
    for run in 0..2 {
        let before = registry.targets().len();
        let remote = remote(&fixture, &reference.repository).await;
        remote.get_manifest(&named).await.unwrap().unwrap();
        remote.get_blob(&fixture.store, layer, FILE.len() as u64).await.unwrap();
        let targets = registry.targets().split_off(before);
        let tokens = targets.iter().filter(|it| it.starts_with("/token")).count();
        assert_eq!(tokens, 1, "{targets:?}");
        // The first run is refused once; the second knows how this registry wants to be asked.
        assert_eq!(targets.len(), [4, 2][run], "{targets:?}");
    }
}

#[tokio::test]
async fn a_broken_blob_is_resumed_with_the_token() {
    let (registry, fixture) = (TokenRegistry::start(), FetchFixture::new());
    let layer = Digest::of(&*FILE);
    fixture.leave(&FILE[..5000]);
    registry.serve("blobs", layer, FakeResponse::file(&FILE));
    let remote = remote(&fixture, &registry.reference(layer).repository).await;
    remote.get_blob(&fixture.store, layer, FILE.len() as u64).await.unwrap();
    fixture.assert_whole();
    assert_eq!(registry.server.received("range").last().unwrap().as_deref(), Some("bytes=5000-"));
}

#[tokio::test]
async fn a_manifest_that_lies_is_refused() {
    let (registry, fixture) = (TokenRegistry::start(), FetchFixture::new());
    let digest = Digest::of(MANIFEST);
    registry.serve("manifests", digest, FakeResponse::file(br#"{"schemaVersion":3}"#));
    let error = pull_manifest(&fixture, &registry.reference(digest)).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Fetch(error) if error.is_wrong_bytes()));
    assert!(fixture.store.entries().unwrap().is_empty());
    let text = error.to_string().replace(&registry.server.host(), "registry");
    insta::assert_snapshot!(text, @r"
    cannot fetch `registry/library/busybox:1@sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f`
      http://registry/v2/library/busybox/manifests/sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f: wrong digest
        expected sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f
        received sha256:d6b7646f6ede911358f954a0ccae376703f1c0e8854a9953a4a77a968b600b80
    ");
}

/// As `verify`, `copy` and `push` read documents, into memory.
#[tokio::test]
async fn a_manifest_that_is_asked_for_by_digest_must_have_it() {
    let (registry, fixture) = (TokenRegistry::start(), FetchFixture::new());
    let digest = Digest::of(MANIFEST);
    registry.serve("manifests", digest, FakeResponse::file(br#"{"schemaVersion":3}"#));
    let repository = registry.reference(digest).repository;
    let remote = remote(&fixture, &repository).await;
    let reference = Reference { repository, tag: None, digest: Some(digest) };
    let error = remote.get_manifest(&reference).await.unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { expected, .. } if expected == digest));
}

#[tokio::test]
async fn a_manifest_larger_than_4_mib_is_refused() {
    let (registry, fixture) = (TokenRegistry::start(), FetchFixture::new());
    let large = vec![b' '; (4 << 20) + 1];
    let digest = Digest::of(&large);
    registry.serve("manifests", digest, FakeResponse::file(&large));
    let error = pull_manifest(&fixture, &registry.reference(digest)).await.unwrap_err();
    assert!(error.to_string().ends_with("longer than the 4.2 MB allowed"), "{error}");
}

#[tokio::test]
async fn a_token_is_never_sent_to_another_host() {
    let (registry, elsewhere) = (TokenRegistry::start(), ReleaseServer::start());
    let fixture = FetchFixture::new();
    let stored = elsewhere.on("/stored", [FakeResponse::file(&FILE)]);
    let layer = Digest::of(&*FILE);
    registry.serve("blobs", layer, FakeResponse::redirect(&format!("{stored}?signature=secret")));
    let remote = remote(&fixture, &registry.reference(layer).repository).await;
    remote.get_blob(&fixture.store, layer, FILE.len() as u64).await.unwrap();
    fixture.assert_whole();
    let sent = registry.server.received("authorization");
    assert_eq!(sent.last().unwrap().as_deref(), Some("Bearer t0ken"));
    assert_eq!(elsewhere.received("authorization"), [None]);
    assert_eq!(elsewhere.received("referer"), [None]);
}

#[tokio::test]
async fn nobody_a_redirect_leads_to_can_ask_who_we_are() {
    let (server, elsewhere) = (ReleaseServer::start(), ReleaseServer::start());
    let (fixture, folder) = (FetchFixture::new(), tempfile::tempdir().unwrap());
    let auths = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#, server.host());
    fs::write(folder.path().join("config.json"), auths).unwrap();
    let digest = Digest::of(MANIFEST);
    // It asks for the login of a token server of its own, and then simply for the login.
    let realm = elsewhere.on("/token", [FakeResponse::file(br#"{"token": "t"}"#)]);
    let bearer = format!(r#"Bearer realm="{realm}""#);
    for challenge in [&*bearer, "Basic realm=\"here\""] {
        let answer = FakeResponse::file(MANIFEST).only_for("Basic bWU6c2VjcmV0", challenge);
        let stored = elsewhere.on("/stored", [answer]);
        server.on(&format!("/v2/etcd/manifests/{digest}"), [FakeResponse::redirect(&stored)]);
        server.on("/v2/etcd/manifests/latest", [FakeResponse::redirect(&stored)]);
        let reference: PinnedReference =
            format!("{}/etcd@{digest}", server.host()).parse().unwrap();
        let credentials = Credentials::load(folder.path()).unwrap();
        let remote = remote_as(&fixture, &reference.repository, credentials).await;
        let error = remote.get_document(&fixture.store, "etcd", digest).await.unwrap_err();
        assert!(error.to_string().ends_with("401 Unauthorized"), "{error}");
        let latest = Reference { repository: reference.repository, tag: None, digest: None };
        let error = remote.get_manifest(&latest).await.unwrap_err();
        assert!(error.to_string().ends_with("401 Unauthorized"), "{error}");
    }
    assert!(elsewhere.received("authorization").iter().all(Option::is_none));
    assert!(elsewhere.requests().iter().all(|request| !request.target.starts_with("/token")));
}

/// A server with TLS that answers `/` with a redirect, for as long as it lives.
struct TlsRedirect {
    server: Child,
    /// The server would end if its output pipe were closed.
    _said: Lines<BufReader<ChildStdout>>,
    _folder: tempfile::TempDir,
    port: String,
}

impl TlsRedirect {
    #[track_caller]
    fn start(to: &str) -> Self {
        require::program(&["openssl", "version"]);
        let folder = tempfile::tempdir().unwrap();
        let mut openssl = Command::new("openssl");
        openssl
            .current_dir(&folder)
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", "key", "-out", "cert"]);
        openssl.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]);
        assert!(openssl.output().unwrap().status.success());
        let answer = format!("HTTP/1.0 307 Said\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        fs::write(folder.path().join("stored"), answer).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.current_dir(&folder).args(["s_server", "-accept", "127.0.0.1:0", "-HTTP"]);
        openssl.args(["-cert", "cert", "-key", "key"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = openssl.spawn().unwrap();
        let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
        let accepts = said.by_ref().map(Result::unwrap).find(|line| line.starts_with("ACCEPT"));
        let port = accepts.unwrap().rsplit(':').next().unwrap().to_owned();
        Self { server, _said: said, _folder: folder, port }
    }
}

impl Drop for TlsRedirect {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "needs openssl"]
async fn a_redirect_from_tls_to_a_place_without_is_not_followed() {
    // Nobody is at this address (RFC 5737), and nobody must be looked for there.
    let server = TlsRedirect::start("http://192.0.2.1/stored");
    let trust = TlsTrust { unverified: ["127.0.0.1".to_owned()].into(), ..TlsTrust::default() };
    let client = Client::new(Duration::from_secs(2), Duration::from_secs(2)).trusting(trust);
    let url = format!("https://127.0.0.1:{}/stored", server.port).parse().unwrap();
    let error = client.get(url).unwrap().send().await.unwrap_err();
    assert_eq!(reason(&error), "refusing a redirect from https to http");
}

#[tokio::test]
async fn a_bearer_token_is_preferred_among_several_ways_in() {
    let (registry, fixture) = (TokenRegistry::start(), FetchFixture::new());
    let digest = Digest::of(MANIFEST);
    let asks = FakeResponse::status(401)
        .header("www-authenticate", "Basic realm=\"here\"")
        .header("www-authenticate", &registry.challenge);
    registry.server.on(
        &format!("/v2/library/busybox/manifests/{digest}"),
        [asks, FakeResponse::file(MANIFEST)],
    );
    assert_eq!(pull_manifest(&fixture, &registry.reference(digest)).await.unwrap(), MANIFEST);
}

#[tokio::test]
async fn a_login_is_sent_only_where_it_belongs() {
    let server = ReleaseServer::start();
    let (fixture, folder) = (FetchFixture::new(), tempfile::tempdir().unwrap());
    let auths = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#, server.host());
    fs::write(folder.path().join("config.json"), auths).unwrap();
    let digest = Digest::of(MANIFEST);
    let answer =
        FakeResponse::file(MANIFEST).only_for("Basic bWU6c2VjcmV0", "Basic realm=\"here\"");
    server.on(&format!("/v2/etcd/manifests/{digest}"), [answer]);
    let reference: PinnedReference = format!("{}/etcd@{digest}", server.host()).parse().unwrap();

    let error = chain(&pull_manifest(&fixture, &reference).await.unwrap_err());
    assert!(error.ends_with("asks for a login, and none is known for it"), "{error}");
    let credentials = Credentials::load(folder.path()).unwrap();
    let remote = remote_as(&fixture, &reference.repository, credentials).await;
    let pulled = remote.get_document(&fixture.store, "etcd", digest).await;
    assert_eq!(pulled.unwrap(), MANIFEST);
    assert!(!format!("{remote:?}").contains("bWU6"));
}

#[tokio::test]
async fn a_token_server_that_refuses_is_named() {
    let (registry, fixture) = (TokenRegistry::start(), FetchFixture::new());
    registry.server.on("/token", [FakeResponse::status(403)]);
    let digest = Digest::of(MANIFEST);
    registry.serve("manifests", digest, FakeResponse::file(MANIFEST));
    let error = pull_manifest(&fixture, &registry.reference(digest)).await.unwrap_err();
    let text = chain(&error).replace(&registry.server.host(), "registry");
    let text = text.replace(&digest.to_string(), "sha256:…");
    insta::assert_snapshot!(text, @r"
    cannot pull registry/library/busybox:1@sha256:…
    cannot get a token for registry/library/busybox
      http://registry/token: 403 Forbidden
    ");
}

async fn pull_manifest(
    fixture: &FetchFixture,
    reference: &PinnedReference,
) -> Result<Vec<u8>, RegistryError> {
    let remote = remote(fixture, &reference.repository).await;
    remote.get_document(&fixture.store, &reference.to_string(), reference.digest).await
}

async fn remote(fixture: &FetchFixture, repository: &Repository) -> RemoteRepository {
    remote_as(fixture, repository, Credentials::default()).await
}

/// A new client of the registry, as a new process would have.
async fn remote_as(
    fixture: &FetchFixture,
    repository: &Repository,
    credentials: Credentials,
) -> RemoteRepository {
    let options = RegistryOptions {
        fetch: fixture.options.clone(),
        credentials: Arc::new(credentials),
        cache_dir: fixture.store.root().to_owned(),
        chunk_bytes: CHUNK_BYTES,
        progress: Arc::new(ui()),
    };
    Registries::new(options).pull_from(repository).await
}

/// An error and its sources, one on each line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(error) = reason {
        text = format!("{text}\n{error}");
        reason = error.source();
    }
    text
}
