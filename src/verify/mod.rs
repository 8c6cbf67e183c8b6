//! Checks a finished layout without knowing its plan: every digest, size, diff ID and platform is
//! computed again, and every program is checked again. All findings are reported at once.
//!
//! Not responsible for whether the content is what was planned: it compares the layout with its own
//! labels and with the image contract.

mod image_contents;
mod layer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::Serialize;
use serde_json::Value;

use crate::digest::Digest;
use crate::image::{CONFIG_TYPE, INDEX_TYPE, LAYER_LABEL, MANIFEST_TYPE};
use crate::layer::NONDISTRIBUTABLE_TYPE;
use crate::layout::{Layout, LayoutError};

/// What was checked, and what is wrong.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyReport {
    pub images: Vec<ImageReport>,
    pub blobs: usize,
    /// Layers of Windows bases that are not in the layout, as `build --sparse` leaves them out.
    pub left: Vec<Digest>,
    pub faults: Vec<Finding>,
}

/// One image that was checked.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    pub tag: String,
    pub platform: String,
    pub digest: String,
    pub size_bytes: u64,
    pub layers: usize,
    pub programs: usize,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub place: String,
    pub fault: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)
    }
}

/// Verifies everything that index.json names.
pub fn verify(layout: &Layout) -> Result<VerifyReport, LayoutError> {
    verify_layout(layout, false)
}

/// Verifies a layout that may lack layers of Windows bases.
pub fn verify_sparse(layout: &Layout) -> Result<VerifyReport, LayoutError> {
    verify_layout(layout, true)
}

fn verify_layout(layout: &Layout, is_sparse: bool) -> Result<VerifyReport, LayoutError> {
    let mut verifier =
        Verifier { layout, is_sparse, report: VerifyReport::default(), seen: BTreeSet::new() };
    let tagged = layout.tagged()?;
    if tagged.is_empty() {
        verifier.fault("index.json", "names no image by a tag");
    }
    for tagged in tagged {
        // As oci-spec sees it, like every other document here.
        let parsed = tagged.entry.descriptor().and_then(serde_json::to_value);
        match parsed.and_then(serde_json::from_value) {
            Ok(descriptor) => verifier.document(&tagged.tag, &descriptor, &Value::Null),
            Err(error) => {
                verifier
                    .fault("index.json", format!("`{}` is not a descriptor: {error}", tagged.tag));
            }
        }
    }
    Ok(verifier.report)
}

struct Verifier<'a> {
    layout: &'a Layout,
    is_sparse: bool,
    report: VerifyReport,
    seen: BTreeSet<Digest>,
}

