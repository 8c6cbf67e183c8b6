//! One image as documents describe it, and the blobs that it consists of.

use oci::document::{Descriptor, Manifest};
use oci::media_type::is_nondistributable;

use crate::digest::Digest;
use crate::image::{BASE_LABEL, LAYER_LABEL};
use crate::platform::windows_release;
use crate::registry::RawDocument;
use oci::{Reference, Repository};

/// An image as an index lists it, and what its manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedImage {
    pub manifest: RawDocument,
    /// `linux/arm/v7`, or `windows/amd64` without its version; `None` if no index says.
    pub platform: Option<String>,
    /// The build of Windows: `10.0.20348.2322`.
    pub os_version: Option<String>,
    /// Config and layers, from the base up.
    pub blobs: Vec<BlobDescriptor>,
    pub base: Option<WindowsBase>,
}

/// What a sparse layout may leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowsBase {
    /// Where the image says that its base is from.
    pub repository: Repository,
    /// The digests of the base's layers.
    pub layers: Vec<Digest>,
}

/// A blob as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobDescriptor {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    pub media_type: String,
    /// Where else it can be downloaded.
    pub urls: Vec<String>,
}

impl BlobDescriptor {
    /// Whether it must not be pushed: clients download it from its URLs.
    pub fn is_foreign(&self) -> bool {
        is_nondistributable(&self.media_type) && !self.urls.is_empty()
    }
}

impl From<&Descriptor> for BlobDescriptor {
    fn from(descriptor: &Descriptor) -> Self {
        let Descriptor { media_type, digest, size, urls, .. } = descriptor.clone();
        Self { digest, size, media_type, urls }
    }
}

impl ListedImage {
    /// `descriptor` is what the document above says.
    pub(super) fn new(descriptor: &Descriptor, document: RawDocument, manifest: &Manifest) -> Self {
        let platform = descriptor.platform.as_ref();
        let name = platform.map(|it| {
            let variant = it.variant.as_ref().map(|variant| format!("/{variant}"));
            format!("{}/{}{}", it.os, it.architecture, variant.unwrap_or_default())
        });
        let is_windows = platform.is_some_and(|it| it.os == "windows");
        Self {
            manifest: document,
            platform: name,
            os_version: platform.and_then(|it| it.os_version.clone()),
            blobs: std::iter::once(&manifest.config)
                .chain(&manifest.layers)
                .map(Into::into)
                .collect(),
            base: is_windows.then(|| WindowsBase::of(manifest)).flatten(),
        }
    }

    /// Without the layers that a sparse layout may lack.
    pub fn own_blobs(&self) -> Vec<BlobDescriptor> {
        let is_of_base = |blob: &BlobDescriptor| {
            self.base.as_ref().is_some_and(|base| base.layers.contains(&blob.digest))
        };
        self.blobs.iter().filter(|blob| !is_of_base(blob)).cloned().collect()
    }

    /// The end of the tag of one platform, as the old image had it: `linux-arm`,
    /// `windows-amd64-ltsc2022`.
    pub fn suffix(&self) -> Option<String> {
        let platform = self.platform.as_deref()?;
        let mut parts = platform.split('/');
        let (os, architecture) = (parts.next()?, parts.next()?);
        match &self.os_version {
            Some(version) => Some(format!("{os}-{architecture}-{}", release(version))),
            None => Some(format!("{os}-{architecture}")),
        }
    }

    /// `windows/amd64` means each of its versions, `windows/amd64:ltsc2022` and
    /// `windows/amd64:10.0.20348.2322` one.
    pub fn is_for(&self, wanted: &str) -> bool {
        let Some(platform) = self.platform.as_deref() else { return false };
        let version = match wanted.strip_prefix(platform) {
            Some("") => return true,
            Some(rest) => rest.strip_prefix(':'),
            None => return false,
        };
        let own = self.os_version.as_deref();
        version.zip(own).is_some_and(|(version, own)| version == own || version == release(own))
    }

    /// `windows/amd64:10.0.20348.2322`
    pub fn name(&self) -> String {
        let platform = self.platform.clone().unwrap_or_else(|| self.manifest.digest.short());
        match &self.os_version {
            Some(version) => format!("{platform}:{version}"),
            None => platform,
        }
    }
}

impl WindowsBase {
    /// From the annotations that a build writes; `None` if the base is not pinned there.
    fn of(manifest: &Manifest) -> Option<Self> {
        let name = manifest.annotations.as_ref()?.get(BASE_LABEL)?;
        let reference: Reference = name.parse().ok()?;
        reference.digest?;
        let is_of_base = |layer: &&Descriptor| !layer.annotations.contains_key(LAYER_LABEL);
        let layers = manifest.layers.iter().filter(is_of_base).map(|layer| layer.digest);
        Some(Self { repository: reference.repository, layers: layers.collect() })
    }
}

/// The name of a Windows release, by which its base image is tagged.
fn release(os_version: &str) -> String {
    windows_release(os_version).unwrap_or(os_version).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_is_chosen_by_version_or_release() {
        let image = |platform: &str, os_version: Option<&str>| ListedImage {
            manifest: RawDocument::new("", Vec::new()),
            platform: Some(platform.to_owned()),
            os_version: os_version.map(ToOwned::to_owned),
            blobs: Vec::new(),
            base: None,
        };
        let windows = image("windows/amd64", Some("10.0.20348.2322"));
        let rows = [
            ("windows/amd64", true),
            ("windows/amd64:ltsc2022", true),
            ("windows/amd64:10.0.20348.2322", true),
            ("windows/amd64:ltsc2025", false),
            ("windows/amd6", false),
            ("linux/amd64", false),
        ];
        for (wanted, expected) in rows {
            assert_eq!(windows.is_for(wanted), expected, "{wanted}");
        }
        assert!(!image("linux/arm", None).is_for("linux/arm64"));
        assert_eq!(windows.suffix().as_deref(), Some("windows-amd64-ltsc2022"));
        assert_eq!(image("linux/arm/v7", None).suffix().as_deref(), Some("linux-arm"));
        assert_eq!(release("10.0.17763.3650"), "1809");
        assert_eq!(release("10.0.99999.1"), "10.0.99999.1");
    }
}
