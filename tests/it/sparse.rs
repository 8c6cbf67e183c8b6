//! `--sparse`: layers of Windows bases stay in their registry until a destination wants them.

use std::fs;
use std::process;

use etcdimg::digest::Digest;
use serde_json::{Value, json};

use crate::catalog_fixture;
use crate::layout_fixture;
use crate::lies::Behaviour;
use crate::lying_registry::LyingRegistry;
use crate::mutable_image::gunzip;
use crate::release_fixture::{LAST, ReleaseFixture};
use crate::stand_in;

const REPOSITORY: &str = "windows/nanoserver";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const URL: &str = "https://elsewhere.invalid/layer";

const BUILD: [&str; 6] = [
    "build",
    "--from=source",
    "--builder=buildx",
    "--builder-image",
    stand_in::BUILDER_IMAGE,
    "--out=layout",
];

/// A base that no cache has, with one layer.
struct UncachedBase {
    manifest: Digest,
    layer: Digest,
    bytes: Vec<u8>,
}

impl UncachedBase {
    /// With a layer of its own, and an `os.version`.
    fn new(registry: &LyingRegistry, layer_type: &str, os_version: &str) -> Self {
        let unique = format!("{} {:?}", process::id(), std::time::SystemTime::now());
        let bytes = catalog_fixture::archive(|tar| {
            catalog_fixture::file(tar, "Files/unique", unique.as_bytes());
        });
        let mut state = registry.state();
        let mut blob = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            state.blobs.insert((REPOSITORY.to_owned(), digest), bytes.to_vec());
            json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
        };
        let config = json!({
            "os": "windows", "architecture": "amd64", "os.version": os_version,
            "os.features": ["win32k"],
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(gunzip(&bytes))] },
        });
        let mut layer = blob(layer_type, &bytes);
        if layer_type != LAYER {
            layer["urls"] = json!([URL]);
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": layout_fixture::MANIFEST,
            "config": blob(CONFIG, config.to_string().as_bytes()), "layers": [layer],
        });
        let document = manifest.to_string().into_bytes();
        let digest = Digest::of(&document);
        let of_base = (layout_fixture::MANIFEST.to_owned(), document);
        state.manifests.insert((REPOSITORY.to_owned(), digest), of_base);
        Self { manifest: digest, layer: Digest::of(&bytes), bytes }
    }

    /// How often the layer was asked for where it is.
    fn asked(&self, registry: &LyingRegistry) -> usize {
        let path = format!("{REPOSITORY}/blobs/{}", self.layer);
        let state = registry.state();
        state.requests.iter().filter(|it| it.method == "GET" && it.target.contains(&path)).count()
    }
}

