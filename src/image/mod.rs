//! The documents of an image: config, manifest and index, as image-spec shapes them.
//!
//! Pure: layers and plan in, canonical bytes out. Not responsible for writing them anywhere.

use std::collections::BTreeMap;

use contract::labels::standard;
pub use contract::labels::{BASE as BASE_LABEL, LAYER as LAYER_LABEL, STAND_IN};
use contract::{labels as contract_labels, run};
use oci::docker_archive::ArchiveSource;
use oci::document::{Annotations, Descriptor, Index, PlatformFields};
pub use oci::media_type::{CONFIG as CONFIG_TYPE, INDEX as INDEX_TYPE, MANIFEST as MANIFEST_TYPE};
pub use oci::{Document, json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::layer::Layer;
use crate::layout::Layout;
use crate::plan::{ImagePlan, Plan};
use crate::platform::Platform;

/// What we take from the base image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    pub layers: Vec<Layer>,
    pub environment: Vec<String>,
    pub history: Vec<Value>,
    /// Of Windows: which build the base is, and so the image.
    #[serde(default)]
    pub os_version: Option<String>,
    #[serde(default)]
    pub os_features: Vec<String>,
    /// Why the base must not be released, if it says so.
    #[serde(default)]
    pub stand_in: Option<String>,
}

/// One image, ready to be written.
#[derive(Clone, Debug)]
pub struct Image {
    pub platform: Platform,
    /// The platform as documents name it.
    pub listed: PlatformFields,
    pub config: Document,
    pub manifest: Document,
    /// All layers, from the base up.
    pub layers: Vec<Layer>,
}

impl Image {
    /// For a Docker engine, under a name.
    pub fn archive(&self, layout: Layout, reference: String) -> ArchiveSource {
        let layers = self.layers.iter();
        ArchiveSource {
            layout,
            config: self.config.clone(),
            manifest: self.manifest.clone(),
            layers: layers.map(|it| Descriptor::new(&*it.media_type, it.digest, it.size)).collect(),
            reference,
        }
    }
}

/// Joins a base and our layers into an image. `layers` are those of the plan, in its order.
pub fn image(plan: &Plan, image: &ImagePlan, base: &Base, layers: &[Layer]) -> Image {
    let config = Document::new(CONFIG_TYPE, &config(plan, image, base, layers));
    let all: Vec<_> = base.layers.iter().chain(layers).cloned().collect();
    let names = std::iter::repeat_n(None, base.layers.len());
    let names = names.chain(image.layers.iter().map(|layer| Some(&layer.name)));
    let descriptors: Vec<_> =
        all.iter().zip(names).map(|(layer, name)| layer_descriptor(layer, name)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.descriptor(),
        "layers": descriptors,
        "annotations": annotations(plan, &labels(image, base)),
    });
    Image {
        platform: image.platform.clone(),
        listed: listed(image, base),
        config,
        manifest: Document::new(MANIFEST_TYPE, &manifest),
        layers: all,
    }
}

fn layer_descriptor(layer: &Layer, name: Option<&String>) -> Value {
    let mut descriptor =
        json!({ "mediaType": layer.media_type, "digest": layer.digest, "size": layer.size });
    if !layer.urls.is_empty() {
        descriptor["urls"] = json!(layer.urls);
    }
    if let Some(name) = name {
        descriptor["annotations"] = json!({ LAYER_LABEL: name });
    }
    descriptor
}

