//! The plan: what will be built and from which inputs, in the shape of the product.
//!
//! `etcdimg plan` prints it and `build` executes it. Computing it is pure: no files, no network, no
//! clock.
//!
//! Not responsible for how inputs are downloaded, compiled or written.

mod base;
mod image;
mod matrix;
mod text;

use std::collections::BTreeMap;

use etcd_version::EtcdVersion;
use serde::Serialize;

pub use base::{BaseOverride, BaseSource};
pub use matrix::matrix;

use crate::catalog::{Locked, Mirror, Origin, Target};
use crate::digest::Digest;
use crate::layer::format::{Compression, FORMAT};
use crate::platform::Platform;

/// What the user chose on the command line.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Empty means all default targets.
    pub platforms: Vec<Platform>,
    /// Instead of what the target files say.
    pub origin: Option<Origin>,
    pub bases: BTreeMap<String, BaseSource>,
    /// Tried before the mirrors of versions.yaml.
    pub mirrors: Vec<Mirror>,
    pub compression: Compression,
    /// `SOURCE_DATE_EPOCH`, or 0: the only time in the image.
    pub epoch_seconds: u64,
}

/// Everything that will be in the layout.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub format: u32,
    pub repository: String,
    pub tag: String,
    pub compression: Compression,
    pub epoch_seconds: u64,
    pub images: Vec<ImagePlan>,
}

/// One image: a base, then one layer for each etcd version, then `migrate`.
#[derive(Clone, Debug, Serialize)]
pub struct ImagePlan {
    pub platform: Platform,
    pub base: BasePlan,
    pub layers: Vec<LayerPlan>,
    pub environment: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// The base image of an image.
#[derive(Clone, Debug, Serialize)]
pub struct BasePlan {
    pub name: String,
    #[serde(flatten)]
    pub source: BaseSource,
}

/// One layer: a source of programs, and the entries of the tar.
#[derive(Clone, Debug, Serialize)]
pub struct LayerPlan {
    /// `etcd 3.6.14` or `migrate`.
    pub name: String,
    pub source: ProgramSource,
    pub entries: Vec<EntryPlan>,
}

/// Where the programs of a layer come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ProgramSource {
    Release(ReleaseSource),
    Modules(ModulesSource),
    Workspace(WorkspaceSource),
}

/// A release archive of the etcd project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReleaseSource {
    #[serde(serialize_with = "display")]
    pub version: EtcdVersion,
    pub go: String,
    pub commit: String,
    pub file: String,
    pub urls: Vec<String>,
    pub digest: Digest,
    pub size: Option<u64>,
}

/// Go modules, from which etcd is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModulesSource {
    #[serde(serialize_with = "display")]
    pub version: EtcdVersion,
    pub go: String,
    pub commit: String,
    pub go_mod: Digest,
    pub go_sum: Digest,
    pub goos: String,
    pub goarch: String,
    pub goarm: Option<String>,
}

/// `migrate`, compiled from this repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkspaceSource {
    pub rust: String,
    /// The zig release, which links the program and has the C library.
    pub zig: String,
    pub triple: String,
    /// The platform of the triple, without a release of Windows: one program is for all of them.
    pub platform: Platform,
}

/// One path of a layer. The owner is always root.
#[derive(Clone, Debug, Serialize)]
pub struct EntryPlan {
    pub path: String,
    #[serde(serialize_with = "octal")]
    pub mode: u32,
    #[serde(flatten)]
    pub content: EntryContent,
}

/// What is at a path of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "content", rename_all = "kebab-case")]
pub enum EntryContent {
    Directory,
    /// A program of the layer's source.
    Program {
        name: String,
    },
    /// A file whose text the plan knows.
    Text {
        text: String,
    },
    /// A second name of a file in the same layer.
    HardLink {
        to: String,
    },
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// `--platform` or `--arch` names a platform without a target file.
    #[error("targets/ has no file for {0}")]
    UnknownPlatform(Platform),
    /// `--from release` is used for a platform whose target file says `origin: source`.
    #[error("etcdimg.lock has no release archive `{0}`")]
    UnlockedRelease(String),
    /// `--base` or a target file names an unknown base.
    #[error("versions.yaml has no base `{0}`")]
    UnknownBase(String),
}

/// Decides everything and does nothing: no file is read, nothing is downloaded.
pub fn plan(locked: &Locked, choice: &Choice) -> Result<Plan, PlanError> {
    let known = &locked.catalog.versions.bases;
    if let Some(name) = choice.bases.keys().find(|name| !known.contains_key(*name)) {
        return Err(PlanError::UnknownBase(name.clone()));
    }
    let targets = targets(&locked.catalog.targets, &choice.platforms)?;
    Ok(Plan {
        format: FORMAT,
        repository: locked.catalog.versions.repository.clone(),
        tag: locked.catalog.versions.tag.to_string(),
        compression: choice.compression,
        epoch_seconds: choice.epoch_seconds,
        images: targets
            .into_iter()
            .map(|target| image::plan(locked, choice, target))
            .collect::<Result<_, _>>()?,
    })
}

fn targets<'a>(all: &'a [Target], wanted: &[Platform]) -> Result<Vec<&'a Target>, PlanError> {
    if wanted.is_empty() {
        return Ok(all.iter().filter(|target| target.is_default).collect());
    }
    let mut chosen = Vec::new();
    for platform in wanted {
        let named = |target: &&Target| target.platform == *platform;
        let meant = |target: &&Target| target.is_default && platform.includes(&target.platform);
        let found: Vec<_> = all.iter().filter(|it| named(it) || meant(it)).collect();
        if found.is_empty() {
            return Err(PlanError::UnknownPlatform(platform.clone()));
        }
        chosen.extend(found);
    }
    chosen.sort_by(|a, b| a.platform.cmp(&b.platform));
    chosen.dedup_by(|a, b| a.platform == b.platform);
    Ok(chosen)
}

/// A mode as people write it: `0555`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

fn display<S: serde::Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
