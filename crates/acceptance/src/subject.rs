use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use etcd_version::{BUNDLED_PATH, Bundled, EtcdVersion};
use serde_json::Value;

use contract::labels::LAYER as LAYER_LABEL;
use contract::paths::FILES;
use oci::docker_archive::ArchiveSource;
use oci::layout::{Layout, LayoutError, Tagged};
use oci::platform::{Platform, own_architecture};
use oci::{Descriptor, Document, Index, Manifest, media_type};

/// No file of a base or of ours is larger.
const FILE_LIMIT: u64 = 4 << 30;

/// The image under test: one platform of one tag of a layout.
#[derive(Clone, Debug)]
pub struct Subject {
    pub layout: Layout,
    pub tag: String,
    pub platform: Platform,
    pub manifest: Manifest,
    pub config: Value,
    manifest_bytes: Vec<u8>,
    config_bytes: Vec<u8>,
    /// Everything in the image, as the topmost layer has it.
    pub files: BTreeMap<String, FileEntry>,
    /// What `migrate` may use, in ascending order.
    pub bundled: Vec<EtcdVersion>,
    pub size_bytes: u64,
    windows: Vec<(Descriptor, String)>,
    /// Another image, which this one should not be much larger than.
    pub against: Option<Sizes>,
}

/// A file of the image, as its tar entry describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    pub kind: FileKind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size_bytes: u64,
    /// Ours, by the annotation of the layer.
    pub layer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    SymbolicLink(String),
    HardLink(String),
    Other,
}

/// Why an image cannot be tested at all.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("`{tag}` has no image for {platform}, only for {}", others.join(", "))]
    NoPlatform { tag: String, platform: String, others: Vec<String> },
    #[error("a document of `{tag}` cannot be read")]
    Document { tag: String, source: serde_json::Error },
    #[error("{name} of `{tag}` cannot be read")]
    Layer { tag: String, name: String, source: io::Error },
    #[error("`{tag}` does not say which versions of etcd it bundles: {why}")]
    Bundled { tag: String, why: String },
}

/// How large the parts of an image are, compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub tag: String,
    pub total_bytes: u64,
    /// The base, each minor of etcd, migrate.
    pub parts: BTreeMap<String, u64>,
}

impl Sizes {
    /// Of a platform's image; nothing but documents is read.
    pub fn open(
        layout: &Layout,
        tag: Option<&str>,
        platform: &Platform,
    ) -> Result<Self, SubjectError> {
        let tagged = layout.only(tag)?;
        let (mut bytes, index) = tagged_document(layout, &tagged)?;
        if let Some(index) = index {
            bytes = layout.document(&child(&tagged.tag, &index, platform)?.digest)?;
        }
        let manifest = serde_json::from_slice(&bytes)
            .map_err(|source| SubjectError::Document { tag: tagged.tag.clone(), source })?;
        Ok(Self::of(tagged.tag, &manifest))
    }

    pub fn of(tag: String, manifest: &Manifest) -> Self {
        let mut parts = BTreeMap::new();
        for layer in &manifest.layers {
            let name = layer.annotations.get(LAYER_LABEL);
            *parts.entry(part(name.map_or("base", String::as_str))).or_default() += layer.size;
        }
        Self { tag, total_bytes: parts.values().sum(), parts }
    }
}

/// `etcd 3.6.14` and `etcd 3.6.15` are the same part.
fn part(layer: &str) -> String {
    match layer.rsplit_once('.') {
        Some((series, _)) if layer.starts_with("etcd ") => series.to_owned(),
        _ => layer.to_owned(),
    }
}

impl Subject {
    /// Opens the image of a platform; the tag may be left out when there is one only.
    pub fn open(
        layout: Layout,
        tag: Option<&str>,
        platform: &Platform,
    ) -> Result<Self, SubjectError> {
        let tagged = layout.only(tag)?;
        let (index_bytes, index) = tagged_document(&layout, &tagged)?;
        let Some(index) = index else {
            return Self::read(layout, tagged.tag, platform, index_bytes);
        };
        let bytes = layout.document(&child(&tagged.tag, &index, platform)?.digest)?;
        let mut subject = Self::read(layout, tagged.tag, platform, bytes)?;
        subject.windows = index
            .manifests
            .iter()
            .filter(|it| it.platform.as_ref().is_some_and(|it| it.os == "windows"))
            .map(|it| (it.clone(), os_version(it)))
            .collect();
        Ok(subject)
    }

