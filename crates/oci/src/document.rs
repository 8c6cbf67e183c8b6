//! The JSON documents of image-spec as types: descriptor, index, manifest and config.
//!
//! Two things set them apart from the types of the crate `oci-spec`: `os.version` of a platform is
//! read under the name that the specification gives it, and a field that we do not know is kept,
//! so that a document that is read and written again loses nothing (an empty list or a `null` may
//! go). A digest is a [`Digest`] from the first byte on.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::json::canonical;
use crate::media_type;

/// Annotations and labels: text under a name.
pub type Annotations = BTreeMap<String, String>;

/// image-spec `descriptor.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Where else the blob can be downloaded from.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
    /// Only in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformFields>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: Annotations::new(),
            platform: None,
            other: Map::new(),
        }
    }
}

/// A platform as documents write it: `platform` of a descriptor, and the same fields of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformFields {
    pub architecture: String,
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// For Windows: the build, for example 10.0.20348.5499.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// image-spec `image-index.md`, or Docker's manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Index {
    /// An OCI index without annotations.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            manifests,
            annotations: None,
            other: Map::new(),
        }
    }

    /// Sorts the manifests by the canonical text of their platforms.
    pub fn sort_by_platform(&mut self) {
        let text = |it: &Descriptor| serde_json::to_value(&it.platform).unwrap_or_default();
        self.manifests.sort_by_key(|it| canonical(&text(it)));
    }
}

/// image-spec `manifest.md`, or Docker's manifest of schema 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub config: Descriptor,
    /// From the base up.
    pub layers: Vec<Descriptor>,
    /// The document that this one refers to: distribution-spec, "Referrers".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Manifest {
    /// An OCI manifest without annotations.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            config,
            layers,
            subject: None,
            annotations: None,
            other: Map::new(),
        }
    }
}

/// image-spec `config.md`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<RunConfig>,
    pub rootfs: RootFs,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Value>,
    /// Fields that we do not know land in its `other`.
    #[serde(flatten)]
    pub platform: PlatformFields,
}

/// How a container of the image is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `NAME=value`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// `2379/tcp`; the values are empty objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Annotations>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The layers of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, from the base up.
    pub diff_ids: Vec<Digest>,
}

/// Some writers say `null` for an empty list.
fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A document as bytes, and its media type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
}

impl Document {
    /// The canonical bytes of a value.
    pub fn new(media_type: &'static str, value: &impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        Self { media_type, bytes: canonical(&value) }
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type, self.digest(), self.bytes.len() as u64)
    }
}

/// `23.1 MB`: powers of 1000, one digit after the point.
pub fn size_text(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut unit = 1000;
    for name in ["kB", "MB", "GB", "TB", "PB"] {
        let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
        if tenths < 10_000 {
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        unit *= 1000;
    }
    format!("{} EB", u128::from(bytes) / unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_that_is_read_and_written_loses_nothing() {
        let descriptor = json!({
            "mediaType": "m", "digest": Digest::of("d"), "size": 7, "data": "Zm9v",
            "artifactType": "a/b", "urls": ["https://host.example/x"],
            "annotations": { "a": "b" },
            "platform": {
                "architecture": "amd64", "os": "windows", "os.version": "10.0.20348.1",
                "os.features": ["win32k"], "features": ["sse4"],
            },
        });
        round_trip::<Index>(json!({
            "schemaVersion": 2, "mediaType": "i", "manifests": [descriptor],
            "annotations": {}, "unknown": [1],
        }));
        round_trip::<Manifest>(json!({
            "schemaVersion": 2, "config": descriptor, "layers": [descriptor, descriptor],
            "subject": descriptor, "artifactType": "a/b",
        }));
        round_trip::<ImageConfig>(json!({
            "created": "2023-11-14T22:13:20Z", "author": "somebody", "architecture": "arm",
            "os": "linux", "variant": "v7", "container_config": { "Cmd": null },
            "config": {
                "Env": ["A=b"], "ExposedPorts": { "2379/tcp": {} }, "Labels": { "a": "b" },
                "WorkingDir": "/", "Cmd": ["sh"],
            },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of("x")] },
            "history": [{ "created_by": "x", "empty_layer": true }],
        }));
    }

    #[test]
    fn a_wrong_digest_makes_the_whole_document_unreadable() {
        let text = r#"{"mediaType": "m", "digest": "sha256:00", "size": 1}"#;
        let error = serde_json::from_str::<Descriptor>(text).unwrap_err().to_string();
        assert!(error.starts_with("a sha256 digest has 64 hex digits, this one has 2"), "{error}");
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "rows are literals")]
    fn round_trip<T: Serialize + for<'de> Deserialize<'de>>(value: Value) {
        let typed: T = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), value);
    }
}
