use std::str::FromStr as _;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde_json::Value;

use super::PushError;
use crate::digest::Digest;
use crate::image::json::canonical;
use crate::image::{BASE_LABEL, LAYER_LABEL};
use crate::layout::Layout;
use crate::platform::windows_release;
use crate::registry::{Manifest, Naming, Repository};

/// An image cannot contain itself, but a hostile layout may try.
const MOST_DEPTH: usize = 3;

/// Everything that one document names, as it is to be in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The index, or the manifest of a single image.
    pub root: Manifest,
    /// Indexes below the root, none as a rule, before what names them.
    pub indexes: Vec<Manifest>,
    pub images: Vec<Image>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub manifest: Manifest,
    /// `linux/arm/v7`, `windows/amd64` with its version; nothing when nobody says.
    pub platform: Option<String>,
    pub os_version: Option<String>,
    /// Config and layers, from the base up.
    pub pieces: Vec<Piece>,
}

/// A blob as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
    /// It has its own place elsewhere, and must not be distributed from ours.
    pub is_foreign: bool,
}

impl Content {
    /// Reads what a descriptor of a layout names.
    pub fn read(layout: &Layout, descriptor: &Value) -> Result<Self, PushError> {
        let get = |digest: &Digest| Ok(layout.document(digest)?);
        Self::gather(descriptor, &get)
    }

    /// One index of several that were built apart: the one that a single build of all platforms
    /// would have made.
    pub fn join(mut parts: Vec<Self>) -> Result<Self, PushError> {
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut joined: Option<Value> = None;
        let mut all =
            Self { root: Manifest::new("", Vec::new()), indexes: Vec::new(), images: Vec::new() };
        for part in parts {
            let fault =
                |why: &str| PushError::Document { digest: part.root.digest, why: why.to_owned() };
            let index: Value = serde_json::from_slice(&part.root.bytes)
                .map_err(|error| fault(&error.to_string()))?;
            if !is_index(&part.root.media_type) {
                return Err(fault("it is no index, and only those can be joined"));
            }
            all.root.media_type.clone_from(&part.root.media_type);
            let joined = joined.get_or_insert_with(|| {
                let mut first = index.clone();
                first["manifests"] = Value::Array(Vec::new());
                first
            });
            if joined["annotations"] != index["annotations"] {
                return Err(fault(
                    "it is of another build than the others: its annotations differ",
                ));
            }
            if let Value::Array(known) = &mut joined["manifests"] {
                for child in index["manifests"].as_array().into_iter().flatten() {
                    let twin = known.iter().find(|it| it["platform"] == child["platform"]);
                    match twin {
                        Some(twin) if twin != child => {
                            return Err(fault(
                                "another layout has another image for the same platform",
                            ));
                        }
                        Some(_) => {}
                        None => known.push(child.clone()),
                    }
                }
                // As `image::index` does it.
                known.sort_by_key(|descriptor| descriptor["platform"].to_string());
            }
            all.indexes.extend(part.indexes);
            for image in part.images {
                if !all.images.contains(&image) {
                    all.images.push(image);
                }
            }
        }
        let bytes = canonical(&joined.unwrap_or_default());
        all.root = Manifest::new(all.root.media_type, bytes);
        Ok(all)
    }

    /// Walks down from a descriptor; `get` returns the bytes of a document.
    pub(crate) fn gather(
        descriptor: &Value,
        get: &dyn Fn(&Digest) -> Result<Vec<u8>, PushError>,
    ) -> Result<Self, PushError> {
        let root = document(descriptor, get)?;
        let mut content = Self { root: root.clone(), indexes: Vec::new(), images: Vec::new() };
        content.descend(&root, descriptor, get, 0)?;
        // The root itself is not below the root.
        content.indexes.retain(|index| index.digest != root.digest);
        Ok(content)
    }

    fn descend(
        &mut self,
        manifest: &Manifest,
        descriptor: &Value,
        get: &dyn Fn(&Digest) -> Result<Vec<u8>, PushError>,
        depth: usize,
    ) -> Result<(), PushError> {
        if !is_index(&manifest.media_type) {
            return self.add(manifest, descriptor);
        }
        let fault = |why: String| PushError::Document { digest: manifest.digest, why };
        if depth > MOST_DEPTH {
            return Err(fault("it is nested too deep".to_owned()));
        }
        let index: Value =
            serde_json::from_slice(&manifest.bytes).map_err(|error| fault(error.to_string()))?;
        // Typed once, so that what is wrong is found before anything moves.
        let _: ImageIndex =
            serde_json::from_slice(&manifest.bytes).map_err(|error| fault(error.to_string()))?;
        for child in index["manifests"].as_array().into_iter().flatten() {
            let manifest = document(child, get)?;
            self.descend(&manifest, child, get, depth + 1)?;
        }
        self.indexes.push(manifest.clone());
        Ok(())
    }

