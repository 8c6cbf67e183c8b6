//! `etcdimg push` as a program: its output for people and scripts, its flags and its errors.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use etcdimg::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::catalog_fixture::{CatalogFixture, Run, without_digests};
use crate::layout_fixture::{self, LayoutFixture, SEVEN};
use crate::lies::{Behaviour, Lie};
use crate::lying_registry::LyingRegistry;

/// A registry, and a home without logins.
pub(crate) struct PushCommandFixture {
    pub registry: LyingRegistry,
    pub home: TempDir,
}

impl PushCommandFixture {
    pub fn new(behaviour: Behaviour) -> Self {
        Self { registry: LyingRegistry::start(behaviour), home: tempfile::tempdir().unwrap() }
    }

    pub fn command(&self, layout: &LayoutFixture) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
        for variable in ["ARCH", "ETCDIMG_CACHE", "REGISTRY", "PUSH_REGISTRY", "DOCKER_CONFIG"] {
            command.env_remove(variable);
        }
        for variable in ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
            command.env_remove(variable);
        }
        let home = self.home.path();
        command.env("HOME", home).current_dir(home).arg("push").arg(layout.path());
        command.arg("--cache-dir").arg(home.join("cache"));
        command.args(["--registry", &self.registry.host()]);
        command
    }

    pub fn push(&self, layout: &LayoutFixture, arguments: &[&str]) -> Run {
        self.finish(self.command(layout).args(arguments))
    }

    pub fn finish(&self, command: &mut Command) -> Run {
        let output = command.output().unwrap();
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            without_digests(&text.replace(&self.registry.host(), "registry"))
        };
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Run { code: output.status.code(), stdout, stderr }
    }

    pub fn assert_there(&self, layout: &LayoutFixture) {
        let (plan, state) = (layout.plan(), self.registry.state());
        for blob in &plan.blobs {
            let there = &state.blobs[&("etcd".to_owned(), blob.digest)];
            assert_eq!(Digest::of(there), blob.digest);
        }
        assert_eq!(state.tags[&("etcd".to_owned(), layout.tag.clone())], layout.index);
        assert_eq!(state.violations, Vec::<String>::new());
    }
}

