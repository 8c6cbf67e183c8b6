//! OCI image layouts that the program's own writer makes of small images, and layers that are read
//! back from what it built.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use etcdimg::digest::Digest;
use etcdimg::image::{CONFIG_TYPE, Document, INDEX_TYPE, MANIFEST_TYPE};
use etcdimg::layout::Layout;
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use crate::failure::{Context as _, Failure, Result};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layer in a layout.
#[derive(Debug)]
pub struct Layer {
    descriptor: Value,
    diff_id: Digest,
}

/// An OCI image layout that is being written.
#[derive(Debug)]
pub struct Writer {
    layout: Layout,
    /// Held as long as we write.
    _lock: fs::File,
}

impl Writer {
    pub fn create(root: &Path) -> Result<Self> {
        let (layout, lock) = Layout::create(root)?;
        Ok(Self { layout, _lock: lock })
    }

    /// A compressed layer of a tar.
    pub fn layer(&self, tar: &[u8], level: u32) -> Result<Layer> {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::new(level));
        gzip.write_all(tar)?;
        let descriptor = self.document(TAR_GZIP, gzip.finish()?)?;
        Ok(Layer { descriptor, diff_id: Digest::of(tar) })
    }

    /// An uncompressed layer of a tar, which is moved into the layout from its own file system.
    pub fn plain_layer(&self, tar: &Path) -> Result<Layer> {
        let (digest, size) = Digest::of_reader(fs::File::open(tar).context(tar.display())?)?;
        fs::rename(tar, self.layout.blob_path(&digest)).context(tar.display())?;
        let descriptor = json!({ "mediaType": TAR, "digest": digest, "size": size });
        Ok(Layer { descriptor, diff_id: digest })
    }

    /// The config and manifest of an image; the descriptor of the manifest. `config` is everything
    /// but the layers, `further` what else the manifest says.
    pub fn image(&self, layers: &[Layer], mut config: Value, further: &Value) -> Result<Value> {
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let mut manifest = further.clone();
        manifest["schemaVersion"] = 2.into();
        manifest["mediaType"] = MANIFEST_TYPE.into();
        manifest["config"] = self.document(CONFIG_TYPE, serde_json::to_vec(&config)?)?;
        manifest["layers"] = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        self.document(MANIFEST_TYPE, serde_json::to_vec(&manifest)?)
    }

    /// An index; its descriptor.
    pub fn index(&self, manifests: &[Value]) -> Result<Value> {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests });
        self.document(INDEX_TYPE, serde_json::to_vec(&index)?)
    }

    /// Makes index.json name an image or an index.
    pub fn tag(&self, tag: &str, descriptor: Value) -> Result<()> {
        let descriptor = serde_json::from_value(descriptor)?;
        Ok(self.layout.tag(&[(tag.to_owned(), descriptor)])?)
    }

    fn document(&self, media_type: &'static str, bytes: Vec<u8>) -> Result<Value> {
        let document = Document { media_type, bytes };
        self.layout.add_bytes(&document)?;
        Ok(serde_json::to_value(document.descriptor())?)
    }
}

/// The digest in a descriptor.
pub fn digest(descriptor: &Value) -> Result<Digest> {
    let text = descriptor["digest"].as_str().unwrap_or_default();
    text.parse().context("a descriptor without a digest")
}

/// The layers of the only image of a layout, uncompressed.
pub fn layers(root: &Path) -> Result<Vec<Vec<u8>>> {
    let layout = Layout::open(root)?;
    let index = document(&layout, &serde_json::to_value(layout.only(None)?.descriptor)?)?;
    let manifest = document(&layout, &index["manifests"][0])?;
    let descriptors = manifest["layers"].as_array().cloned().unwrap_or_default();
    descriptors.iter().map(|descriptor| layer(&layout, descriptor)).collect()
}

fn document(layout: &Layout, descriptor: &Value) -> Result<Value> {
    Ok(serde_json::from_slice(&layout.document(&digest(descriptor)?)?)?)
}

fn layer(layout: &Layout, descriptor: &Value) -> Result<Vec<u8>> {
    let path = layout.blob_path(&digest(descriptor)?);
    let blob = fs::read(&path).context(path.display())?;
    if descriptor["mediaType"] != TAR_GZIP {
        let kind = &descriptor["mediaType"];
        return Err(Failure::new(format!("{} is a layer of the type {kind}", path.display())));
    }
    let mut tar = Vec::new();
    GzDecoder::new(&blob[..]).read_to_end(&mut tar).context(path.display())?;
    Ok(tar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::create(folder.path()).unwrap();
        let layer = writer.layer(b"a tar", 9).unwrap();
        let config = json!({ "os": "linux", "architecture": "amd64", "config": {} });
        let image = writer.image(&[layer], config, &json!({})).unwrap();
        let index = writer.index(&[image]).unwrap();
        writer.tag("it", index).unwrap();
        assert_eq!(layers(folder.path()).unwrap(), [b"a tar"]);
    }
}
