//! The base image: the layers below ours, and the environment that its config states.
//!
//! Wherever it comes from, its bytes are verified against the digest of the plan before they are
//! used, and what was read is remembered under that digest.

mod from_layout;
mod from_registry;
mod rootfs;

use std::path::PathBuf;

use oci::document::{Descriptor, ImageConfig, Index, Manifest};
use oci::media_type::{DOCKER_FOREIGN_LAYER, DOCKER_LAYER, LAYER_GZIP, LAYER_ZSTD};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::digest::Digest;
use crate::image::{Base, STAND_IN};
use crate::layer::format::{Compression, FORMAT};
use crate::layer::{Layer, LayerError, NONDISTRIBUTABLE_TYPE};
use crate::layout::LayoutError;
use crate::plan::BaseSource;
use crate::platform::{Platform, windows_release};
use crate::registry::{Registries, RegistryError};
use crate::store::{Store, StoreError};

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error("the base {0} is not in the cache, and --offline is set")]
    Offline(String),
    #[error("the base {base} has no image for {platform}")]
    NoPlatform { base: String, platform: String },
    #[error("the base {base} is for {received}, the image for {expected}")]
    WrongPlatform { base: String, expected: String, received: String },
    #[error(
        "the base {base} has no os.version in its config, so the Windows that runs it is unknown"
    )]
    NoWindows { base: String },
    #[error("the base {base} cannot be read: {why}")]
    Unreadable { base: String, why: String },
    #[error("cannot read `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What fetching a base needs.
#[derive(Clone, Copy, Debug)]
pub struct FetchContext<'a> {
    pub store: &'a Store,
    pub registries: &'a Registries,
    pub runtime: &'a tokio::runtime::Runtime,
    pub is_offline: bool,
    /// Layers of Windows stay in their registry.
    pub is_sparse: bool,
    pub compression: Compression,
}

/// The base, whose layers are in the store afterwards; fetched if it has to be.
pub fn resolve(
    context: &FetchContext<'_>,
    source: &BaseSource,
    platform: &Platform,
) -> Result<Base, BaseError> {
    let key = Digest::of(format!(
        "base {FORMAT} {source} {platform} {:?} {}",
        context.compression,
        context.compression.level()
    ));
    let is_registry = matches!(source, BaseSource::Registry { .. });
    let is_left = context.is_sparse && is_registry && platform.is_windows();
    let is_whole = |base: &Base| {
        is_left || base.layers.iter().all(|it| it.is_foreign() || context.store.has(&it.digest))
    };
    if let Some(base) = context.store.record::<Base>("base", &key).filter(is_whole) {
        return Ok(base);
    }
    let base = match source {
        // A tar does not say which Windows it is.
        BaseSource::Rootfs { .. } if platform.is_windows() => {
            return Err(BaseError::NoWindows { base: source.to_string() });
        }
        BaseSource::Rootfs { path, digest } => rootfs::read(context, path, *digest)?,
        BaseSource::Layout { path, digest } => {
            let reader = from_layout::LayoutBase::open(context, path)?;
            let base = read(&reader, source, *digest, platform)?;
            reader.fetch_layers(&own(&base))?;
            base
        }
        BaseSource::Registry { reference, digest } => {
            if context.is_offline {
                return Err(BaseError::Offline(source.to_string()));
            }
            let reader = from_registry::RegistryBase::new(context, reference, *digest)?;
            let base = read(&reader, source, *digest, platform)?;
            if !is_left {
                reader.fetch_layers(&own(&base))?;
            }
            base
        }
    };
    context.store.put_record("base", &key, &base)?;
    Ok(base)
}

/// The layers that are where the base is.
fn own(base: &Base) -> Vec<Layer> {
    base.layers.iter().filter(|layer| !layer.is_foreign()).cloned().collect()
}