#[test]
fn all_push_takes_no_part_for_the_whole() {
    let catalog = CatalogFixture::empty();
    let arguments = ["--registry", "localhost:1", "--platform", "linux/amd64"];
    insta::assert_snapshot!(catalog.run("all-push", &arguments).error(), @r"
    error: all-push takes every default target: a part of them is no release
    hint: leave out `--platform`, `--arch` and ARCH
    hint: `etcdimg build --platform P` and `etcdimg push --platform P` for one of them
    exit 1
    ");
    insta::assert_snapshot!(catalog.run("all-push", &[]).error(), @r"
    error: no registry to push to
    hint: name one with `--registry REGISTRY`, or PUSH_REGISTRY
    exit 1
    ");
}

/// Adds a signature of the index, and one of that, to a layout.
fn sign(layout: &LayoutFixture) -> [Digest; 2] {
    let mut entries = vec![json!(layout.layout().tagged().unwrap()[0].entry.descriptor().unwrap())];
    let mut subject = layout.index;
    let digests = ["signed", "signed again"].map(|text| {
        let signature = json!({
            "schemaVersion": 2,
            "mediaType": layout_fixture::MANIFEST,
            "config": layout.add("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [layout.add("application/example.signature", text.as_bytes())],
            "subject": { "mediaType": layout_fixture::INDEX, "digest": subject, "size": 1 },
        });
        let entry = layout.add(layout_fixture::MANIFEST, signature.to_string().as_bytes());
        subject = entry["digest"].as_str().unwrap().parse().unwrap();
        entries.push(entry);
        subject
    });
    layout.name(&entries);
    digests
}

#[test]
fn what_refers_to_an_image_goes_with_it_and_before_its_tag() {
    let (pusher, layout) = (PushCommandFixture::new(Behaviour::default()), LayoutFixture::small());
    let signatures = sign(&layout);
    let run = pusher.push(&layout, &["--dry-run"]);
    let said = run.stdout.lines().rev().take(5).collect::<Vec<_>>();
    let said = said.into_iter().rev().collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(said, @r"
    push sha256:… 715 B application/vnd.oci.image.manifest.v1+json
    push sha256:… 504 B application/vnd.oci.image.index.v1+json
    push sha256:… 534 B application/vnd.oci.image.manifest.v1+json
    push sha256:… 535 B application/vnd.oci.image.manifest.v1+json
    tag registry/etcd:3.7.1-0 sha256:…
    ");
    let output = pusher.command(&layout).args(["--format", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = &report["repositories"][0];
    let named = report["referrers"].as_array().unwrap().iter().map(|it| it["digest"].clone());
    assert!(named.eq(signatures.iter().map(|it| json!(it))), "{report}");
    let requests = report["requests"].as_u64().unwrap();
    let estimated = |name: &str| report["forecast"][name].as_u64().unwrap();
    assert!((estimated("least")..=estimated("most")).contains(&requests), "{report}");
    pusher.assert_there(&layout);
    let state = pusher.registry.state();
    for digest in signatures {
        assert!(state.manifests.contains_key(&("etcd".to_owned(), digest)));
    }
    let last = state.requests.last().unwrap();
    assert_eq!((&*last.method, &*last.target), ("PUT", "/v2/etcd/manifests/3.7.1-0"));
}

#[test]
fn a_signature_that_is_refused_leaves_the_tag_alone() {
    let layout = LayoutFixture::small();
    let [_, second] = sign(&layout);
    let refused = Lie::Says(400, &[], r#"{"errors": [{"code": "MANIFEST_INVALID"}]}"#);
    let mut pusher = PushCommandFixture::new(Behaviour::default());
    let part = format!("manifests/{second}");
    pusher.registry = pusher.registry.lie("PUT", &part, (0, 99), refused);
    insta::assert_snapshot!(pusher.push(&layout, &[]).error(), @r"
    error: cannot push the manifest … to registry/etcd: 400 Bad Request, MANIFEST_INVALID
    hint: run the command again: it continues where it stopped
    hint: no tag has moved
    exit 5
    ");
    assert!(pusher.registry.state().tags.is_empty());
}

#[test]
fn a_push_that_fails_among_its_tags_says_which_are_set() {
    let layout = LayoutFixture::small();
    let refused = Lie::Says(400, &[], r#"{"errors": [{"code": "TAG_INVALID"}]}"#);
    let mut pusher = PushCommandFixture::new(Behaviour::default());
    pusher.registry = pusher.registry.lie("PUT", "manifests/latest", (0, 99), refused);
    insta::assert_snapshot!(pusher.push(&layout, &["--tag", "latest"]).error(), @r"
    error: only these tags are set: 3.7.1-0
      because: cannot tag … in registry/etcd as latest: 400 Bad Request, TAG_INVALID
    hint: run the command again: it continues where it stopped
    exit 5
    ");
    pusher.assert_there(&layout);
}

#[test]
fn two_programs_that_push_at_once_send_everything_once() {
    let layout = LayoutFixture::new(&SEVEN[..3], 500_000, 0);
    let pusher = PushCommandFixture::new(Behaviour { pace: Some(20_000), ..Behaviour::default() });
    let children: Vec<_> = (0..3)
        .map(|_| {
            let mut command = pusher.command(&layout);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    pusher.assert_there(&layout);
    assert_eq!(pusher.registry.state().received, layout.size());
}

#[test]
fn standard_output_is_what_was_pushed() {
    let (pusher, layout) = (PushCommandFixture::new(Behaviour::default()), LayoutFixture::small());
    assert_eq!(pusher.push(&layout, &["-q"]).ok(), "registry/etcd@sha256:…");
    let output = pusher.command(&layout).args(["--format", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = &report["repositories"][0];
    assert_eq!(report["digest"], layout.index.to_string());
    assert_eq!(report["blobs"].as_array().unwrap().len(), layout.plan().blobs.len());
    assert_eq!(report["tags"][0]["state"], "same");
    assert_eq!(report["requests"], 1);
}

#[test]
fn a_rehearsal_moves_nothing_and_says_what_would() {
    let (pusher, layout) = (PushCommandFixture::new(Behaviour::default()), LayoutFixture::small());
    let run = pusher.push(&layout, &["--dry-run"]);
    insta::assert_snapshot!(run.stdout, @r"
    push sha256:… 324 B application/vnd.oci.image.config.v1+json
    push sha256:… 100.0 kB application/vnd.oci.image.layer.v1.tar+gzip
    push sha256:… 100.0 kB application/vnd.oci.image.layer.v1.tar+gzip
    push sha256:… 100.0 kB application/vnd.oci.image.layer.v1.tar+gzip
    push sha256:… 510 B application/vnd.oci.image.layer.v1.tar+gzip
    push sha256:… 510 B application/vnd.oci.image.layer.v1.tar+gzip
    push sha256:… 338 B application/vnd.oci.image.config.v1+json
    push sha256:… 715 B application/vnd.oci.image.manifest.v1+json
    push sha256:… 715 B application/vnd.oci.image.manifest.v1+json
    push sha256:… 504 B application/vnd.oci.image.index.v1+json
    tag registry/etcd:3.7.1-0 sha256:…
    ");
    insta::assert_snapshot!(run.stderr.trim(), @"Would push registry/etcd: 301.7 kB moved, 0 B mounted, 0 B skipped, 20 to 29 requests");
    let state = pusher.registry.state();
    assert!(state.requests.iter().all(|request| request.method == "HEAD"));
    assert!(state.blobs.is_empty() && state.tags.is_empty());
}

#[test]
fn a_rehearsal_knows_what_can_be_mounted() {
    let (pusher, layout) = (PushCommandFixture::new(Behaviour::default()), LayoutFixture::small());
    for blob in layout.plan().blobs {
        let bytes = fs::read(layout.blob(&blob.digest)).unwrap();
        pusher.registry.state().blobs.insert(("older".to_owned(), blob.digest), bytes);
    }
    let from = format!("{}/older", pusher.registry.host());
    let run = pusher.push(&layout, &["--dry-run", "--mount-from", &from]);
    let is_blob = |line: &&str| !line.contains("manifest.v1") && !line.contains("index.v1");
    let mut blobs = run.stdout.lines().filter(is_blob).filter(|line| !line.starts_with("tag "));
    assert!(blobs.all(|line| line.starts_with("mount ")), "{}", run.stdout);
    assert!(run.stderr.contains("0 B moved, 301.7 kB mounted, 0 B skipped"), "{}", run.stderr);
    let state = pusher.registry.state();
    assert!(state.requests.iter().all(|request| request.method == "HEAD"));
}

#[test]
fn each_repository_counts_its_own_requests() {
    let (pusher, layout) = (PushCommandFixture::new(Behaviour::default()), LayoutFixture::small());
    let team = format!("{}/team", pusher.registry.host());
    let mut command = pusher.command(&layout);
    let output = command.args(["--registry", &team, "--format", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let state = pusher.registry.state();
    for (at, path) in ["/v2/etcd/", "/v2/team/etcd/"].into_iter().enumerate() {
        let made = state.requests.iter().filter(|it| it.target.starts_with(path)).count();
        assert_eq!(report["repositories"][at]["requests"], made, "{path}");
    }
}

#[test]
fn platforms_get_their_own_tags() {
    let (pusher, layout) =
        (PushCommandFixture::new(Behaviour::default()), LayoutFixture::new(&SEVEN, 1000, 0));
    let run = pusher.push(&layout, &["--platform-tags", "--tag", "latest", "-q"]);
    run.ok();
    let tags = |pusher: &PushCommandFixture| {
        let state = pusher.registry.state();
        state.tags.keys().map(|(_, tag)| tag.clone()).collect::<Vec<_>>().join(" ")
    };
    insta::assert_snapshot!(tags(&pusher), @"3.7.1-0 3.7.1-0-linux-amd64 3.7.1-0-linux-arm 3.7.1-0-linux-arm64 3.7.1-0-linux-ppc64le 3.7.1-0-linux-s390x 3.7.1-0-windows-amd64-ltsc2022 3.7.1-0-windows-amd64-ltsc2025 latest");
    // A part of an image is never tagged as the whole.
    let pusher = PushCommandFixture::new(Behaviour::default());
    pusher.push(&layout, &["--platform", "linux/arm64", "-q"]).ok();
    assert_eq!(tags(&pusher), "3.7.1-0-linux-arm64");
    let two = ["--platform", "linux/arm64", "--platform", "linux/s390x", "-q"];
    let lines = PushCommandFixture::new(Behaviour::default()).push(&layout, &two).ok();
    assert_eq!(lines.lines().count(), 2, "each image is named: {lines}");
    // Nor where the layout has nothing else, as `etcdimg build` makes it.
    let (pusher, only) =
        (PushCommandFixture::new(Behaviour::default()), LayoutFixture::new(&SEVEN[..1], 1000, 0));
    pusher.push(&only, &["--platform", "linux/amd64", "-q"]).ok();
    assert_eq!(tags(&pusher), "3.7.1-0-linux-amd64");
    let pusher = PushCommandFixture::new(Behaviour::default());
    pusher.finish(pusher.command(&only).env("ARCH", "amd64")).ok();
    assert_eq!(tags(&pusher), "3.7.1-0-linux-amd64");
    let error = pusher.push(&layout, &["--platform", "linux/riscv64"]).error();
    insta::assert_snapshot!(error, @r"
    error: the layout has no image for linux/riscv64
    hint: `etcdimg build --platform OS/ARCH` adds it to the layout
    exit 1
    ");
}

#[test]
fn several_registries_get_the_same_at_once() {
    let (pusher, layout) = (PushCommandFixture::new(Behaviour::default()), LayoutFixture::small());
    let other = LyingRegistry::start(Behaviour::default());
    let run = pusher.push(&layout, &["--registry", &format!("{}/team", other.host()), "-q"]);
    assert_eq!(run.ok().lines().count(), 2);
    assert_eq!(other.state().tags.len(), 1);
    assert!(other.state().tags.keys().all(|(repository, _)| repository == "team/etcd"));
    pusher.assert_there(&layout);
}

#[test]
fn one_registry_that_refuses_does_not_keep_the_others_from_it() {
    let (pusher, layout) = (PushCommandFixture::new(Behaviour::default()), LayoutFixture::small());
    let denied = Lie::Says(403, &[], r#"{"errors": [{"code": "DENIED"}]}"#);
    let other = LyingRegistry::start(Behaviour::default()).lie("POST", "", (0, 999), denied);
    let run = pusher.push(&layout, &["--registry", &other.host()]);
    assert_eq!(run.code, Some(5));
    assert!(run.stdout.starts_with("registry/etcd@sha256:…"));
    pusher.assert_there(&layout);
    assert!(other.state().tags.is_empty());
}

#[test]
fn layouts_that_were_built_apart_are_pushed_as_one() {
    let pusher = PushCommandFixture::new(Behaviour::default());
    let whole = LayoutFixture::new(&SEVEN, 1000, 0);
    let parts: Vec<_> = SEVEN.iter().map(|it| LayoutFixture::new(&[it], 1000, 0)).collect();
    let mut command = pusher.command(&parts[0]);
    command.args(parts[1..].iter().map(LayoutFixture::path));
    pusher.finish(&mut command).ok();
    let state = pusher.registry.state();
    let index = state.tags[&("etcd".to_owned(), "3.7.1-0".to_owned())];
    let (_, bytes) = &state.manifests[&("etcd".to_owned(), index)];
    let index: Value = serde_json::from_slice(bytes).unwrap();
    let mut expected = serde_json::to_value(
        whole.content().images.iter().map(|it| it.manifest.digest).collect::<Vec<_>>(),
    )
    .unwrap();
    expected.as_array_mut().unwrap().sort_by_key(ToString::to_string);
    let mut digests: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|it| it["digest"].clone()).collect();
    digests.sort_by_key(ToString::to_string);
    assert_eq!(Value::from(digests), expected);
    let platforms =
        index["manifests"].as_array().unwrap().iter().map(|it| it["platform"].to_string());
    assert!(platforms.is_sorted(), "as a single build sorts them");
}

#[test]
fn docker_media_types_hold_the_same_blobs() {
    let (pusher, layout) = (PushCommandFixture::new(Behaviour::default()), LayoutFixture::small());
    pusher.push(&layout, &["--media-types", "docker", "-q"]).ok();
    let state = pusher.registry.state();
    let types: BTreeSet<_> = state.manifests.values().map(|(it, _)| it.clone()).collect();
    assert_eq!(
        types.into_iter().collect::<Vec<_>>().join("\n"),
        "\
application/vnd.docker.distribution.manifest.list.v2+json
application/vnd.docker.distribution.manifest.v2+json"
    );
    assert_eq!(state.blobs.len(), layout.plan().blobs.len());
}

#[test]
fn what_cannot_be_pushed_is_said_before_anything_moves() {
    let (pusher, layout) = (PushCommandFixture::new(Behaviour::default()), LayoutFixture::small());
    fs::remove_file(layout.blob(&layout.plan().blobs[2].digest)).unwrap();
    insta::assert_snapshot!(pusher.push(&layout, &[]).error(), @r"
    error: the layout does not contain the blob sha256:…
    hint: run `etcdimg verify` to see what is wrong with the layout, then build it again
    exit 4
    ");
    let mut command = pusher.command(&layout);
    let error = pusher.finish(command.arg("--offline")).error();
    insta::assert_snapshot!(error, @r"
    error: the layout does not contain the blob sha256:…
    hint: run `etcdimg verify` to see what is wrong with the layout, then build it again
    exit 4
    ");
    assert!(pusher.registry.state().requests.is_empty());
}

#[test]
fn a_released_tag_is_refused_with_the_next_revision() {
    let pusher = PushCommandFixture::new(Behaviour::default());
    pusher.push(&LayoutFixture::small(), &[]).ok();
    let mut other = LayoutFixture::new(&SEVEN[..2], 50_000, 0);
    insta::assert_snapshot!(pusher.push(&other, &[]).error(), @r"
    error: registry/etcd has another image tagged 3.7.1-0
      expected sha256:…
      received sha256:…
    hint: the next free tag is 3.7.1-1: set `revision: 1` in versions.yaml and build again
    hint: `--force` moves the tag to this image
    exit 8
    ");
    other.tag = "3.7.1-0".to_owned();
    pusher.push(&other, &["--force"]).ok();
    pusher.assert_there(&other);
}

#[test]
fn a_release_without_all_its_platforms_is_warned_of() {
    let (pusher, catalog) =
        (PushCommandFixture::new(Behaviour::default()), CatalogFixture::empty());
    let root = catalog.root();
    let push = |platform: &str, tag: &str| {
        let layout = LayoutFixture::new(&[platform], 1000, 0);
        let arguments = ["-C", root.to_str().unwrap(), "--tag", tag, "--force"];
        let run = pusher.push(&layout, &arguments);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run.stderr
    };
    let warning = "warning: 3.4.21-0 has no image for linux/amd64, and cannot get one later; \
                   `etcdimg all-build` makes all of them";
    let said = push("linux/arm64", "3.4.21-0");
    assert!(said.contains(warning), "{said}");
    for (platform, tag) in [("linux/amd64", "3.4.21-0"), ("linux/arm64", "trial")] {
        let said = push(platform, tag);
        assert!(!said.contains("warning"), "{said}");
    }
}
