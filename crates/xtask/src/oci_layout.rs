//! Writes OCI image layouts of small images by etcdimg's own code, and reads the layers of an image
//! that etcdimg built.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use oci::document::{Annotations, RootFs};
use oci::media_type::{CONFIG, INDEX, LAYER_GZIP, MANIFEST};
use oci::{Descriptor, Digest, Document, ImageConfig, Index, Layout, Manifest};

use crate::error::{ErrorContext as _, Result, TaskError};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer in a layout.
#[derive(Debug)]
pub struct LayoutLayer {
    descriptor: Descriptor,
    diff_id: Digest,
}

/// An OCI image layout that is being written.
#[derive(Debug)]
pub struct LayoutWriter {
    layout: Layout,
    /// Held as long as the layout is written.
    _lock: fs::File,
}

impl LayoutWriter {
    pub fn create(root: &Path) -> Result<Self> {
        let (layout, lock) = Layout::create(root)?;
        Ok(Self { layout, _lock: lock })
    }

    /// A compressed layer of a tar.
    pub fn layer(&self, tar: &[u8], level: u32) -> Result<LayoutLayer> {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::new(level));
        gzip.write_all(tar)?;
        let descriptor = self.add(&Document { media_type: LAYER_GZIP, bytes: gzip.finish()? })?;
        Ok(LayoutLayer { descriptor, diff_id: Digest::of(tar) })
    }

    /// An uncompressed layer of a tar, which is moved into the layout from its own file system.
    pub fn plain_layer(&self, tar: &Path) -> Result<LayoutLayer> {
        let (digest, size) = Digest::of_reader(fs::File::open(tar).context(tar.display())?)?;
        fs::rename(tar, self.layout.blob_path(&digest)).context(tar.display())?;
        Ok(LayoutLayer { descriptor: Descriptor::new(TAR, digest, size), diff_id: digest })
    }

    /// The config and manifest of an image; the descriptor of the manifest, with the platform.
    /// `config` is everything but the layers.
    pub fn image(
        &self,
        layers: &[LayoutLayer],
        config: ImageConfig,
        annotations: Option<Annotations>,
    ) -> Result<Descriptor> {
        let diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let rootfs = RootFs { kind: "layers".to_owned(), diff_ids };
        let platform = Some(config.platform.clone());
        let config = self.add(&Document::new(CONFIG, &ImageConfig { rootfs, ..config }))?;
        let layers = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let manifest = Manifest { annotations, ..Manifest::new(config, layers) };
        Ok(Descriptor { platform, ..self.add(&Document::new(MANIFEST, &manifest))? })
    }

    /// An index; its descriptor.
    pub fn index(&self, manifests: Vec<Descriptor>) -> Result<Descriptor> {
        self.add(&Document::new(INDEX, &Index::new(manifests)))
    }

    /// Makes index.json name an image or an index.
    pub fn tag(&self, tag: &str, descriptor: Descriptor) -> Result<()> {
        Ok(self.layout.tag(&[(tag.to_owned(), descriptor)])?)
    }

    fn add(&self, document: &Document) -> Result<Descriptor> {
        self.layout.add_bytes(document)?;
        Ok(document.descriptor())
    }
}

/// The layers of the only image of a layout, uncompressed.
pub fn layers(root: &Path) -> Result<Vec<Vec<u8>>> {
    let layout = Layout::open(root)?;
    let index = layout.only(None)?.entry.descriptor()?;
    let index: Index = serde_json::from_slice(&layout.document(&index.digest)?)?;
    let no_image = || TaskError::new(format!("{} contains no image", root.display()));
    let image = index.manifests.first().ok_or_else(no_image)?;
    let manifest: Manifest = serde_json::from_slice(&layout.document(&image.digest)?)?;
    manifest.layers.iter().map(|descriptor| layer(&layout, descriptor)).collect()
}

fn layer(layout: &Layout, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let path = layout.blob_path(&descriptor.digest);
    let blob = fs::read(&path).context(path.display())?;
    if descriptor.media_type != LAYER_GZIP {
        let kind = &descriptor.media_type;
        return Err(TaskError::new(format!("{} is a layer of the type {kind}", path.display())));
    }
    let mut tar = Vec::new();
    GzDecoder::new(&blob[..]).read_to_end(&mut tar).context(path.display())?;
    Ok(tar)
}

/// Writes programs of a layer into a folder; `name` says which entries are programs, and what they
/// are called.
pub fn unpack(layer: &[u8], name: fn(&Path) -> Option<&str>, folder: &Path) -> Result<()> {
    for entry in tar::Archive::new(layer).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(name) = name(&path) else { continue };
        if !entry.header().entry_type().is_file() {
            return Err(TaskError::new(format!("{} is not a regular file", path.display())));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let to = folder.join(name);
        fs::write(&to, bytes).context(to.display())?;
        fs::set_permissions(&to, fs::Permissions::from_mode(entry.header().mode()?))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let writer = LayoutWriter::create(folder.path()).unwrap();
        let layer = writer.layer(b"a tar", 9).unwrap();
        let image = writer.image(&[layer], ImageConfig::default(), None).unwrap();
        let index = writer.index(vec![image]).unwrap();
        writer.tag("it", index).unwrap();
        assert_eq!(layers(folder.path()).unwrap(), [b"a tar"]);
    }
}
