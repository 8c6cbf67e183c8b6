//! Changes one part of an image in a layout, and writes it back with all digests corrected, unless
//! a test wants a wrong one.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use etcdimg::digest::Digest;
use serde_json::{Value, json};

use crate::catalog_fixture::gzip;

/// An image of a layout.
#[derive(Debug)]
pub struct MutableImage {
    layout: PathBuf,
    /// Its place in the index.
    place: usize,
    pub index: Value,
    pub manifest: Value,
    pub config: Value,
}

impl MutableImage {
    /// The only one, or the first.
    pub fn open(layout: &Path) -> Self {
        Self::open_where(layout, |_| true)
    }

    /// The first image whose descriptor in the index matches.
    pub fn open_where(layout: &Path, is_meant: impl Fn(&Value) -> bool) -> Self {
        let read = |digest: &Value| {
            serde_json::from_slice(&fs::read(blob_path(layout, digest)).unwrap()).unwrap()
        };
        let root: Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let index: Value = read(&root["manifests"][0]["digest"]);
        let place = index["manifests"].as_array().unwrap().iter().position(is_meant).unwrap();
        let manifest: Value = read(&index["manifests"][place]["digest"]);
        let config = read(&manifest["config"]["digest"]);
        Self { layout: layout.to_owned(), place, index, manifest, config }
    }

    /// The tar of every layer, from the base up.
    pub fn layers(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let layers = self.manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| gunzip(&fs::read(self.blob(&layer["digest"])).unwrap()))
    }

    pub fn blob(&self, digest: &Value) -> PathBuf {
        blob_path(&self.layout, digest)
    }

    pub fn last_layer(&self) -> usize {
        self.manifest["layers"].as_array().unwrap().len() - 1
    }

    /// Gives a layer another content, and all digests that follow from it.
    pub fn set_layer(&mut self, i: usize, tar: &[u8]) {
        let stored = gzip(tar);
        let digest = self.write(&stored);
        self.manifest["layers"][i]["digest"] = json!(digest);
        self.manifest["layers"][i]["size"] = json!(stored.len());
        self.config["rootfs"]["diff_ids"][i] = json!(Digest::of(tar));
    }

    /// Writes config, manifest, index and index.json.
    pub fn save(&mut self) {
        let config = serde_json::to_vec(&self.config).unwrap();
        self.manifest["config"]["digest"] = json!(self.write(&config));
        self.manifest["config"]["size"] = json!(config.len());
        let manifest = serde_json::to_vec(&self.manifest).unwrap();
        self.index["manifests"][self.place]["digest"] = json!(self.write(&manifest));
        self.index["manifests"][self.place]["size"] = json!(manifest.len());
        let index = serde_json::to_vec(&self.index).unwrap();
        let path = self.layout.join("index.json");
        let mut root: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        root["manifests"][0]["digest"] = json!(self.write(&index));
        root["manifests"][0]["size"] = json!(index.len());
        fs::write(path, serde_json::to_vec(&root).unwrap()).unwrap();
    }

    fn write(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(self.blob(&json!(digest)), bytes).unwrap();
        digest
    }
}

/// Rewrites a tar: `change` returns the entry as it shall be, or `None` to leave it out. PAX
/// records are entries, too, named `PaxHeaders.0/…`.
pub fn rewrite(
    tar: &[u8],
    mut change: impl FnMut(&str, tar::Header, Vec<u8>) -> Option<(tar::Header, Vec<u8>)>,
) -> tar::Builder<Vec<u8>> {
    let mut out = tar::Builder::new(Vec::new());
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if let Some((mut header, bytes)) = change(&path, entry.header().clone(), bytes) {
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            out.append(&header, &bytes[..]).unwrap();
        }
    }
    out
}

pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
    tar
}

fn blob_path(layout: &Path, digest: &Value) -> PathBuf {
    let digest: Digest = digest.as_str().unwrap().parse().unwrap();
    layout.join("blobs/sha256").join(digest.hex())
}
