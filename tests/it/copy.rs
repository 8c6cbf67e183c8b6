//! `etcdimg copy`, `promote` and `verify` between registries on 127.0.0.1.

use std::collections::BTreeSet;
use std::process::Command;

use etcdimg::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::catalog_fixture::{Run, without_digests};
use crate::layout_fixture::{self, LayoutFixture, SEVEN};
use crate::lies::{Behaviour, Lie};
use crate::lying_registry::LyingRegistry;

struct CopyFixture {
    from: LyingRegistry,
    to: LyingRegistry,
    home: TempDir,
    layout: LayoutFixture,
}

impl CopyFixture {
    /// The source has the layout, and a signature of its index.
    fn new(from: Behaviour, to: Behaviour) -> Self {
        let (from, to) = (LyingRegistry::start(from), LyingRegistry::start(to));
        let (home, layout) =
            (tempfile::tempdir().unwrap(), LayoutFixture::new(&SEVEN[..3], 5000, 0));
        let fixture = Self { from, to, home, layout };
        let layout = fixture.layout.path().to_str().unwrap().to_owned();
        fixture.run(&["push", &layout, "--registry", &fixture.from.host()]).ok();
        fixture
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
        for variable in
            ["ETCDIMG_CACHE", "REGISTRY", "PUSH_REGISTRY", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"]
        {
            command.env_remove(variable);
        }
        command.env_remove("REGISTRY_AUTH_FILE").env_remove("XDG_CONFIG_HOME");
        command.env("HOME", self.home.path()).current_dir(self.home.path()).args(arguments);
        let output =
            command.arg("--cache-dir").arg(self.home.path().join("cache")).output().unwrap();
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(&self.from.host(), "from").replace(&self.to.host(), "to")
        };
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Puts a manifest with a subject into the source, as a signing tool would.
    fn sign(&self) -> Digest {
        let (config, layer) = (&b"{}"[..], &b"signature"[..]);
        let mut state = self.from.state();
        let mut blob = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            state.blobs.insert(("etcd".to_owned(), digest), bytes.to_vec());
            json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": layout_fixture::MANIFEST,
            "artifactType": "application/example.signature",
            "config": blob("application/vnd.oci.empty.v1+json", config),
            "layers": [blob("application/example.signature", layer)],
            "subject": { "mediaType": layout_fixture::INDEX, "digest": self.layout.index, "size": 1 },
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        state
            .manifests
            .insert(("etcd".to_owned(), digest), (layout_fixture::MANIFEST.to_owned(), bytes));
        digest
    }

    fn assert_copied(&self, repository: &str) {
        let (plan, state) = (self.layout.plan(), self.to.state());
        for blob in &plan.blobs {
            assert!(state.blobs.contains_key(&(repository.to_owned(), blob.digest)));
        }
        assert_eq!(state.tags[&(repository.to_owned(), "3.7.1-0".to_owned())], self.layout.index);
        assert_eq!(state.violations, Vec::<String>::new());
    }
}

#[test]
fn an_image_is_copied_with_its_platforms_and_referrers() {
    let fixture = CopyFixture::new(Behaviour::default(), Behaviour::default());
    let signature = fixture.sign();
    let (from, to) = (
        format!("{}/etcd:3.7.1-0", fixture.from.host()),
        format!("{}/prod/etcd", fixture.to.host()),
    );
    let said = fixture.run(&["copy", &from, &to]).ok();
    assert_eq!(said, format!("to/prod/etcd@{}", fixture.layout.index));
    fixture.assert_copied("prod/etcd");
    assert!(fixture.to.state().manifests.contains_key(&("prod/etcd".to_owned(), signature)));
    // All of it is there now.
    let received = fixture.to.state().received;
    fixture.run(&["copy", &from, &to]).ok();
    assert_eq!(fixture.to.state().received, received);
}

#[test]
fn what_refers_to_an_image_is_copied_before_its_tag_is_set() {
    let mut fixture = CopyFixture::new(Behaviour::default(), Behaviour::default());
    let signature = fixture.sign();
    let refused = Lie::Says(400, &[], r#"{"errors": [{"code": "MANIFEST_INVALID"}]}"#);
    fixture.to = fixture.to.lie("PUT", &format!("manifests/{signature}"), (0, 1), refused);
    let (from, to) =
        (format!("{}/etcd:3.7.1-0", fixture.from.host()), format!("{}/etcd", fixture.to.host()));
    let error = without_digests(&fixture.run(&["copy", &from, &to]).error());
    insta::assert_snapshot!(error, @r"
    error: cannot push the manifest … to to/etcd: 400 Bad Request, MANIFEST_INVALID
    hint: run the command again: it continues where it stopped
    hint: no tag has moved
    exit 5
    ");
    assert!(fixture.to.state().tags.is_empty());
    fixture.run(&["copy", &from, &to]).ok();
    fixture.assert_copied("etcd");
}

#[test]
fn more_referrers_than_are_copied_are_an_error() {
    let fixture = CopyFixture::new(Behaviour::default(), Behaviour::default());
    for i in 0..1001 {
        let subject = json!({ "digest": fixture.layout.index });
        let bytes = json!({ "subject": subject, "i": i }).to_string().into_bytes();
        let key = ("etcd".to_owned(), Digest::of(&bytes));
        fixture.from.state().manifests.insert(key, (layout_fixture::MANIFEST.to_owned(), bytes));
    }
    let (from, to) =
        (format!("{}/etcd:3.7.1-0", fixture.from.host()), format!("{}/etcd", fixture.to.host()));
    let error = fixture.run(&["copy", &from, &to]).error();
    assert!(error.contains("more than 1000 documents refer to it"), "{error}");
    assert!(fixture.to.state().requests.is_empty());
}

#[test]
fn referrers_are_listed_by_a_tag_where_there_is_no_api() {
    let old = Behaviour { knows_referrers: false, ..Behaviour::default() };
    let fixture = CopyFixture::new(Behaviour::default(), old);
    let signature = fixture.sign();
    let (from, to) =
        (format!("{}/etcd:3.7.1-0", fixture.from.host()), format!("{}/etcd", fixture.to.host()));
    fixture.run(&["copy", &from, &to]).ok();
    fixture.run(&["copy", &from, &to]).ok();
    let tag = fixture.layout.index.to_string().replace(':', "-");
    let state = fixture.to.state();
    let list = state.tags[&("etcd".to_owned(), tag)];
    let list: Value =
        serde_json::from_slice(&state.manifests[&("etcd".to_owned(), list)].1).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 1, "listed once");
    assert_eq!(list["manifests"][0]["digest"], signature.to_string());
    assert_eq!(list["manifests"][0]["artifactType"], "application/example.signature");
    drop(state);
    // And they are found there when it is copied on.
    let third = LyingRegistry::start(Behaviour::default());
    let (from, to) = (
        format!("{}/etcd@{}", fixture.to.host(), fixture.layout.index),
        format!("{}/etcd:x", third.host()),
    );
    fixture.run(&["copy", &from, &to]).ok();
    assert!(third.state().manifests.contains_key(&("etcd".to_owned(), signature)));
}

#[test]
fn what_others_have_put_on_the_list_of_referrers_stays() {
    let old = Behaviour { knows_referrers: false, ..Behaviour::default() };
    let fixture = CopyFixture::new(Behaviour::default(), old);
    let signature = fixture.sign();
    let tag = ("etcd".to_owned(), fixture.layout.index.to_string().replace(':', "-"));
    let document = json!({ "of": "somebody else" }).to_string().into_bytes();
    let other = Digest::of(&document);
    let stored = (layout_fixture::MANIFEST.to_owned(), document);
    fixture.to.state().manifests.insert(("etcd".to_owned(), other), stored);
    let other = json!({
        "mediaType": layout_fixture::MANIFEST, "digest": other, "size": 22,
        "annotations": { "made": "by somebody else" },
    });
    let list = json!({
        "schemaVersion": 2, "mediaType": layout_fixture::INDEX, "manifests": [other],
    });
    let list = list.to_string().into_bytes();
    let key = ("etcd".to_owned(), Digest::of(&list));
    fixture.to.state().tags.insert(tag.clone(), key.1);
    fixture.to.state().manifests.insert(key, (layout_fixture::INDEX.to_owned(), list));
    let (from, to) =
        (format!("{}/etcd:3.7.1-0", fixture.from.host()), format!("{}/etcd", fixture.to.host()));
    fixture.run(&["copy", &from, &to]).ok();
    let state = fixture.to.state();
    let (_, list) = &state.manifests[&("etcd".to_owned(), state.tags[&tag])];
    let list: Value = serde_json::from_slice(list).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(list["manifests"][0], other);
    assert_eq!(list["manifests"][1]["digest"], signature.to_string());
}

#[test]
fn within_a_registry_no_byte_leaves_it() {
    let fixture = CopyFixture::new(Behaviour::default(), Behaviour::default());
    let host = fixture.from.host();
    let received = fixture.from.state().received;
    fixture
        .run(&["copy", &format!("{host}/etcd:3.7.1-0"), &format!("{host}/prod/etcd:released")])
        .ok();
    let state = fixture.from.state();
    assert_eq!(state.received, received);
    assert_eq!(state.tags[&("prod/etcd".to_owned(), "released".to_owned())], fixture.layout.index);
    assert!(!state.requests.iter().any(|it| it.method == "GET" && it.target.contains("/blobs/")));
}

#[test]
fn a_copy_takes_no_tag_from_another_image() {
    let fixture = CopyFixture::new(Behaviour::default(), Behaviour::default());
    let other = LayoutFixture::new(&SEVEN[..1], 100, 0);
    fixture.run(&["push", other.path().to_str().unwrap(), "--registry", &fixture.to.host()]).ok();
    let (from, to) =
        (format!("{}/etcd:3.7.1-0", fixture.from.host()), format!("{}/etcd", fixture.to.host()));
    let error = without_digests(&fixture.run(&["copy", &from, &to]).error());
    insta::assert_snapshot!(error, @r"
    error: to/etcd has another image tagged 3.7.1-0
      expected sha256:…
      received sha256:…
    hint: the next free tag is 3.7.1-1: set `revision: 1` in versions.yaml and build again
    hint: `--force` moves the tag to this image
    exit 8
    ");
    fixture.run(&["copy", &from, &to, "--force"]).ok();
    fixture.assert_copied("etcd");
    let error = fixture.run(&["copy", &from.replace("3.7.1-0", "9.9.9-9"), &to]).error();
    insta::assert_snapshot!(error, @r"
    error: from/etcd:9.9.9-9 does not exist
    exit 5
    ");
}

#[test]
fn what_a_release_touches_is_listed() {
    let fixture = CopyFixture::new(Behaviour::default(), Behaviour::default());
    let line = format!("\"{}\": [\"3.7.1-0\"]", fixture.layout.index);
    let reference = format!("{}/etcd:3.7.1-0", fixture.from.host());
    assert_eq!(fixture.run(&["promote", "--list", &reference, "-q"]).ok(), line);
    let layout = fixture.layout.path().to_str().unwrap();
    assert_eq!(fixture.run(&["promote", "--list", layout, "-q"]).ok(), line);
    insta::assert_snapshot!(fixture.run(&["promote", "--list", layout]).stderr, @r"
    note: it belongs to `dmap:` of etcd in the promoter's images.yaml; then these name the version:
    note:   build/dependencies.yaml: `etcd`, `etcd-image`, `golang: etcd release version`
    note:   cluster/gce/manifests/etcd.manifest: the tag and TARGET_VERSION
    note:   cluster/gce/upgrade-aliases.sh: ETCD_IMAGE, ETCD_VERSION
    note:   cmd/kubeadm/app/constants/constants.go: DefaultEtcdVersion, MinExternalEtcdVersion, SupportedEtcdVersion
    note:   hack/lib/etcd.sh: ETCD_VERSION
    note:   staging/src/k8s.io/sample-apiserver/artifacts/example/deployment.yaml: the tag
    note:   test/e2e/testing-manifests/statefulset/etcd/statefulset.yaml: the tag
    note:   test/utils/image/manifest.go: the tag
    ");
    let run = fixture.run(&["promote", "--list", layout, "--format", "json"]);
    let listed: Value = serde_json::from_str(&run.ok()).unwrap();
    assert_eq!(listed["promoter"][fixture.layout.index.to_string()], json!(["3.7.1-0"]));
    assert_eq!(listed["places"].as_array().unwrap().len(), 8);
}

#[test]
fn a_reference_is_verified_like_a_layout() {
    // Its programs are none, which `verify` has to notice in both.
    let fixture = CopyFixture::new(Behaviour::default(), Behaviour::default());
    let layout =
        fixture.run(&["verify", fixture.layout.path().to_str().unwrap(), "--format", "json"]);
    let reference = format!("{}/etcd:3.7.1-0", fixture.from.host());
    let pulled = fixture.run(&["verify", &reference, "--format", "json"]);
    assert_eq!((pulled.code, layout.code), (Some(4), Some(4)));
    let report = |run: &Run| serde_json::from_str::<Value>(&run.stdout).unwrap();
    assert_eq!(report(&pulled), report(&layout));
    assert_eq!(std::fs::read_dir(fixture.home.path().join("cache/tmp")).unwrap().count(), 0);
}

#[test]
fn a_test_pulls_nothing_of_other_platforms() {
    // Nobody can run that image, but what is pulled is decided before that is seen.
    let fixture = CopyFixture::new(Behaviour::default(), Behaviour::default());
    let reference = format!("{}/etcd:3.7.1-0", fixture.from.host());
    let before = fixture.from.state().requests.len();
    let run = fixture.run(&["test", &reference, "--arch=arm64", "--suite=run", "--list"]);
    assert_eq!(run.code, Some(4), "{}", run.stderr);
    let content = fixture.layout.content();
    let arm64 = content.images.iter().find(|it| it.platform.as_deref() == Some("linux/arm64"));
    let expected = arm64.unwrap().blobs.iter().map(|blob| blob.digest.to_string());
    let state = fixture.from.state();
    let pulled = state.requests[before..].iter().filter(|it| it.target.contains("/blobs/"));
    let pulled = pulled.map(|it| it.target.rsplit('/').next().unwrap().to_owned());
    assert_eq!(pulled.collect::<BTreeSet<_>>(), expected.collect());
}
