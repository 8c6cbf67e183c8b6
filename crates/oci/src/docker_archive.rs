//! Docker's archive of one image (`docker save`, `docker load`).
//!
//! It is two formats at once: an OCI image layout for new engines, and `manifest.json` for those
//! that know nothing else. Only one platform fits into it.

use std::fs::File;
use std::io::{self, Write};

use serde_json::json;

use crate::digest::Digest;
use crate::document::{Descriptor, Document};
use crate::json::canonical;
use crate::layout::{Layout, REF_NAME};

/// One image of a layout, and the name it gets in the engine.
#[derive(Clone, Debug)]
pub struct ArchiveSource {
    pub layout: Layout,
    pub config: Document,
    pub manifest: Document,
    /// From the base up.
    pub layers: Vec<Descriptor>,
    /// `etcd:3.7.1-0`
    pub reference: String,
}

/// Streams the archive; the same image gives the same bytes.
pub fn write_archive(source: &ArchiveSource, out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    for layer in &source.layers {
        let file = File::open(source.layout.blob_path(&layer.digest))?;
        append(&mut tar, &format!("blobs/sha256/{}", layer.digest.hex()), layer.size, file)?;
    }
    for document in [&source.config, &source.manifest] {
        let path = format!("blobs/sha256/{}", document.digest().hex());
        append(&mut tar, &path, document.bytes.len() as u64, &document.bytes[..])?;
    }
    for (path, bytes) in documents(source) {
        append(&mut tar, path, bytes.len() as u64, &bytes[..])?;
    }
    tar.into_inner()?.flush()
}

fn documents(source: &ArchiveSource) -> [(&'static str, Vec<u8>); 3] {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let layers: Vec<_> = source.layers.iter().map(|layer| path(&layer.digest)).collect();
    let manifest = json!([{
        "Config": path(&source.config.digest()),
        "RepoTags": [source.reference],
        "Layers": layers,
    }]);
    let tag = source.reference.rsplit(':').next().unwrap_or_default();
    let mut descriptor = source.manifest.descriptor();
    // containerd reads the first, all other tools the second.
    let names = [("io.containerd.image.name", source.reference.as_str()), (REF_NAME, tag)];
    descriptor.annotations = names.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    [
        ("index.json", canonical(&index)),
        ("manifest.json", canonical(&manifest)),
        ("oci-layout", canonical(&version)),
    ]
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    size: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, content)
}