impl Verifier<'_> {
    fn fault(&mut self, place: impl Into<String>, fault: impl Into<String>) {
        self.report.faults.push(Finding { place: place.into(), fault: fault.into() });
    }

    /// `listed` is the platform by which an index names the document, as it is written there.
    fn document(&mut self, tag: &str, descriptor: &Descriptor, listed: &Value) {
        let Some(bytes) = self.blob(tag, descriptor) else { return };
        match descriptor.media_type().to_string().as_str() {
            INDEX_TYPE => self.index(tag, descriptor, &bytes),
            MANIFEST_TYPE => self.image(tag, descriptor, listed, &bytes),
            other => {
                self.fault(tag, format!("{} has the unknown type {other}", descriptor.digest()));
            }
        }
    }

    /// Reads a small blob; `None`, and a finding, if its digest or size is wrong.
    fn blob(&mut self, place: &str, descriptor: &Descriptor) -> Option<Vec<u8>> {
        let digest: Digest = match descriptor.digest().to_string().parse() {
            Ok(digest) => digest,
            Err(error) => {
                self.fault(place, format!("{error}"));
                return None;
            }
        };
        match self.layout.document(&digest) {
            Ok(bytes) if bytes.len() as u64 == descriptor.size() => {
                self.count(digest);
                Some(bytes)
            }
            Ok(bytes) => {
                self.fault(
                    place,
                    format!(
                        "the size of {digest} is {}, its descriptor says {}",
                        bytes.len(),
                        descriptor.size()
                    ),
                );
                None
            }
            Err(error) => {
                self.fault(place, full(&error));
                None
            }
        }
    }

    fn count(&mut self, digest: Digest) {
        if self.seen.insert(digest) {
            self.report.blobs += 1;
        }
    }

    fn index(&mut self, tag: &str, descriptor: &Descriptor, bytes: &[u8]) {
        let index: ImageIndex = match serde_json::from_slice(bytes) {
            Ok(index) => index,
            Err(error) => {
                return self.fault(
                    tag,
                    format!("the index {} cannot be read: {error}", descriptor.digest()),
                );
            }
        };
        if index.manifests().is_empty() {
            self.fault(tag, "the index names no image");
        }
        let raw: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let mut known = BTreeSet::new();
        for (i, child) in index.manifests().iter().enumerate() {
            let listed = &raw["manifests"][i]["platform"];
            if listed.is_null() {
                self.fault(tag, format!("{} has no platform in the index", child.digest()));
            } else if !known.insert(listed.to_string()) {
                self.fault(tag, format!("the index has two images for {listed}"));
            }
            self.document(tag, child, listed);
        }
    }

    fn image(&mut self, tag: &str, descriptor: &Descriptor, listed: &Value, bytes: &[u8]) {
        let manifest: ImageManifest = match serde_json::from_slice(bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                return self.fault(
                    tag,
                    format!("the manifest {} cannot be read: {error}", descriptor.digest()),
                );
            }
        };
        if manifest.config().media_type().to_string() != CONFIG_TYPE {
            self.fault(tag, format!("the config has the type {}", manifest.config().media_type()));
        }
        let Some(bytes) = self.blob(tag, manifest.config()) else { return };
        let config: ImageConfiguration = match serde_json::from_slice(&bytes) {
            Ok(config) => config,
            Err(error) => return self.fault(tag, format!("the config cannot be read: {error}")),
        };
        let raw: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let platform = platform(&raw);
        let place = format!("{tag} {platform}");
        self.check_platform(&place, listed, &raw);
        self.check_path(&place, &raw);
        let programs = self.layers(&place, &manifest, &config);
        self.report.images.push(ImageReport {
            tag: tag.to_owned(),
            platform,
            digest: descriptor.digest().to_string(),
            size_bytes: manifest.layers().iter().map(Descriptor::size).sum(),
            layers: manifest.layers().len(),
            programs,
        });
    }

    /// The platform in the index must be that of the config. (Container runtimes have refused
    /// images because of wrong architectures in configs.)
    fn check_platform(&mut self, place: &str, listed: &Value, config: &Value) {
        if config["os"] == "windows" && !config["os.version"].is_string() {
            self.fault(
                place,
                "the config has no os.version, which selects the Windows that can run it",
            );
        }
        if config["architecture"] == "arm" && !config["variant"].is_string() {
            self.fault(place, "the config has no variant, which selects the arm that can run it");
        }
        if listed.is_null() {
            return;
        }
        for field in ["os", "architecture", "variant", "os.version", "os.features"] {
            if listed[field] != config[field] {
                self.fault(
                    place,
                    format!(
                        "{field} is {} in the index and {} in the config",
                        listed[field], config[field]
                    ),
                );
            }
        }
    }

    /// PATH must have our folders: users and Kubernetes manifests call programs without a path.
    fn check_path(&mut self, place: &str, config: &Value) {
        let (separator, folders): (char, &[&str]) = if config["os"] == "windows" {
            (';', &[r"C:\usr\local\bin", r"C:\bin"])
        } else {
            (':', &["/usr/local/bin"])
        };
        let variables = config["config"]["Env"].as_array().into_iter().flatten();
        let path = variables
            .filter_map(Value::as_str)
            .find_map(|variable| variable.strip_prefix("PATH="))
            .unwrap_or_default();
        for folder in folders {
            if !path.split(separator).any(|it| it == *folder) {
                self.fault(place, format!("PATH does not name {folder}"));
            }
        }
    }

    /// Checks a layer whose blob is not in the layout but at its URLs.
    fn foreign(&mut self, place: &str, descriptor: &Descriptor) {
        if descriptor.urls().as_ref().is_none_or(Vec::is_empty) {
            self.fault(
                place,
                format!("{} has no URLs, so that clients cannot find it", descriptor.digest()),
            );
        }
    }

    /// The digest of a layer of a Windows base that is not in the layout.
    fn left(&self, descriptor: &Descriptor, config: &ImageConfiguration) -> Option<Digest> {
        let is_base = config.os().to_string() == "windows" && !is_ours(descriptor);
        let digest = descriptor.digest().to_string().parse().ok()?;
        let is_left = is_base && !self.layout.blob_path(&digest).exists();
        is_left.then_some(digest)
    }

    /// Checks all layers and returns the number of checked programs.
    fn layers(
        &mut self,
        place: &str,
        manifest: &ImageManifest,
        config: &ImageConfiguration,
    ) -> usize {
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            self.fault(
                place,
                format!("{} layers, but {} diff IDs", manifest.layers().len(), diff_ids.len()),
            );
        }
        let labels: BTreeMap<String, String> = config
            .labels_of_config()
            .map(|labels| labels.clone().into_iter().collect())
            .unwrap_or_default();
        let mut contents = image_contents::ImageContents::new(
            &labels,
            &platform(&serde_json::to_value(config).unwrap_or_default()),
        );
        for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
            // A layer above ours may replace any file in them, even one that is not here.
            if contents.has_ours() && !is_ours(descriptor) {
                let digest = descriptor.digest();
                contents.fault(format!(
                    "unexpected layer {digest} above the etcdimg layers: it has no annotation {LAYER_LABEL}"
                ));
            }
            if descriptor.media_type().to_string() == NONDISTRIBUTABLE_TYPE {
                self.foreign(place, descriptor);
                continue;
            }
            if let Some(digest) = self.left(descriptor, config) {
                self.report.left.push(digest);
                if self.is_sparse {
                    continue;
                }
            }
            match layer::read(self.layout, descriptor, diff_id, &mut contents) {
                Ok(digest) => self.count(digest),
                Err(fault) => self.fault(place, fault.to_string()),
            }
        }
        let (n_programs, faults) = contents.finish();
        for fault in faults {
            self.fault(place, fault);
        }
        n_programs
    }
}

/// Whether a layer was made by etcdimg: those have an annotation.
fn is_ours(descriptor: &Descriptor) -> bool {
    descriptor.annotations().as_ref().is_some_and(|it| it.contains_key(LAYER_LABEL))
}

fn platform(config: &Value) -> String {
    let part = |name: &str| config[name].as_str().map(str::to_owned);
    [part("os"), part("architecture"), part("variant")]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("/")
}

fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
