//! What image-spec 1.1 says of the documents of an image: its own JSON Schemas, and beside them a
//! stricter one for each document, for image-spec says in words, or not at all, what a platform is
//! spelled like and that no field is unknown.

use std::error::Error;
use std::sync::LazyLock;

use jsonschema::{Retrieve, Uri, Validator};
use serde_json::{Value, json};

use crate::catalog_fixture::CatalogFixture;
use crate::mutable_image::MutableImage;

/// image-spec, image-index.md
pub static INDEX: LazyLock<Schema> = LazyLock::new(|| Schema::new("image-index-schema", &index()));

/// image-spec, manifest.md
pub static MANIFEST: LazyLock<Schema> =
    LazyLock::new(|| Schema::new("image-manifest-schema", &manifest()));

/// image-spec, config.md; `variant` is the platform's.
pub static CONFIG: LazyLock<Schema> = LazyLock::new(|| Schema::new("config-schema", &config()));

/// The two schemas of a kind of document.
pub struct Schema([Validator; 2]);

impl Schema {
    fn new(official: &str, strict: &Value) -> Self {
        Self([&published(official), strict].map(|schema| {
            jsonschema::options()
                .with_retriever(Published)
                .should_validate_formats(true)
                .build(schema)
                .unwrap()
        }))
    }

    /// Everything in which a document is not as it should be.
    pub fn faults(&self, document: &Value) -> Vec<String> {
        let errors = self.0.iter().flat_map(|schema| schema.iter_errors(document));
        errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

/// The published schemas name each other by addresses that end with the name of a file.
struct Published;

impl Retrieve for Published {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let name = uri.path().as_str().rsplit('/').next().unwrap_or_default();
        Ok(published(name.strip_suffix(".json").ok_or("not a file of image-spec")?))
    }
}

fn published(name: &str) -> Value {
    let text = match name {
        "config-schema" => include_str!("../image-spec/config-schema.json"),
        "content-descriptor" => include_str!("../image-spec/content-descriptor.json"),
        "defs" => include_str!("../image-spec/defs.json"),
        "defs-descriptor" => include_str!("../image-spec/defs-descriptor.json"),
        "image-index-schema" => include_str!("../image-spec/image-index-schema.json"),
        "image-manifest-schema" => include_str!("../image-spec/image-manifest-schema.json"),
        other => panic!("image-spec has no {other}"),
    };
    serde_json::from_str(text).unwrap()
}

fn index() -> Value {
    object(
        &["schemaVersion", "mediaType", "manifests"],
        &json!({
            "schemaVersion": { "const": 2 },
            "mediaType": { "const": "application/vnd.oci.image.index.v1+json" },
            "manifests": { "type": "array", "items": image() },
            "annotations": strings(),
        }),
    )
}

fn manifest() -> Value {
    object(
        &["schemaVersion", "mediaType", "config", "layers"],
        &json!({
            "schemaVersion": { "const": 2 },
            "mediaType": { "const": "application/vnd.oci.image.manifest.v1+json" },
            "config": config_descriptor(),
            "layers": { "type": "array", "items": layer() },
            "annotations": strings(),
        }),
    )
}

fn config() -> Value {
    object(
        &["architecture", "os", "rootfs"],
        &json!({
            "created": time(),
            "author": { "type": "string" },
            "architecture": word(),
            "variant": word(),
            "os": word(),
            "os.version": some(),
            "os.features": { "type": "array", "items": some() },
            "config": execution(),
            "rootfs": object(&["type", "diff_ids"], &json!({
                "type": { "const": "layers" },
                "diff_ids": { "type": "array", "items": digest() },
            })),
            "history": { "type": "array", "items": history() },
        }),
    )
}

fn image() -> Value {
    let platform = json!({
        "architecture": word(),
        "os": word(),
        "os.version": some(),
        "os.features": { "type": "array", "items": some() },
        "variant": word(),
    });
    object(
        &["mediaType", "digest", "size", "platform"],
        &json!({
            "mediaType": { "const": "application/vnd.oci.image.manifest.v1+json" },
            "digest": digest(),
            "size": size(),
            "platform": object(&["architecture", "os"], &platform),
            "annotations": strings(),
        }),
    )
}

fn config_descriptor() -> Value {
    object(
        &["mediaType", "digest", "size"],
        &json!({
            "mediaType": { "const": "application/vnd.oci.image.config.v1+json" },
            "digest": digest(),
            "size": size(),
        }),
    )
}

fn layer() -> Value {
    object(
        &["mediaType", "digest", "size"],
        &json!({
            "mediaType": matching(r"^application/vnd\.oci\.image\.layer\."),
            "digest": digest(),
            "size": size(),
            "urls": { "type": "array", "items": matching("^https://") },
            "annotations": strings(),
        }),
    )
}

fn execution() -> Value {
    let words = json!({ "type": "array", "items": { "type": "string" } });
    let empty = object(&[], &json!({}));
    object(
        &[],
        &json!({
            "User": { "type": "string" },
            "ExposedPorts": { "type": "object", "additionalProperties": empty },
            "Env": { "type": "array", "items": matching("^[^=]+=") },
            "Entrypoint": words,
            "Cmd": words,
            "WorkingDir": matching(r"^(/|C:\\)"),
            "Labels": strings(),
        }),
    )
}

fn history() -> Value {
    object(
        &[],
        &json!({
            "created": time(),
            "created_by": { "type": "string" },
            "author": { "type": "string" },
            "comment": { "type": "string" },
            "empty_layer": { "type": "boolean" },
        }),
    )
}

/// An object with these properties and no other one.
fn object(required: &[&str], properties: &Value) -> Value {
    json!({
        "type": "object", "required": required, "properties": properties,
        "additionalProperties": false,
    })
}

fn strings() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "string" } })
}