#[test]
fn a_layer_of_windows_is_fetched_only_for_a_destination_that_lacks_it() {
    let start = || LyingRegistry::start(Behaviour::default());
    let (origin, lacking, having) = (start(), start(), start());
    let base = UncachedBase::new(&origin, LAYER, "10.0.20348.1");
    let fixture = ReleaseFixture::without_bases().with_stand_ins();
    let bases =
        format!("--base=nanoserver-ltsc2022={}/{REPOSITORY}@{}", origin.host(), base.manifest);
    let build = |more: &[&str]| {
        let fixed = [&BUILD[..], &[&bases]].concat();
        let platform = ["--platform=windows/amd64:ltsc2022"];
        fixture.etcdimg(&[&fixed[..], &platform, more].concat()).stdout
    };
    let sparse = build(&["--sparse"]);
    assert_eq!(base.asked(&origin), 0);

    // `verify` without `--sparse` reports the missing base layer.
    let said = fixture.refused(&["verify", "layout"]);
    assert!(said.contains(&base.layer.short()) && said.contains("`verify --sparse`"), "{said}");
    let left = |place: &str, more: &[&str]| {
        let verify = ["verify", place, "--sparse", "--format=json"];
        let report = fixture.etcdimg(&[&verify[..], more].concat());
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!(report["faults"], json!([]));
        report["left"].clone()
    };
    assert_eq!(left("layout", &[]), json!([base.layer]));

    let cache = fixture.path("push").display().to_string();
    let push = |to: &LyingRegistry| {
        let (host, cache) = (to.host(), format!("--cache-dir={cache}"));
        let push = ["push", "layout", "--registry", &host, "--repository=etcd", &cache];
        fixture.etcdimg(&push);
        assert_eq!(to.state().violations, Vec::<String>::new());
        to.state().blobs[&("etcd".to_owned(), base.layer)].clone()
    };
    let here = ("etcd".to_owned(), base.layer);
    having.state().blobs.insert(here, base.bytes.clone());
    push(&having);
    assert_eq!(base.asked(&origin), 0, "the destination had it");
    assert_eq!(push(&lacking), base.bytes);
    assert_eq!(base.asked(&origin), 1);
    let (reference, cache) = (format!("{}/etcd:{LAST}-0", lacking.host()), fixture.path("pulled"));
    let cache = format!("--cache-dir={}", cache.display());
    assert_eq!(left(&reference, &[&cache]), json!([base.layer]));

    // The image is the same either way.
    assert_eq!(build(&[]), sparse);
    fixture.etcdimg(&["verify", "layout"]);

    // What is ours is nowhere else.
    let ours = fixture.document(&fixture.index()["manifests"][0]["digest"])["layers"][1].clone();
    let ours: Digest = ours["digest"].as_str().unwrap().parse().unwrap();
    fs::remove_file(fixture.path("layout/blobs/sha256").join(ours.hex())).unwrap();
    let requests = lacking.state().requests.len();
    let said =
        fixture.refused(&["push", "layout", "--registry", &lacking.host(), "--repository=etcd"]);
    assert!(said.contains(&ours.hex()), "{said}");
    assert_eq!(lacking.state().requests.len(), requests);
}

#[test]
fn a_layer_that_must_not_be_distributed_stays_where_it_is() {
    let (origin, to) =
        (LyingRegistry::start(Behaviour::default()), LyingRegistry::start(Behaviour::default()));
    let base = UncachedBase::new(&origin, FOREIGN, "10.0.20348.1");
    let fixture = ReleaseFixture::without_bases().with_stand_ins();
    let build = |base: &UncachedBase| {
        let place = format!("{}/{REPOSITORY}@{}", origin.host(), base.manifest);
        let fixed = BUILD.into_iter().chain(["--platform=windows/amd64:ltsc2022"]);
        fixed.map(str::to_owned).chain([format!("--base=nanoserver-ltsc2022={place}")]).collect()
    };
    let words: Vec<String> = build(&base);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    fixture.etcdimg(&words);
    fixture.etcdimg(&["verify", "layout"]);
    let listed = fixture.index()["manifests"][0].clone();
    let manifest = fixture.document(&listed["digest"]);
    let layer = &manifest["layers"][0];
    let kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    assert_eq!((&layer["mediaType"], &layer["urls"]), (&json!(kind), &json!([URL])));
    let config = fixture.document(&manifest["config"]["digest"]);
    for document in [&listed["platform"], &config] {
        assert_eq!(document["os.version"], "10.0.20348.1");
        assert_eq!(document["os.features"], json!(["win32k"]));
    }
    fixture.etcdimg(&["push", "layout", "--registry", &to.host(), "--repository=etcd"]);
    let pushed = ("etcd".to_owned(), base.layer);
    assert!(!to.state().blobs.contains_key(&pushed));
    assert_eq!(base.asked(&origin), 0);

    let archive = format!("--output=docker-archive:{}", fixture.path("a.tar").display());
    let said = fixture.fails(1, &[&words[..], &[&archive]].concat());
    assert!(said.contains("a Docker archive holds whole images"), "{said}");

    // Of another release than the platform.
    let base = UncachedBase::new(&origin, LAYER, "10.0.26100.1");
    let words = build(&base);
    let said = fixture.refused(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("10.0.26100.1, the image for windows/amd64:ltsc2022"), "{said}");
}