    fn add(&mut self, manifest: &Manifest, descriptor: &Value) -> Result<(), PushError> {
        if self.images.iter().any(|image| image.manifest.digest == manifest.digest) {
            return Ok(());
        }
        let fault = |why: String| PushError::Document { digest: manifest.digest, why };
        let parsed: ImageManifest =
            serde_json::from_slice(&manifest.bytes).map_err(|error| fault(error.to_string()))?;
        let all = std::iter::once(parsed.config()).chain(parsed.layers());
        let pieces = all.map(piece).collect::<Result<_, _>>().map_err(fault)?;
        let part = |name: &str| descriptor["platform"][name].as_str();
        let platform = part("os").zip(part("architecture")).map(|(os, architecture)| {
            let variant = part("variant").map(|variant| format!("/{variant}"));
            format!("{os}/{architecture}{}", variant.unwrap_or_default())
        });
        let os_version = part("os.version").map(ToOwned::to_owned);
        self.images.push(Image { manifest: manifest.clone(), platform, os_version, pieces });
        Ok(())
    }
}

impl Image {
    /// Layers that a sparse layout may lack, those of a Windows base, and the repository where the
    /// image says that they are.
    pub fn base(&self) -> Option<(Repository, Vec<Digest>)> {
        let is_windows = self.platform.as_ref().is_some_and(|it| it.starts_with("windows/"));
        let manifest: Value =
            serde_json::from_slice(&self.manifest.bytes).ok().filter(|_| is_windows)?;
        let base: Naming = manifest["annotations"][BASE_LABEL].as_str()?.parse().ok()?;
        base.digest?;
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let of_base = layers.filter(|layer| layer["annotations"][LAYER_LABEL].is_null());
        let digests = of_base.filter_map(|layer| layer["digest"].as_str()?.parse().ok());
        Some((base.repository, digests.collect()))
    }

    /// Without the layers that a sparse layout may lack.
    pub fn own_pieces(&self) -> Vec<Piece> {
        let base = self.base().map(|(_, layers)| layers).unwrap_or_default();
        self.pieces.iter().filter(|piece| !base.contains(&piece.digest)).cloned().collect()
    }

    /// What the old image called its platforms: `linux-arm`, `windows-amd64-ltsc2022`.
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

/// The name of a Windows release, by which its base image is tagged.
fn release(os_version: &str) -> String {
    windows_release(os_version).unwrap_or(os_version).to_owned()
}

pub(super) fn is_index(media_type: &str) -> bool {
    media_type.ends_with("image.index.v1+json") || media_type.ends_with("manifest.list.v2+json")
}

fn document(
    descriptor: &Value,
    get: &dyn Fn(&Digest) -> Result<Vec<u8>, PushError>,
) -> Result<Manifest, PushError> {
    let text = descriptor["digest"].as_str().unwrap_or_default();
    let none = Digest::of("");
    let fault = |digest, why: String| PushError::Document { digest, why };
    let digest = Digest::from_str(text).map_err(|error| fault(none, error.to_string()))?;
    let media_type = descriptor["mediaType"].as_str().unwrap_or_default();
    let bytes = get(&digest)?;
    let manifest = Manifest::new(media_type, bytes);
    if manifest.digest != digest {
        return Err(fault(digest, "its bytes are others".to_owned()));
    }
    Ok(manifest)
}

fn piece(descriptor: &Descriptor) -> Result<Piece, String> {
    let digest = descriptor.digest().to_string();
    let digest = digest.parse().map_err(|error| format!("{error}"))?;
    let media_type = descriptor.media_type().to_string();
    let is_marked = media_type.contains("nondistributable") || media_type.contains("foreign");
    let has_place = descriptor.urls().as_ref().is_some_and(|urls| !urls.is_empty());
    Ok(Piece { digest, size: descriptor.size(), media_type, is_foreign: is_marked && has_place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_is_chosen_by_version_or_release() {
        let image = |platform: &str, os_version: Option<&str>| Image {
            manifest: Manifest::new("", Vec::new()),
            platform: Some(platform.to_owned()),
            os_version: os_version.map(ToOwned::to_owned),
            pieces: Vec::new(),
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
