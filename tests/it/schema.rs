//! The documents of an image have the fields that image-spec 1.1 requires, and no fields that it
//! does not define.

use serde_json::{Value, json};

use crate::catalog_fixture::CatalogFixture;
use crate::mutable_image::MutableImage;

/// What a value has to be.
enum Shape {
    Text(fn(&str) -> bool),
    /// A natural number.
    Size,
    Flag,
    Exactly(i64),
    List(&'static Shape),
    /// Any keys, one shape of values.
    Map(&'static Shape),
    Object(&'static [Field]),
}

struct Field(&'static str, Need, Shape);

#[derive(PartialEq)]
enum Need {
    Must,
    May,
}

use Need::{May, Must};
use Shape::{Exactly, Flag, List, Map, Object, Size, Text};

/// image-spec, image-index.md
pub const INDEX: &Schema = &Schema(&Object(&[
    Field("schemaVersion", Must, Exactly(2)),
    Field("mediaType", Must, Text(|it| it == "application/vnd.oci.image.index.v1+json")),
    Field("manifests", Must, List(&IMAGE)),
    Field("annotations", May, ANNOTATIONS),
]));

/// image-spec, manifest.md
pub const MANIFEST: &Schema = &Schema(&Object(&[
    Field("schemaVersion", Must, Exactly(2)),
    Field("mediaType", Must, Text(|it| it == "application/vnd.oci.image.manifest.v1+json")),
    Field("config", Must, CONFIG_DESCRIPTOR),
    Field("layers", Must, List(&LAYER)),
    Field("annotations", May, ANNOTATIONS),
]));

/// image-spec, config.md; `variant` is the platform's.
pub const CONFIG: &Schema = &Schema(&Object(&[
    Field("created", May, Text(is_time)),
    Field("author", May, Text(is_any)),
    Field("architecture", Must, Text(is_word)),
    Field("variant", May, Text(is_word)),
    Field("os", Must, Text(is_word)),
    Field("os.version", May, Text(is_some)),
    Field("os.features", May, List(&Text(is_some))),
    Field("config", May, EXECUTION),
    Field("rootfs", Must, ROOTFS),
    Field("history", May, List(&HISTORY)),
]));

const IMAGE: Shape = Object(&[
    Field("mediaType", Must, Text(|it| it == "application/vnd.oci.image.manifest.v1+json")),
    Field("digest", Must, Text(is_digest)),
    Field("size", Must, Size),
    Field("platform", Must, PLATFORM),
    Field("annotations", May, ANNOTATIONS),
]);

const CONFIG_DESCRIPTOR: Shape = Object(&[
    Field("mediaType", Must, Text(|it| it == "application/vnd.oci.image.config.v1+json")),
    Field("digest", Must, Text(is_digest)),
    Field("size", Must, Size),
]);

const LAYER: Shape = Object(&[
    Field("mediaType", Must, Text(|it| it.starts_with("application/vnd.oci.image.layer."))),
    Field("digest", Must, Text(is_digest)),
    Field("size", Must, Size),
    Field("urls", May, List(&Text(|it| it.starts_with("https://")))),
    Field("annotations", May, ANNOTATIONS),
]);

const PLATFORM: Shape = Object(&[
    Field("architecture", Must, Text(is_word)),
    Field("os", Must, Text(is_word)),
    Field("os.version", May, Text(is_some)),
    Field("os.features", May, List(&Text(is_some))),
    Field("variant", May, Text(is_word)),
]);

const EXECUTION: Shape = Object(&[
    Field("User", May, Text(is_any)),
    Field("ExposedPorts", May, Map(&Object(&[]))),
    Field("Env", May, List(&Text(|it| it.find('=').is_some_and(|at| at > 0)))),
    Field("Entrypoint", May, List(&Text(is_any))),
    Field("Cmd", May, List(&Text(is_any))),
    Field("WorkingDir", May, Text(|it| it.starts_with('/') || it.starts_with(r"C:\"))),
    Field("Labels", May, Map(&Text(is_any))),
]);

const ROOTFS: Shape = Object(&[
    Field("type", Must, Text(|it| it == "layers")),
    Field("diff_ids", Must, List(&Text(is_digest))),
]);

const HISTORY: Shape = Object(&[
    Field("created", May, Text(is_time)),
    Field("created_by", May, Text(is_any)),
    Field("author", May, Text(is_any)),
    Field("comment", May, Text(is_any)),
    Field("empty_layer", May, Flag),
]);

const ANNOTATIONS: Shape = Map(&Text(is_any));

fn is_any(_: &str) -> bool {
    true
}

fn is_some(text: &str) -> bool {
    !text.is_empty()
}

/// As Go spells its names.
fn is_word(text: &str) -> bool {
    is_some(text) && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn is_digest(text: &str) -> bool {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.chars().all(is_hex))
}

/// RFC 3339, as we write it: in UTC, to the second.
fn is_time(text: &str) -> bool {
    let is_digit_or_sign = |(c, sign): (char, char)| match sign {
        '0' => c.is_ascii_digit(),
        sign => c == sign,
    };
    text.len() == 20 && text.chars().zip("0000-00-00T00:00:00Z".chars()).all(is_digit_or_sign)
}

#[derive(Debug)]
pub struct Schema(&'static Shape);

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a shape")
    }
}

impl Schema {
    /// Everything in which a document is not as it should be.
    pub fn faults(&self, document: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        look(self.0, document, "", &mut faults);
        faults
    }
}

fn look(shape: &Shape, value: &Value, place: &str, faults: &mut Vec<String>) {
    let is_right = match (shape, value) {
        (Text(is_right), Value::String(text)) => is_right(text),
        (Flag, Value::Bool(_)) => true,
        (Size, Value::Number(_)) => value.is_u64(),
        (Exactly(number), Value::Number(_)) => value.as_i64() == Some(*number),
        (List(shape), Value::Array(values)) => {
            let each = values.iter().enumerate();
            each.for_each(|(i, value)| look(shape, value, &format!("{place}/{i}"), faults));
            true
        }
        (Map(shape), Value::Object(values)) => {
            let each = values.iter();
            each.for_each(|(key, value)| look(shape, value, &format!("{place}/{key}"), faults));
            true
        }
        (Object(fields), Value::Object(values)) => {
            for Field(name, need, shape) in *fields {
                match values.get(*name) {
                    Some(value) => look(shape, value, &format!("{place}/{name}"), faults),
                    None if *need == Must => faults.push(format!("{place}/{name} is missing")),
                    None => {}
                }
            }
            let unknown = values.keys().filter(|key| fields.iter().all(|it| it.0 != *key));
            faults.extend(unknown.map(|key| format!("{place}/{key} is unknown")));
            true
        }
        _ => false,
    };
    if !is_right {
        faults.push(format!("{place} is wrong: {value}"));
    }
}

/// All documents of an image and its index.
fn faults(image: &MutableImage) -> Vec<String> {
    [(INDEX, &image.index), (MANIFEST, &image.manifest), (CONFIG, &image.config)]
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
    assert_eq!(
        faults(&image),
        [
            r#"/manifests/0/platform/architecture is wrong: "AMD64""#,
            "/schemaVersion is missing",
            r#"/config/digest is wrong: "sha256:12""#,
            "/layers/0/size is wrong: -1",
            r#"/created is wrong: "yesterday""#,
            r#"/config/Env/0 is wrong: "=value""#,
            "/os.versions is unknown",
        ]
    );
}
