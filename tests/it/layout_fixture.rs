//! A small layout of several platforms, for tests of pushes and pulls. Its layers are random bytes.

use std::fs;
use std::path::{Path, PathBuf};

use etcdimg::digest::Digest;
use etcdimg::documents::DocumentTree;
use etcdimg::layout::Layout;
use etcdimg::push::{PushPlan, PushRequest, plan};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The seven platforms of a release.
pub const SEVEN: [&str; 7] = [
    "linux/amd64",
    "linux/arm/v7",
    "linux/arm64",
    "linux/ppc64le",
    "linux/s390x",
    "windows/amd64:10.0.20348.2322",
    "windows/amd64:10.0.26100.1",
];

#[derive(Debug)]
pub struct LayoutFixture {
    folder: TempDir,
    pub tag: String,
    pub index: Digest,
}

impl LayoutFixture {
    /// Each platform has a config and three layers: one that all share, one of its own, and a small
    /// last one that `revision` changes.
    pub fn new(platforms: &[&str], layer_bytes: usize, revision: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("layout-").tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        let mut layout = Self { folder, tag: format!("3.7.1-{revision}"), index: Digest::of("") };
        let manifests: Vec<_> =
            platforms.iter().map(|it| layout.image(it, layer_bytes, revision)).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let mut entry = layout.add(INDEX, index.to_string().as_bytes());
        layout.index = entry["digest"].as_str().unwrap().parse().unwrap();
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": layout.tag });
        fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        layout.name(&[entry]);
        layout
    }

    /// Two platforms, and layers that are small.
    pub fn small() -> Self {
        Self::new(&SEVEN[..2], 100_000, 0)
    }

    fn image(&self, platform: &str, layer_bytes: usize, revision: u32) -> Value {
        let (name, os_version) = platform.split_once(':').unwrap_or((platform, ""));
        let mut parts = name.split('/');
        let mut described = json!({ "os": parts.next(), "architecture": parts.next() });
        if let Some(variant) = parts.next() {
            described["variant"] = json!(variant);
        }
        if !os_version.is_empty() {
            described["os.version"] = json!(os_version);
        }
        let layers = [
            noise("shared", layer_bytes),
            noise(platform, layer_bytes),
            noise(&format!("{platform} {revision}"), layer_bytes / 200 + 10),
        ];
        let mut config = described.clone();
        config["rootfs"] = json!({ "type": "layers", "diff_ids": layers.clone().map(Digest::of) });
        config["author"] = json!(format!("{platform} {revision}"));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add(CONFIG, config.to_string().as_bytes()),
            "layers": layers.map(|layer| self.add(LAYER, &layer)),
        });
        let mut descriptor = self.add(MANIFEST, manifest.to_string().as_bytes());
        descriptor["platform"] = described;
        descriptor
    }

    /// Writes a blob and returns its descriptor.
    pub fn add(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.blob(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Writes index.json with these descriptors.
    pub fn name(&self, entries: &[Value]) {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.hex())
    }

    pub fn layout(&self) -> Layout {
        Layout::open(self.path()).unwrap()
    }

    pub fn content(&self) -> DocumentTree {
        let layout = self.layout();
        DocumentTree::read_entry(&layout, &layout.tagged().unwrap()[0].entry).unwrap()
    }

    pub fn plan(&self) -> PushPlan {
        let request = PushRequest { tags: vec![self.tag.clone()], ..PushRequest::default() };
        plan(&self.content(), &request).unwrap()
    }

    /// All bytes of blobs that a registry must have.
    pub fn size(&self) -> u64 {
        self.plan().size_bytes()
    }
}

/// Bytes that look random, and are the same each time.
fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut block = Digest::of(seed);
    while bytes.len() < length {
        let hex = block.hex();
        block = Digest::of(&hex);
        bytes.extend(hex::decode(&hex).unwrap());
    }
    bytes.truncate(length);
    bytes
}
