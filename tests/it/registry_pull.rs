//! Pulling from a registry on 127.0.0.1.

use std::fs;

use etcdimg::digest::Digest;
use etcdimg::registry::{Credentials, Puller, Reference, RegistryError};

use crate::fetch::{Bench, FILE, ui};
use crate::release_server::{Answer, ReleaseServer};

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

/// A registry that wants a token from its own token server.
struct TokenRegistry {
    server: ReleaseServer,
    challenge: String,
}

impl TokenRegistry {
    fn start() -> Self {
        let server = ReleaseServer::start();
        let realm = server.on("/token", [Answer::file(br#"{"token": "t0ken"}"#)]);
        let scope = "repository:library/busybox:pull,push";
        let challenge = format!(r#"Bearer realm="{realm}",service="here",scope="{scope}""#);
        Self { server, challenge }
    }

    fn serve(&self, kind: &str, digest: Digest, answer: Answer) {
        let answer = answer.only_for("Bearer t0ken", &self.challenge);
        self.server.on(&format!("/v2/library/busybox/{kind}/{digest}"), [answer]);
    }

    fn reference(&self, digest: Digest) -> Reference {
        format!("{}/library/busybox:1@{digest}", self.server.host()).parse().unwrap()
    }

    fn targets(&self) -> Vec<String> {
        self.server.requests().into_iter().map(|request| request.target).collect()
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_only_what_is_needed_is_pulled() {
    let (registry, bench) = (TokenRegistry::start(), Bench::new());
    let (manifest, layer) = (Digest::of(MANIFEST), Digest::of(&*FILE));
    registry.serve("manifests", manifest, Answer::file(MANIFEST));
    registry.serve("blobs", layer, Answer::file(&FILE));
    let reference = registry.reference(manifest);
    let ui = ui();
    let puller = Puller::new(&bench.store, &bench.options, &ui, Credentials::default());

    assert_eq!(puller.pull_manifest(&reference).await.unwrap(), MANIFEST);
    let size = FILE.len() as u64;
    puller.pull_blob(&reference.repository, layer, size).await.unwrap();
    // Everything is there now.
    assert_eq!(puller.pull_manifest(&reference).await.unwrap(), MANIFEST);
    bench.assert_whole();

    let first = format!("/v2/library/busybox/manifests/{manifest}");
    let token = "/token?service=here&scope=repository%3Alibrary%2Fbusybox%3Apull";
    let blob = format!("/v2/library/busybox/blobs/{layer}");
    assert_eq!(registry.targets(), [&first, token, &first, &blob]);
    let accept = registry.server.heard("accept")[0].clone().unwrap();
    for media_type in ["oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2"] {
        assert!(accept.contains(media_type), "{accept}");
    }
    assert!(!format!("{puller:?}").contains("t0ken"));
}

#[tokio::test]
async fn a_broken_blob_is_resumed_with_the_token() {
    let (registry, bench) = (TokenRegistry::start(), Bench::new());
    let layer = Digest::of(&*FILE);
    bench.leave(&FILE[..5000]);
    registry.serve("blobs", layer, Answer::file(&FILE));
    let reference = registry.reference(layer);
    let ui = ui();
    let puller = Puller::new(&bench.store, &bench.options, &ui, Credentials::default());
    puller.pull_blob(&reference.repository, layer, FILE.len() as u64).await.unwrap();
    bench.assert_whole();
    assert_eq!(registry.server.heard("range").last().unwrap().as_deref(), Some("bytes=5000-"));
}

#[tokio::test]
async fn a_manifest_that_lies_is_refused() {
    let (registry, bench) = (TokenRegistry::start(), Bench::new());
    let digest = Digest::of(MANIFEST);
    registry.serve("manifests", digest, Answer::file(br#"{"schemaVersion":3}"#));
    let error = pull_manifest(&bench, &registry.reference(digest)).await.unwrap_err();
    assert!(error.is_wrong_bytes());
    assert!(bench.store.entries().unwrap().is_empty());
    let text = error.to_string().replace(&registry.server.host(), "registry");
    insta::assert_snapshot!(text, @r"
    cannot fetch `registry/library/busybox:1@sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f`
      http://registry/v2/library/busybox/manifests/sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f: wrong digest
        expected sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f
        received sha256:d6b7646f6ede911358f954a0ccae376703f1c0e8854a9953a4a77a968b600b80
    ");
}

#[tokio::test]
async fn a_manifest_larger_than_4_mib_is_refused() {
    let (registry, bench) = (TokenRegistry::start(), Bench::new());
    let large = vec![b' '; (4 << 20) + 1];
    let digest = Digest::of(&large);
    registry.serve("manifests", digest, Answer::file(&large));
    let error = pull_manifest(&bench, &registry.reference(digest)).await.unwrap_err();
    assert!(error.to_string().ends_with("longer than the 4.2 MB allowed"), "{error}");
}

#[tokio::test]
async fn a_token_is_never_sent_to_another_host() {
    let (registry, elsewhere) = (TokenRegistry::start(), ReleaseServer::start());
    let bench = Bench::new();
    let stored = elsewhere.on("/stored", [Answer::file(&FILE)]);
    let layer = Digest::of(&*FILE);
    registry.serve("blobs", layer, Answer::redirect(&format!("{stored}?signature=secret")));
    let repository = registry.reference(layer).repository;
    let ui = ui();
    let puller = Puller::new(&bench.store, &bench.options, &ui, Credentials::default());
    puller.pull_blob(&repository, layer, FILE.len() as u64).await.unwrap();
    bench.assert_whole();
    let sent = registry.server.heard("authorization");
    assert_eq!(sent.last().unwrap().as_deref(), Some("Bearer t0ken"));
    assert_eq!(elsewhere.heard("authorization"), [None]);
    assert_eq!(elsewhere.heard("referer"), [None]);
}

#[tokio::test]
async fn a_login_is_sent_only_where_it_belongs() {
    let server = ReleaseServer::start();
    let (bench, folder) = (Bench::new(), tempfile::tempdir().unwrap());
    let auths = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#, server.host());
    fs::write(folder.path().join("config.json"), auths).unwrap();
    let digest = Digest::of(MANIFEST);
    let answer = Answer::file(MANIFEST).only_for("Basic bWU6c2VjcmV0", "Basic realm=\"here\"");
    server.on(&format!("/v2/etcd/manifests/{digest}"), [answer]);
    let reference: Reference = format!("{}/etcd@{digest}", server.host()).parse().unwrap();

    let error = pull_manifest(&bench, &reference).await.unwrap_err();
    assert!(error.to_string().ends_with("wants a login, and there is none for it"), "{error}");
    let (ui, credentials) = (ui(), Credentials::load(folder.path()).unwrap());
    let puller = Puller::new(&bench.store, &bench.options, &ui, credentials);
    assert_eq!(puller.pull_manifest(&reference).await.unwrap(), MANIFEST);
    assert!(!format!("{puller:?}").contains("bWU6"));
}

#[tokio::test]
async fn a_token_server_that_refuses_is_named() {
    let (registry, bench) = (TokenRegistry::start(), Bench::new());
    registry.server.on("/token", [Answer::status(403)]);
    let digest = Digest::of(MANIFEST);
    registry.serve("manifests", digest, Answer::file(MANIFEST));
    let error = pull_manifest(&bench, &registry.reference(digest)).await.unwrap_err();
    let text = error.to_string().replace(&registry.server.host(), "registry");
    insta::assert_snapshot!(text, @r"
    no token for registry/library/busybox
      http://registry/token: 403 Forbidden
    ");
}

async fn pull_manifest(bench: &Bench, reference: &Reference) -> Result<Vec<u8>, RegistryError> {
    let ui = ui();
    let puller = Puller::new(&bench.store, &bench.options, &ui, Credentials::default());
    puller.pull_manifest(reference).await
}
