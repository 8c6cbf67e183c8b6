//! The same image in Docker's own media types, for clients and registries that know no others
//! (distribution, "Image Manifest Version 2, Schema 2"). Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Content, Image, PushError};
use crate::digest::Digest;
use crate::image::json::canonical;
use crate::registry::Manifest;

const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

impl Content {
    /// The blobs stay what they are; the documents, and so their digests, become others.
    /// Annotations have no place there.
    pub fn in_docker_types(&self) -> Result<Self, PushError> {
        let images: Vec<_> = self.images.iter().map(image).collect::<Result<_, _>>()?;
        let pairs = self.images.iter().zip(&images);
        let renamed: BTreeMap<_, _> =
            pairs.map(|(old, new)| (old.manifest.digest, &new.manifest)).collect();
        let root = match renamed.get(&self.root.digest) {
            Some(manifest) => (*manifest).clone(),
            None => list(&self.root, &renamed)?,
        };
        if !self.indexes.is_empty() {
            let why = "Docker knows no index of indexes".to_owned();
            return Err(PushError::Document { digest: self.root.digest, why });
        }
        Ok(Self { root, indexes: Vec::new(), images })
    }
}

fn image(image: &Image) -> Result<Image, PushError> {
    let digest = image.manifest.digest;
    let fault = |why: String| PushError::Document { digest, why };
    let manifest: Value =
        serde_json::from_slice(&image.manifest.bytes).map_err(|error| fault(error.to_string()))?;
    let descriptor = |media_type: &str, value: &Value| json!({ "mediaType": media_type, "digest": value["digest"], "size": value["size"] });
    let mut pieces = image.pieces.clone();
    let (config, of_layers) =
        pieces.split_first_mut().ok_or_else(|| fault("it is empty".into()))?;
    CONFIG.clone_into(&mut config.media_type);
    let mut layers = Vec::new();
    let all = manifest["layers"].as_array().into_iter().flatten();
    for (layer, piece) in all.zip(of_layers) {
        let media_type = layer["mediaType"].as_str().unwrap_or_default();
        if !media_type.ends_with("gzip") {
            return Err(fault(format!("Docker has no media type for {media_type}")));
        }
        let media_type = if piece.is_foreign { FOREIGN } else { LAYER };
        media_type.clone_into(&mut piece.media_type);
        let mut converted = descriptor(media_type, layer);
        if piece.is_foreign {
            // The only place where it is.
            converted["urls"] = layer["urls"].clone();
        }
        layers.push(converted);
    }
    let converted = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &manifest["config"]),
        "layers": layers,
    });
    let manifest = Manifest::new(MANIFEST, canonical(&converted));
    Ok(Image { manifest, pieces, ..image.clone() })
}

fn list(root: &Manifest, renamed: &BTreeMap<Digest, &Manifest>) -> Result<Manifest, PushError> {
    let fault = |why: String| PushError::Document { digest: root.digest, why };
    let index: Value =
        serde_json::from_slice(&root.bytes).map_err(|error| fault(error.to_string()))?;
    let mut manifests = Vec::new();
    for child in index["manifests"].as_array().into_iter().flatten() {
        let digest = child["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
        let manifest = digest.and_then(|digest| renamed.get(&digest));
        let manifest = manifest.ok_or_else(|| fault("it names what is not there".to_owned()))?;
        manifests.push(json!({
            "mediaType": MANIFEST,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
            "platform": child["platform"],
        }));
    }
    let list = json!({ "schemaVersion": 2, "mediaType": LIST, "manifests": manifests });
    Ok(Manifest::new(LIST, canonical(&list)))
}
