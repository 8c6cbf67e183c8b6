//! Executes the plan: downloads and compiles what is missing, makes layers in parallel, joins them
//! to images and writes the layout.
//!
//! A layer that was made from the same inputs in the same format is taken from the store, so a
//! build where nothing changed opens no connection and reads no archive.
//!
//! Not responsible for deciding what is in an image: that is the plan.

mod inputs;
mod layers;
mod parallel;
mod retry;

use std::collections::BTreeSet;
use std::path::Path;

use oci::document::{Descriptor, Index, PlatformFields};

use crate::archive::ArchiveError;
use crate::base::{self, BaseError};
use crate::catalog::Lock;
use crate::compile::{CompileContext, CompileError, CompileOptions};
use crate::digest::Digest;
use crate::fetch::{self, FetchError};
use crate::image::{self, Image};
use crate::layer::{Layer, LayerError};
use crate::layout::{Layout, LayoutError};
use crate::plan::Plan;
use crate::program::WrongProgram;
use crate::registry::Registries;
use crate::store::{Store, StoreError};
use crate::ui::Ui;

pub use inputs::{fetch_bases, fetch_modules, fetch_releases};

/// What building needs, whatever the plan is.
#[derive(Clone, Copy, Debug)]
pub struct BuildContext<'a> {
    pub store: &'a Store,
    pub compile: &'a CompileOptions,
    pub lock: &'a Lock,
    pub fetch: &'a fetch::FetchOptions,
    pub registries: &'a Registries,
    pub runtime: &'a tokio::runtime::Runtime,
    pub is_offline: bool,
    /// Whether layers of Windows bases are left in their registry.
    pub is_sparse: bool,
    pub ui: &'a Ui,
}

impl<'a> BuildContext<'a> {
    fn compile(&self) -> CompileContext<'a> {
        CompileContext { store: self.store, options: self.compile, lock: self.lock, ui: self.ui }
    }
}

/// Why nothing was built.
///
/// Most are errors of the modules below; `commands::failures` gives each an exit code.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A release archive has to be downloaded, but must not be.
    #[error("`{0}` is not in the cache, and --offline is set")]
    Offline(String),
    /// No source of the layer has a program that the plan names.
    #[error("the plan has `/{0}`, but its source has no such program")]
    NoProgram(String),
    /// Programs that are not what the plan says; all differences at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    WrongProgram(Vec<WrongProgram>),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Base(#[from] BaseError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    pub index: Digest,
    pub images: Vec<Image>,
    pub layout: Layout,
}

/// Builds the plan into a layout. If the store finds a corrupted entry, it removes the entry, and
/// the build is repeated.
pub fn build(plan: &Plan, context: &BuildContext<'_>, out: &Path) -> Result<Built, BuildError> {
    retry::after_corruption(context.ui, || attempt(plan, context, out))
}

/// The finished layers of every image, in the order of the plan: those that `build` puts into a
/// layout.
pub fn layers(plan: &Plan, context: &BuildContext<'_>) -> Result<Vec<Vec<Layer>>, BuildError> {
    retry::after_corruption(context.ui, || layers::make(plan, context))
}

fn attempt(plan: &Plan, context: &BuildContext<'_>, out: &Path) -> Result<Built, BuildError> {
    let layers = layers::make(plan, context)?;
    let mut images = Vec::new();
    let mut left = BTreeSet::new();
    for (image, layers) in plan.images.iter().zip(&layers) {
        let fetch_context = fetch_context(plan, context);
        let base = base::resolve(&fetch_context, &image.base.source, &image.platform)?;
        if context.is_sparse && image.platform.is_windows() {
            let digests = base.layers.iter().map(|layer| layer.digest);
            left.extend(digests.filter(|digest| !context.store.has(digest)));
        }
        images.push(image::image(plan, image, &base, layers));
    }
    let (layout, _guard) = Layout::create(out)?;
    for image in &images {
        let is_here = |layer: &&Layer| !layer.is_foreign() && !left.contains(&layer.digest);
        for layer in image.layers.iter().filter(is_here) {
            let (store, digest) = (context.store, &layer.digest);
            layout.add_blob(digest, store.size(digest), || {
                store.open_verified(digest).map_err(BuildError::from)
            })?;
        }
        layout.add_bytes(&image.config)?;
        layout.add_bytes(&image.manifest)?;
    }
    let index = image::index(plan, &images, others(plan, &layout, &images)?);
    let digest = layout.add_bytes(&index)?;
    layout.tag(&[(plan.tag.clone(), index.descriptor())])?;
    Ok(Built { index: digest, images, layout })
}

fn fetch_context<'a>(plan: &Plan, context: &'a BuildContext<'a>) -> base::FetchContext<'a> {
    base::FetchContext {
        store: context.store,
        registries: context.registries,
        runtime: context.runtime,
        is_offline: context.is_offline,
        is_sparse: context.is_sparse,
        compression: plan.compression,
    }
}

/// Descriptors of images for other platforms that an earlier build gave the same tag. They are kept
/// if they bundle the same versions in the same format; otherwise the old index is replaced.
fn others(plan: &Plan, layout: &Layout, images: &[Image]) -> Result<Vec<Descriptor>, BuildError> {
    let known = layout.tagged()?.into_iter().find(|tagged| tagged.tag == plan.tag);
    let digest = known.and_then(|it| it.entry.descriptor().ok()).map(|it| it.digest);
    let bytes = digest.and_then(|digest| layout.document(&digest).ok());
    let Some(index) = bytes.and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok()) else {
        return Ok(Vec::new());
    };
    let (theirs, ours) = (index.annotations.unwrap_or_default(), image::index_annotations(plan));
    let same = |name: &str| theirs.get(name) == ours.get(name);
    if !same(contract::labels::BUNDLED_VERSIONS) || !same(contract::labels::FORMAT) {
        return Ok(Vec::new());
    }
    let is_built = |other: &Descriptor| {
        let platform = other.platform.as_ref();
        platform.is_some_and(|other| images.iter().any(|it| is_same(&it.listed, other)))
    };
    Ok(index.manifests.into_iter().filter(|other| !is_built(other)).collect())
}

/// Whether two platforms are the same. Two builds of one Windows are: `10.0.20348.…`.
fn is_same(one: &PlatformFields, other: &PlatformFields) -> bool {
    fn release(platform: &PlatformFields) -> impl Iterator<Item = &str> {
        platform.os_version.as_deref().unwrap_or_default().split('.').take(3)
    }
    one.os == other.os
        && one.architecture == other.architecture
        && one.variant == other.variant
        && release(one).eq(release(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_build_of_a_windows_takes_the_place_of_the_older() {
        let windows = |version: &str| PlatformFields {
            os: "windows".into(),
            os_version: Some(version.into()),
            ..PlatformFields::default()
        };
        let linux = PlatformFields { os: "linux".into(), ..PlatformFields::default() };
        assert!(is_same(&windows("10.0.20348.1"), &windows("10.0.20348.2")));
        assert!(!is_same(&windows("10.0.20348.1"), &windows("10.0.26100.1")));
        assert!(!is_same(&linux, &windows("10.0.20348.1")));
    }
}
