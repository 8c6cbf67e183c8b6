//! The files of an image: the content of its layers, one over the other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use contract::labels::LAYER as LAYER_LABEL;
use contract::paths::FILES;
use etcd_version::{BUNDLED_PATH, Bundled, EtcdVersion};
use oci::layout::Layout;
use oci::{Descriptor, Manifest};

use super::file_entry::{FileEntry, FileKind};
use super::lookup::ImageError;

/// No file of a base or of etcdimg is larger.
const FILE_LIMIT: u64 = 4 << 30;

/// The layers of one image, in their order.
pub(super) struct LayerReader<'a> {
    pub layout: &'a Layout,
    pub tag: &'a str,
    pub manifest: &'a Manifest,
    pub is_windows: bool,
}

/// What all layers together contain.
pub(super) struct ImageFiles {
    /// By path; each as the topmost layer has it.
    pub entries: BTreeMap<String, FileEntry>,
    /// The versions that the image says it contains, at least one.
    pub bundled: Vec<EtcdVersion>,
}

impl LayerReader<'_> {
    /// Reads the content of all layers, once.
    pub(super) fn files(&self) -> Result<ImageFiles, ImageError> {
        let bundled_path = if self.is_windows {
            format!("{FILES}/{BUNDLED_PATH}")
        } else {
            BUNDLED_PATH.to_owned()
        };
        let mut bundled = None;
        let mut entries = BTreeMap::new();
        self.each_entry(|name, entry| {
            let path = entry.path()?.to_path_buf();
            let Some(path) = plain(&path) else { return Ok(()) };
            if let Some(gone) = whiteout(&path) {
                entries.retain(|path: &String, _| !is_below(path, &gone));
                return Ok(());
            }
            if path == bundled_path {
                let mut text = String::new();
                entry.take(1 << 16).read_to_string(&mut text)?;
                bundled = Some(text);
            }
            entries.insert(path, file_entry(entry, name)?);
            Ok(())
        })?;
        let no = |why: String| ImageError::Bundled { tag: self.tag.to_owned(), why };
        let text = bundled.ok_or_else(|| no(format!("there is no /{BUNDLED_PATH}")))?;
        let bundled: Bundled = text.parse().map_err(|error| no(format!("{error}")))?;
        let bundled = bundled.versions().to_vec();
        if bundled.is_empty() {
            return Err(no(format!("/{BUNDLED_PATH} is empty")));
        }
        Ok(ImageFiles { entries, bundled })
    }

    /// Writes all files below a folder, as a container would see them.
    pub(super) fn unpack(&self, root: &Path) -> Result<(), ImageError> {
        self.each_entry(|_, entry| {
            let path = entry.path()?.to_path_buf();
            let Some(path) = plain(&path) else { return Ok(()) };
            if let Some(gone) = whiteout(&path) {
                return remove(&root.join(gone));
            }
            let target = root.join(&path);
            if fs::symlink_metadata(&target).is_ok_and(|known| !known.is_dir()) {
                fs::remove_file(&target)?;
            }
            entry.set_preserve_permissions(true);
            entry.unpack_in(root).map(drop)
        })
    }

    pub(super) fn each_entry(
        &self,
        mut each: impl FnMut(Option<&str>, &mut tar::Entry<'_, Box<dyn Read>>) -> io::Result<()>,
    ) -> Result<(), ImageError> {
        for descriptor in &self.manifest.layers {
            let name = descriptor.annotations.get(LAYER_LABEL).map(String::as_str);
            // Layers of Windows itself may exist only in the registry of Microsoft, and are not
            // tested.
            if self.is_windows && name.is_none() {
                continue;
            }
            let failed = |source| ImageError::Layer {
                tag: self.tag.to_owned(),
                name: name.map_or_else(
                    || format!("layer {}", descriptor.digest),
                    |name| format!("the layer `{name}`"),
                ),
                source,
            };
            let mut archive = tar::Archive::new(self.layer(descriptor).map_err(failed)?);
            // Only root can give files to other users; without root all of them belong to the
            // caller.
            archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
            for entry in archive.entries().map_err(failed)? {
                entry.and_then(|mut entry| each(name, &mut entry)).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn layer(&self, descriptor: &Descriptor) -> io::Result<Box<dyn Read>> {
        let file = File::open(self.layout.blob_path(&descriptor.digest))?;
        let file = BufReader::with_capacity(1 << 17, file);
        let media_type = &descriptor.media_type;
        Ok(if media_type.ends_with("gzip") {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        } else if media_type.ends_with("+zstd") {
            Box::new(zstd::Decoder::new(file)?)
        } else {
            Box::new(file)
        })
    }
}

/// A path of a tar without parts that lead out of it; empty for the root itself.
fn plain(path: &Path) -> Option<String> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_str()),
        _ => None,
    });
    let parts = parts.collect::<Option<Vec<_>>>()?;
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// image-spec layer.md, "Whiteouts": what an upper layer takes away.
fn whiteout(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = name.strip_prefix(".wh.")?;
    Some(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") })
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn remove(path: &PathBuf) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

fn file_entry<R: Read>(entry: &tar::Entry<'_, R>, layer: Option<&str>) -> io::Result<FileEntry> {
    let link = || -> io::Result<String> {
        let name = entry.link_name()?.map(|name| name.display().to_string());
        Ok(name.unwrap_or_default())
    };
    let header = entry.header();
    let kind = match header.entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous => FileKind::File,
        tar::EntryType::Directory => FileKind::Directory,
        tar::EntryType::Symlink => FileKind::SymbolicLink(link()?),
        tar::EntryType::Link => FileKind::HardLink(link()?),
        _ => FileKind::Other,
    };
    let size_bytes = header.size()?;
    if size_bytes > FILE_LIMIT {
        return Err(io::Error::other("a file is larger than 4 GiB"));
    }
    Ok(FileEntry {
        kind,
        mode: header.mode()? & 0o7777,
        uid: header.uid()?,
        gid: header.gid()?,
        size_bytes,
        layer: layer.map(str::to_owned),
    })
}
