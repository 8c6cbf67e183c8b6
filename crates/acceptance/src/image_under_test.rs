//! The image under test: one platform of one tag of a layout.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use etcd_version::EtcdVersion;
use serde_json::Value;

use super::file_entry::FileEntry;
use super::files::LayerReader;
use super::lookup::{ImageError, child, tagged_document};
use super::sizes::Sizes;
use super::version_pairs::{minors, patches, steps};
use oci::docker_archive::ArchiveSource;
use oci::layout::Layout;
use oci::platform::{Platform, own_architecture};
use oci::{Descriptor, Document, Manifest, media_type};

/// The image under test: one platform of one tag of a layout.
#[derive(Clone, Debug)]
pub struct ImageUnderTest {
    pub layout: Layout,
    pub tag: String,
    pub platform: Platform,
    pub manifest: Manifest,
    pub config: Value,
    manifest_bytes: Vec<u8>,
    config_bytes: Vec<u8>,
    /// Everything in the image, as the topmost layer has it.
    pub files: BTreeMap<String, FileEntry>,
    /// The versions that `migrate` may use, in ascending order.
    pub bundled: Vec<EtcdVersion>,
    pub size_bytes: u64,
    windows: Vec<(Descriptor, String)>,
    /// Another image; this one should not be much larger.
    pub against: Option<Sizes>,
}

impl ImageUnderTest {
    /// Opens the image of a platform; the tag may be left out when there is one only.
    pub fn open(
        layout: Layout,
        tag: Option<&str>,
        platform: &Platform,
    ) -> Result<Self, ImageError> {
        let tagged = layout.only(tag)?;
        let (index_bytes, index) = tagged_document(&layout, &tagged)?;
        let Some(index) = index else {
            return Self::read(layout, tagged.tag, platform, index_bytes);
        };
        let bytes = layout.document(&child(&tagged.tag, &index, platform)?.digest)?;
        let mut under_test = Self::read(layout, tagged.tag, platform, bytes)?;
        under_test.windows = index
            .manifests
            .iter()
            .filter(|it| it.platform.as_ref().is_some_and(|it| it.os == "windows"))
            .map(|it| (it.clone(), os_version(it)))
            .collect();
        Ok(under_test)
    }

    fn read(
        layout: Layout,
        tag: String,
        platform: &Platform,
        manifest_bytes: Vec<u8>,
    ) -> Result<Self, ImageError> {
        let unreadable = |source| ImageError::Document { tag: tag.clone(), source };
        let manifest: Manifest = serde_json::from_slice(&manifest_bytes).map_err(unreadable)?;
        let config_bytes = layout.document(&manifest.config.digest)?;
        let config = serde_json::from_slice(&config_bytes).map_err(unreadable)?;
        let size_bytes = manifest.layers.iter().map(|it| it.size).sum();
        let mut under_test = Self {
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
        let files = under_test.layers().files()?;
        under_test.files = files.entries;
        under_test.bundled = files.bundled;
        Ok(under_test)
    }

    fn layers(&self) -> LayerReader<'_> {
        LayerReader {
            layout: &self.layout,
            tag: &self.tag,
            manifest: &self.manifest,
            is_windows: self.platform.is_windows(),
        }
    }

    /// Writes all files below a folder, as a container would see them.
    pub fn unpack(&self, root: &Path) -> Result<(), ImageError> {
        self.layers().unpack(root)
    }

    /// Calls `each` with every entry of every layer; with the layer's name if it is from etcdimg.
    pub fn each_entry(
        &self,
        each: impl FnMut(Option<&str>, &mut tar::Entry<'_, Box<dyn Read>>) -> io::Result<()>,
    ) -> Result<(), ImageError> {
        self.layers().each_entry(each)
    }

    /// The Windows images of the same index, each with its `os.version`.
    pub fn windows(&self) -> &[(Descriptor, String)] {
        &self.windows
    }

    /// Opens one of the Windows images.
    pub fn on_windows(&self, descriptor: &Descriptor) -> Result<Self, ImageError> {
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

    /// The image as an archive that an engine loads under the name `reference`.
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
        self.bundled.last().expect("`LayerReader::files` refuses an image without versions")
    }

    pub fn oldest(&self) -> &EtcdVersion {
        self.bundled.first().expect("`LayerReader::files` refuses an image without versions")
    }

    /// The newest patch of each minor: the one that `migrate` starts.
    pub fn minors(&self) -> Vec<&EtcdVersion> {
        minors(&self.bundled)
    }

    /// Each minor with the next one.
    pub fn steps(&self) -> Vec<(&EtcdVersion, &EtcdVersion)> {
        steps(&self.bundled)
    }

    /// Every run of three and of four minors: log entries of one version are also read by versions
    /// after the next one.
    pub fn chains(&self) -> Vec<Vec<&EtcdVersion>> {
        let minors = self.minors();
        let of = |length| minors.windows(length).map(<[_]>::to_vec).collect::<Vec<_>>();
        [of(3), of(4)].concat()
    }

    /// Each older patch with the newest one of its minor.
    pub fn patches(&self) -> Vec<(&EtcdVersion, &EtcdVersion)> {
        patches(&self.bundled)
    }
}

fn os_version(descriptor: &Descriptor) -> String {
    descriptor.platform.as_ref().and_then(|it| it.os_version.clone()).unwrap_or_default()
}