fn config(plan: &Plan, image: &ImagePlan, base: &Base, layers: &[Layer]) -> Value {
    let created = created(plan);
    let ours = image.layers.iter().map(|layer| {
        json!({ "created": created, "created_by": format!("etcdimg layer {}", layer.name) })
    });
    let history: Vec<_> = base.history.iter().cloned().chain(ours).collect();
    let diff_ids: Vec<_> = base.layers.iter().chain(layers).map(|layer| layer.diff_id).collect();
    let ports: BTreeMap<_, _> = run::PORTS.iter().map(|port| (*port, json!({}))).collect();
    let mut config = json!({
        "created": created,
        "config": {
            "Env": environment(base, image),
            "ExposedPorts": ports,
            "Labels": annotations(plan, &labels(image, base)),
            "WorkingDir": if image.platform.is_windows() { run::WINDOWS_WORKING_DIRECTORY } else { run::WORKING_DIRECTORY },
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    });
    if let Value::Object(platform) = json!(listed(image, base)) {
        platform.into_iter().for_each(|(name, value)| config[name] = value);
    }
    config
}

/// What config and index both say of the platform.
fn listed(image: &ImagePlan, base: &Base) -> PlatformFields {
    let platform = &image.platform;
    PlatformFields {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: base.os_version.clone(),
        os_features: base.os_features.clone(),
        ..PlatformFields::default()
    }
}

/// Those of the plan, and what only the base knows.
fn labels(image: &ImagePlan, base: &Base) -> BTreeMap<String, String> {
    let stand_in = base.stand_in.iter().map(|why| (STAND_IN.to_owned(), why.clone()));
    image.labels.clone().into_iter().chain(stand_in).collect()
}

fn environment(base: &Base, image: &ImagePlan) -> Vec<String> {
    if image.platform.is_windows() {
        return windows_environment(base, image);
    }
    let has_path = base.environment.iter().any(|variable| variable.starts_with("PATH="));
    let path = (!has_path).then(|| format!("PATH={}", run::PATH));
    let ours = image.environment.iter().map(|(name, value)| format!("{name}={value}"));
    base.environment.iter().cloned().chain(path).chain(ours).collect()
}

/// Names of variables do not know upper and lower case there.
fn windows_environment(base: &Base, image: &ImagePlan) -> Vec<String> {
    let is_path = |variable: &&String| {
        variable.split_once('=').is_some_and(|(name, _)| name.eq_ignore_ascii_case("PATH"))
    };
    let of_base = base.environment.iter().find(is_path).and_then(|it| it.split_once('='));
    let path = match of_base {
        Some((_, rest)) => format!("PATH={}{rest}", run::WINDOWS_PATH_PREFIX),
        None => format!("PATH={}", run::WINDOWS_PATH),
    };
    let others = base.environment.iter().filter(|variable| !is_path(variable)).cloned();
    let ours = image.environment.iter().map(|(name, value)| format!("{name}={value}"));
    others.chain([path]).chain(ours).collect()
}

fn annotations(plan: &Plan, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let created = (standard::CREATED.to_owned(), created(plan));
    labels.clone().into_iter().chain([created]).collect()
}

fn created(plan: &Plan) -> String {
    let seconds = i64::try_from(plan.epoch_seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The index of all images, in the order of their platforms. `others` are descriptors of images
/// that an earlier build made for further platforms.
pub fn index(plan: &Plan, images: &[Image], others: Vec<Descriptor>) -> Document {
    let mut index = Index::new(images.iter().map(manifest_descriptor).chain(others).collect());
    index.sort_by_platform();
    index.annotations = Some(images.first().map(|_| index_annotations(plan)).unwrap_or_default());
    Document::new(INDEX_TYPE, &index)
}

/// What is true of every image of the index.
pub fn index_annotations(plan: &Plan) -> Annotations {
    const SHARED: [&str; 7] = [
        contract_labels::BUNDLED_VERSIONS,
        contract_labels::FORMAT,
        standard::DESCRIPTION,
        standard::LICENSES,
        standard::TITLE,
        standard::VENDOR,
        standard::VERSION,
    ];
    let labels = plan.images.first().map(|image| image.labels.clone()).unwrap_or_default();
    let shared = labels.into_iter().filter(|(name, _)| SHARED.contains(&name.as_str())).collect();
    annotations(plan, &shared)
}

fn manifest_descriptor(image: &Image) -> Descriptor {
    Descriptor { platform: Some(image.listed.clone()), ..image.manifest.descriptor() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::layer::format::{Compression, FORMAT};
    use crate::plan::{BasePlan, BaseSource, LayerPlan, ProgramSource, WorkspaceSource};

    fn tiny() -> (Plan, Base, Vec<Layer>) {
        let source = ProgramSource::Workspace(WorkspaceSource {
            rust: "1.0.0".into(),
            zig: "0.1.0".into(),
            triple: "t".into(),
            platform: "linux/arm/v7".parse().unwrap(),
        });
        let image = ImagePlan {
            platform: "linux/arm/v7".parse().unwrap(),
            base: BasePlan {
                name: "busybox".into(),
                source: BaseSource::Rootfs { path: "b.tar".into(), digest: Digest::of("base") },
            },
            layers: vec![LayerPlan { name: "migrate".into(), source, entries: Vec::new() }],
            environment: BTreeMap::from([("ETCD_UNSUPPORTED_ARCH".into(), "arm".into())]),
            labels: BTreeMap::from([("dev.etcdimg.format".into(), FORMAT.to_string())]),
        };
        let plan = Plan {
            format: FORMAT,
            repository: "etcd".into(),
            tag: "3.7.1-0".into(),
            compression: Compression::Gzip,
            epoch_seconds: 1_700_000_000,
            images: vec![image],
        };
        let layer = |text: &str| Layer {
            media_type: Compression::Gzip.media_type().into(),
            digest: Digest::of(text),
            size: 4,
            diff_id: Digest::of(format!("{text} plain")),
            urls: Vec::new(),
        };
        let base = Base { layers: vec![layer("base")], ..Base::default() };
        (plan, base, vec![layer("ours")])
    }

    /// Golden: when this fails, released images change. Give the format a new number.
    #[test]
    fn a_tiny_image_has_the_documents_of_format_2() {
        let (plan, base, layers) = tiny();
        let image = image(&plan, &plan.images[0], &base, &layers);
        let index = index(&plan, std::slice::from_ref(&image), Vec::new());
        insta::assert_snapshot!(String::from_utf8(image.config.bytes).unwrap(), @r#"{"architecture":"arm","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","ETCD_UNSUPPORTED_ARCH=arm"],"ExposedPorts":{"2379/tcp":{},"2380/tcp":{},"4001/tcp":{},"7001/tcp":{}},"Labels":{"dev.etcdimg.format":"2","org.opencontainers.image.created":"2023-11-14T22:13:20Z"},"WorkingDir":"/"},"created":"2023-11-14T22:13:20Z","history":[{"created":"2023-11-14T22:13:20Z","created_by":"etcdimg layer migrate"}],"os":"linux","rootfs":{"diff_ids":["sha256:ff0bc74da9b6a840df82d3925080594e896c3b3c54f0e5ec4de1abae607e2041","sha256:58a1529adcf92e64d30185ed8497b7bb4d827588bd2eb8396c52ee19891eba65"],"type":"layers"},"variant":"v7"}"#);
        insta::assert_snapshot!(String::from_utf8(image.manifest.bytes).unwrap(), @r#"{"annotations":{"dev.etcdimg.format":"2","org.opencontainers.image.created":"2023-11-14T22:13:20Z"},"config":{"digest":"sha256:154397be33ed3a76c28d8bae7f073c16254b3cddd366ec1abf56ecb0ae4f110b","mediaType":"application/vnd.oci.image.config.v1+json","size":654},"layers":[{"digest":"sha256:cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":4},{"annotations":{"dev.etcdimg.layer":"migrate"},"digest":"sha256:ae0bec9e9d33c56354bd612c8a6010840324fc5b9786ce0a18b696b304b09397","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":4}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}"#);
        insta::assert_snapshot!(String::from_utf8(index.bytes).unwrap(), @r#"{"annotations":{"dev.etcdimg.format":"2","org.opencontainers.image.created":"2023-11-14T22:13:20Z"},"manifests":[{"digest":"sha256:fa4cb75ec4199d39103c83747d1a6f8a3969713dc370ca513095d8701305d73d","mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"architecture":"arm","os":"linux","variant":"v7"},"size":696}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#);
    }

    #[test]
    fn a_base_without_layers_of_its_own_keeps_ours_in_order() {
        let (plan, _, layers) = tiny();
        let image = image(&plan, &plan.images[0], &Base::default(), &layers);
        assert_eq!(image.layers, layers);
        let config: oci_spec::image::ImageConfiguration =
            serde_json::from_slice(&image.config.bytes).unwrap();
        assert_eq!(config.rootfs().diff_ids(), &[layers[0].diff_id.to_string()]);
        let manifest: oci_spec::image::ImageManifest =
            serde_json::from_slice(&image.manifest.bytes).unwrap();
        assert_eq!(manifest.layers()[0].digest().to_string(), layers[0].digest.to_string());
    }
}