fn matching(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn some() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn size() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// As Go spells its names.
fn word() -> Value {
    matching("^[a-z0-9]+$")
}

fn digest() -> Value {
    matching("^sha256:[0-9a-f]{64}$")
}

/// RFC 3339, as we write it: in UTC, to the second.
fn time() -> Value {
    matching("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
}

/// All documents of an image and its index.
fn faults(image: &MutableImage) -> Vec<String> {
    [(&INDEX, &image.index), (&MANIFEST, &image.manifest), (&CONFIG, &image.config)]
        .into_iter()
        .flat_map(|(schema, document)| schema.faults(document))
        .collect()
}

#[test]
fn documents_are_as_the_specification_says() {
    let fixture = CatalogFixture::with_release();
    fixture.build().ok();
    let mut image = MutableImage::open(&fixture.out());
    assert_eq!(faults(&image), [""; 0]);
    image.index["manifests"][0]["platform"]["architecture"] = json!("AMD64");
    image.manifest["layers"][0]["size"] = json!(-1);
    image.manifest["config"]["digest"] = json!("sha256:12");
    image.manifest.as_object_mut().unwrap().remove("schemaVersion");
    image.config["config"]["Env"][0] = json!("=value");
    image.config["created"] = json!("yesterday");
    image.config["os.versions"] = json!("10");
    insta::assert_snapshot!(faults(&image).join("\n"), @r#"
    /manifests/0/platform/architecture: "AMD64" does not match "^[a-z0-9]+$"
    : "schemaVersion" is a required property
    : "schemaVersion" is a required property
    /config/digest: "sha256:12" does not match "^sha256:[0-9a-f]{64}$"
    /layers/0/size: -1 is less than the minimum of 0
    /created: "yesterday" is not a "date-time"
    /config/Env/0: "=value" does not match "^[^=]+="
    /created: "yesterday" does not match "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
    : Additional properties are not allowed ('os.versions' was unexpected)
    "#);
}