    fn read(
        layout: Layout,
        tag: String,
        platform: &Platform,
        manifest_bytes: Vec<u8>,
    ) -> Result<Self, SubjectError> {
        let unreadable = |source| SubjectError::Document { tag: tag.clone(), source };
        let manifest: Manifest = serde_json::from_slice(&manifest_bytes).map_err(unreadable)?;
        let config_bytes = layout.document(&manifest.config.digest)?;
        let config = serde_json::from_slice(&config_bytes).map_err(unreadable)?;
        let size_bytes = manifest.layers.iter().map(|it| it.size).sum();
        let mut subject = Self {
            layout,
            tag,
            platform: platform.clone(),
            manifest,
            config,
            manifest_bytes,
            config_bytes,
            files: BTreeMap::new(),
            bundled: Vec::new(),
            size_bytes,
            windows: Vec::new(),
            against: None,
        };
        subject.look()?;
        Ok(subject)
    }

    /// What the same index has for Windows, each with its `os.version`.
    pub fn windows(&self) -> &[(Descriptor, String)] {
        &self.windows
    }

    /// One of them.
    pub fn on_windows(&self, descriptor: &Descriptor) -> Result<Self, SubjectError> {
        let platform = Platform {
            os: "windows".to_owned(),
            architecture: "amd64".to_owned(),
            variant: None,
            os_version: None,
        };
        let bytes = self.layout.document(&descriptor.digest)?;
        Self::read(self.layout.clone(), self.tag.clone(), &platform, bytes)
    }

    /// Whether its programs are for another machine than this one, so that an emulator runs them.
    pub fn is_foreign(&self) -> bool {
        self.platform.architecture != own_architecture()
    }

    pub fn manifest_document(&self) -> Document {
        Document { media_type: media_type::MANIFEST, bytes: self.manifest_bytes.clone() }
    }

    /// For an engine, under a name.
    pub fn archive(&self, reference: String) -> ArchiveSource {
        ArchiveSource {
            layout: self.layout.clone(),
            config: Document { media_type: media_type::CONFIG, bytes: self.config_bytes.clone() },
            manifest: self.manifest_document(),
            layers: self.manifest.layers.clone(),
            reference,
        }
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.config["config"]["Labels"][name].as_str()
    }