/// Reads the parts of a base, and verifies their digests.
trait BaseReader {
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, BaseError>;
    fn config(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, BaseError>;
    /// Fetches layers into the store.
    fn fetch_layers(&self, layers: &[Layer]) -> Result<(), BaseError>;
}

fn read(
    reader: &impl BaseReader,
    source: &BaseSource,
    digest: Digest,
    platform: &Platform,
) -> Result<Base, BaseError> {
    let unreadable = |why: String| BaseError::Unreadable { base: source.to_string(), why };
    let manifest = manifest(reader, source, digest, platform)?;
    let bytes = reader.config(&manifest.config.digest, manifest.config.size)?;
    let config: ImageConfig = serde_json::from_slice(&bytes)
        .map_err(|error| unreadable(format!("its config: {error}")))?;
    let received = format!("{}/{}", config.platform.os, config.platform.architecture);
    if received != format!("{}/{}", platform.os, platform.architecture) {
        let expected = platform.to_string();
        return Err(BaseError::WrongPlatform { base: source.to_string(), expected, received });
    }
    let layers = layers(&manifest, &config).map_err(unreadable)?;
    let os_version = config.platform.os_version;
    if platform.is_windows() {
        let no_windows = || BaseError::NoWindows { base: source.to_string() };
        let received = os_version.clone().ok_or_else(no_windows)?;
        if !is_release(&received, platform) {
            let (base, expected) = (source.to_string(), platform.to_string());
            return Err(BaseError::WrongPlatform { base, expected, received });
        }
    }
    Ok(Base {
        layers,
        environment: config.config.and_then(|it| it.env).unwrap_or_default(),
        history: config.history,
        os_version,
        os_features: config.platform.os_features,
        stand_in: manifest.annotations.and_then(|it| it.get(STAND_IN).cloned()),
    })
}

/// Tells an index from a manifest, whose media type a digest does not state.
#[derive(Deserialize)]
struct IndexProbe {
    manifests: Option<IgnoredAny>,
}

/// The digest may be a manifest's or that of an index which names it.
fn manifest(
    reader: &impl BaseReader,
    source: &BaseSource,
    digest: Digest,
    platform: &Platform,
) -> Result<Manifest, BaseError> {
    let unreadable = |error: serde_json::Error| BaseError::Unreadable {
        base: source.to_string(),
        why: error.to_string(),
    };
    let bytes = reader.manifest(&digest)?;
    let probe: IndexProbe = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if probe.manifests.is_none() {
        return serde_json::from_slice(&bytes).map_err(unreadable);
    }
    let index: Index = serde_json::from_slice(&bytes).map_err(unreadable)?;
    let is_wanted = |descriptor: &&Descriptor| {
        let os_version = descriptor.platform.as_ref().and_then(|it| it.os_version.as_ref());
        is_for(descriptor, platform) && os_version.is_none_or(|it| is_release(it, platform))
    };
    let found = index.manifests.iter().find(is_wanted);
    let no_platform =
        || BaseError::NoPlatform { base: source.to_string(), platform: platform.to_string() };
    let child = found.ok_or_else(no_platform)?.digest;
    serde_json::from_slice(&reader.manifest(&child)?).map_err(unreadable)
}

/// Whether an `os.version` belongs to the release of Windows that a platform names. Unknown
/// releases are accepted.
fn is_release(os_version: &str, platform: &Platform) -> bool {
    let release = windows_release(os_version);
    platform.os_version.as_deref().is_none_or(|wanted| release.is_none_or(|it| it == wanted))
}

/// Whether a descriptor of an index is for this platform.
pub fn is_for(descriptor: &Descriptor, platform: &Platform) -> bool {
    descriptor.platform.as_ref().is_some_and(|it| {
        // Many indexes state arm64's only variant, v8; some do not.
        let variant = it.variant.as_deref().filter(|variant| *variant != "v8");
        it.os == platform.os
            && it.architecture == platform.architecture
            && variant == platform.variant.as_deref()
    })
}

fn layers(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Layer>, String> {
    let (layers, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
    if diff_ids.len() != layers.len() {
        return Err(format!("{} layers, but {} diff IDs", layers.len(), diff_ids.len()));
    }
    let layer = |(descriptor, diff_id): (&Descriptor, &Digest)| {
        Ok(Layer {
            media_type: oci_layer_type(&descriptor.media_type)?.to_owned(),
            digest: descriptor.digest,
            size: descriptor.size,
            diff_id: *diff_id,
            urls: descriptor.urls.clone(),
        })
    };
    layers.iter().zip(diff_ids).map(layer).collect()
}

/// Docker's media types and OCI's are for the same bytes.
fn oci_layer_type(media_type: &str) -> Result<&str, String> {
    match media_type {
        DOCKER_LAYER | LAYER_GZIP => Ok(LAYER_GZIP),
        LAYER_ZSTD | "application/vnd.oci.image.layer.v1.tar" => Ok(media_type),
        // Not to be pushed: clients download them from their URLs.
        DOCKER_FOREIGN_LAYER | NONDISTRIBUTABLE_TYPE => Ok(NONDISTRIBUTABLE_TYPE),
        _ => Err(format!("layers of type {media_type} are not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    struct Documents(BTreeMap<Digest, Vec<u8>>);

    impl Documents {
        fn add(&mut self, document: &Value) -> Value {
            let bytes = document.to_string().into_bytes();
            let (digest, size) = (Digest::of(&bytes), bytes.len());
            self.0.insert(digest, bytes);
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": digest, "size": size })
        }
    }

    impl BaseReader for Documents {
        fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, BaseError> {
            Ok(self.0[digest].clone())
        }

        fn config(&self, config: &Digest, _size: u64) -> Result<Vec<u8>, BaseError> {
            self.manifest(config)
        }

        fn fetch_layers(&self, _layers: &[Layer]) -> Result<(), BaseError> {
            Ok(())
        }
    }

    #[test]
    fn of_several_windows_the_release_that_is_named_is_taken() {
        let mut documents = Documents(BTreeMap::new());
        let mut manifests = Vec::new();
        for os_version in ["10.0.20348.1", "10.0.26100.1"] {
            let windows =
                json!({ "os": "windows", "architecture": "amd64", "os.version": os_version });
            let mut config = windows.clone();
            config["rootfs"] = json!({ "type": "layers", "diff_ids": [] });
            let config = documents.add(&config);
            let mut listed =
                documents.add(&json!({ "schemaVersion": 2, "config": config, "layers": [] }));
            listed["platform"] = windows;
            manifests.push(listed);
        }
        let index = documents.add(&json!({ "schemaVersion": 2, "manifests": manifests }));
        let digest: Digest = index["digest"].as_str().unwrap().parse().unwrap();
        let source = BaseSource::Layout { path: "base".into(), digest };
        let taken = |release: &str| {
            let platform = format!("windows/amd64:{release}").parse().unwrap();
            read(&documents, &source, digest, &platform).map(|base| base.os_version.unwrap())
        };
        assert_eq!(taken("ltsc2022").unwrap(), "10.0.20348.1");
        assert_eq!(taken("ltsc2025").unwrap(), "10.0.26100.1");
        assert!(matches!(taken("1809"), Err(BaseError::NoPlatform { .. })));
    }
}