    /// The environment that the config gives every process, as `NAME=value`.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let list = self.config["config"]["Env"].as_array().into_iter().flatten();
        let pairs = list.filter_map(|it| it.as_str()?.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The last bundled version, which plain `etcd` runs.
    pub fn newest(&self) -> &EtcdVersion {
        self.bundled.last().expect("`look` refuses an image without versions")
    }

    pub fn oldest(&self) -> &EtcdVersion {
        self.bundled.first().expect("`look` refuses an image without versions")
    }

    /// The newest patch of each minor: the one that `migrate` starts.
    pub fn minors(&self) -> Vec<&EtcdVersion> {
        minors(&self.bundled)
    }

    /// Each minor with the next one.
    pub fn steps(&self) -> Vec<(&EtcdVersion, &EtcdVersion)> {
        steps(&self.bundled)
    }

    /// Every run of three and of four minors: what one version leaves in its log is met by those
    /// after the next one, too.
    pub fn chains(&self) -> Vec<Vec<&EtcdVersion>> {
        let minors = self.minors();
        let of = |length| minors.windows(length).map(<[_]>::to_vec).collect::<Vec<_>>();
        [of(3), of(4)].concat()
    }

    /// Each older patch with the newest one of its minor.
    pub fn patches(&self) -> Vec<(&EtcdVersion, &EtcdVersion)> {
        patches(&self.bundled)
    }

    /// Reads all layers once for what is in them.
    fn look(&mut self) -> Result<(), SubjectError> {
        let bundled_path = if self.platform.is_windows() {
            format!("{FILES}/{BUNDLED_PATH}")
        } else {
            BUNDLED_PATH.to_owned()
        };
        let mut bundled = None;
        let mut files = BTreeMap::new();
        self.each_entry(|name, entry| {
            let path = entry.path()?.to_path_buf();
            let Some(path) = plain(&path) else { return Ok(()) };
            if let Some(gone) = whiteout(&path) {
                files.retain(|path: &String, _| !is_below(path, &gone));
                return Ok(());
            }
            if path == bundled_path {
                let mut text = String::new();
                entry.take(1 << 16).read_to_string(&mut text)?;
                bundled = Some(text);
            }
            files.insert(path, file_entry(entry, name)?);
            Ok(())
        })?;
        self.files = files;
        let no = |why: String| SubjectError::Bundled { tag: self.tag.clone(), why };
        let text = bundled.ok_or_else(|| no(format!("there is no /{BUNDLED_PATH}")))?;
        let bundled: Bundled = text.parse().map_err(|error| no(format!("{error}")))?;
        self.bundled = bundled.versions().to_vec();
        if self.bundled.is_empty() {
            return Err(no(format!("/{BUNDLED_PATH} is empty")));
        }
        Ok(())
    }

    /// Writes all files below a folder, as a container would see them.
    pub fn unpack(&self, root: &Path) -> Result<(), SubjectError> {
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

    pub fn each_entry(
        &self,
        mut each: impl FnMut(Option<&str>, &mut tar::Entry<'_, Box<dyn Read>>) -> io::Result<()>,
    ) -> Result<(), SubjectError> {
        for descriptor in &self.manifest.layers {
            let name = descriptor.annotations.get(LAYER_LABEL).map(String::as_str);
            // Layers of Windows itself may be nowhere but at Microsoft, and are not ours to judge.
            if self.platform.is_windows() && name.is_none() {
                continue;
            }
            let failed = |source| SubjectError::Layer {
                tag: self.tag.clone(),
                name: name.map_or_else(
                    || format!("layer {}", descriptor.digest),
                    |name| format!("the layer `{name}`"),
                ),
                source,
            };
            let mut archive = tar::Archive::new(self.layer(descriptor).map_err(failed)?);
            // Only root may give files to others; for a user all of them are their own.
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

fn minors(bundled: &[EtcdVersion]) -> Vec<&EtcdVersion> {
    // In ascending order, so the last one of a minor is its newest.
    bundled.chunk_by(EtcdVersion::is_same_series).filter_map(<[_]>::last).collect()
}

fn steps(bundled: &[EtcdVersion]) -> Vec<(&EtcdVersion, &EtcdVersion)> {
    let minors = minors(bundled);
    minors.iter().copied().zip(minors.iter().copied().skip(1)).collect()
}

fn patches(bundled: &[EtcdVersion]) -> Vec<(&EtcdVersion, &EtcdVersion)> {
    let of_minor = bundled.chunk_by(EtcdVersion::is_same_series);
    let pairs = of_minor
        .filter_map(<[_]>::split_last)
        .flat_map(|(newest, older)| older.iter().map(move |it| (it, newest)));
    pairs.collect()
}

/// What a tag names, and the same as an index if it is one.
fn tagged_document(
    layout: &Layout,
    tagged: &Tagged,
) -> Result<(Vec<u8>, Option<Index>), SubjectError> {
    let unreadable = |source| SubjectError::Document { tag: tagged.tag.clone(), source };
    let descriptor: Descriptor =
        serde_json::from_value(tagged.descriptor.clone()).map_err(unreadable)?;
    let bytes = layout.document(&descriptor.digest)?;
    let is_index = descriptor.media_type == media_type::INDEX;
    let index = is_index.then(|| serde_json::from_slice(&bytes)).transpose();
    Ok((bytes, index.map_err(unreadable)?))
}

fn os_version(descriptor: &Descriptor) -> String {
    descriptor.platform.as_ref().and_then(|it| it.os_version.clone()).unwrap_or_default()
}

fn child(tag: &str, index: &Index, wanted: &Platform) -> Result<Descriptor, SubjectError> {
    let known = |it: &Descriptor| {
        let platform = it.platform.as_ref()?;
        let parts = [Some(&platform.os), Some(&platform.architecture), platform.variant.as_ref()];
        let parts = parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
        let text = parts.join("/");
        text.parse::<Platform>().ok()
    };
    let found = index.manifests.iter().find(|it| known(it).as_ref() == Some(wanted));
    found.cloned().ok_or_else(|| SubjectError::NoPlatform {
        tag: tag.to_owned(),
        platform: wanted.to_string(),
        others: index.manifests.iter().filter_map(known).map(|it| it.to_string()).collect(),
    })
}

/// A path of a tar without what leads out of it; nothing for the root itself.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lead_from_minor_to_minor_and_patches_to_their_newest() {
        check("3.5.33 3.6.14", "3.5.33-3.6.14", "");
        check("3.4.21 3.5.33 3.6.14", "3.4.21-3.5.33 3.5.33-3.6.14", "");
        check("3.5.30 3.5.33 3.6.14", "3.5.33-3.6.14", "3.5.30-3.5.33");
        check(
            "3.4.21 3.4.25 3.5.30 3.5.31 3.5.33",
            "3.4.25-3.5.33",
            "3.4.21-3.4.25 3.5.30-3.5.33 3.5.31-3.5.33",
        );
        check("3.7.1", "", "");
    }

    #[track_caller]
    fn check(bundled: &str, expected_steps: &str, expected_patches: &str) {
        let bundled: Vec<EtcdVersion> = bundled.split(' ').map(|it| it.parse().unwrap()).collect();
        let join = |pairs: Vec<(&EtcdVersion, &EtcdVersion)>| {
            let pairs = pairs.iter().map(|(from, to)| format!("{from}-{to}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(join(steps(&bundled)), expected_steps);
        assert_eq!(join(patches(&bundled)), expected_patches);
    }
}
