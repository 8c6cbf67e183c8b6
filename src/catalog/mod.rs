//! The files that say what is built and from which inputs: versions.yaml, targets/ and
//! etcdimg.lock, read and checked.
//!
//! A [`Catalog`] that exists is consistent. A mistake in a file is a [`Fault`] with its line.
//! Only `load` reads files; everything else here is pure.
//!
//! Not responsible for the shape of the image, which the plan decides.

mod fault;
mod load;
pub mod lock;
mod lock_file;
mod target;
mod versions;
mod yaml;

use std::collections::BTreeMap;
use std::path::PathBuf;

use etcd_version::EtcdVersion;

pub use fault::Fault;
pub use load::{LOCK_FILE, LoadError, VERSIONS_FILE, load};
pub use lock::Lock;
pub use lock_file::parse_lock;
pub use target::{Origin, Target};
pub use versions::{BundledEtcd, Mirror, Versions};

use crate::digest::Digest;
use fault::At;
use lock::NeededEntries;

/// The name in `bases` of the image that buildx compiles in; it is the base of no image.
const BUILDER: &str = "builder";

/// The files, as text.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    pub versions: String,
    /// File name and text of each target.
    pub targets: Vec<(String, String)>,
    pub lock: Option<String>,
    /// The digests of go.mod and go.sum of each version below `sources/`.
    pub sources: BTreeMap<String, (Digest, Digest)>,
}

/// The checked content of versions.yaml and targets/.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The folder that the files were read from.
    pub root: PathBuf,
    pub versions: Versions,
    pub targets: Vec<Target>,
    /// Digests of the Go modules as they are on disk, for a lock to be compared with.
    pub sources: BTreeMap<String, (Digest, Digest)>,
}

/// A catalog whose every input is locked. Only this one can be built.
#[derive(Clone, Debug)]
pub struct Locked {
    pub catalog: Catalog,
    pub lock: Lock,
}

impl Locked {
    /// The image in which buildx compiles, by its locked digest: the base named `builder`.
    pub fn builder_image(&self) -> Option<String> {
        let reference = self.catalog.versions.bases.get(BUILDER)?;
        Some(format!("{reference}@{}", self.lock.base(BUILDER)?.index))
    }
}

/// Why a lock cannot be used with a catalog.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock has a mistake, or lacks something that the catalog needs.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The lock was made from another catalog.
    #[error(
        "etcdimg.lock is stale\n  expected {expected}, the catalog as it is now\n  received {actual}, the catalog it was made from"
    )]
    Stale { expected: Digest, actual: Digest },
}

impl Catalog {
    pub fn parse(root: PathBuf, texts: &Texts) -> Result<Self, Fault> {
        let versions = versions::parse(At("versions.yaml"), &texts.versions)?;
        let mut targets = Vec::new();
        for (name, text) in &texts.targets {
            let at = format!("targets/{name}");
            let target = target::parse(At(&at), text, &versions.bases)?;
            let expected = format!("{}.yaml", target.platform.dashed());
            if *name != expected {
                let problem = format!("this file describes {}", target.platform);
                return Err(At(&at).fault(
                    1,
                    "platform",
                    problem,
                    format!("the same in targets/{expected}"),
                ));
            }
            targets.push(target);
        }
        targets.sort_by(|a, b| a.platform.cmp(&b.platform));
        Ok(Self { root, versions, targets, sources: texts.sources.clone() })
    }

    /// The digest of everything that a lock depends on: not the revision, not the mirrors.
    pub fn digest(&self) -> Digest {
        let bundled = self
            .versions
            .bundled
            .iter()
            .map(|etcd| format!("etcd {} go {} {}\n", etcd.version, etcd.go, etcd.commit));
        let bases = self
            .versions
            .bases
            .iter()
            .map(|(name, reference)| format!("base {name} {reference}\n"));
        let targets = self
            .targets
            .iter()
            .map(|it| format!("target {} {} {}\n", it.platform, it.base, it.origin.as_str()));
        let sources = self
            .sources
            .iter()
            .map(|(version, (go_mod, go_sum))| format!("source {version} {go_mod} {go_sum}\n"));
        Digest::of(bundled.chain(bases).chain(targets).chain(sources).collect::<String>())
    }

    /// The release archives that a build of all targets may need: version and file name.
    pub fn releases(&self) -> impl Iterator<Item = (EtcdVersion, String)> + '_ {
        self.targets.iter().filter(|target| target.origin == Origin::Release).flat_map(|target| {
            self.versions
                .bundled
                .iter()
                .map(|etcd| (etcd.version.clone(), release_file(&etcd.version, target)))
        })
    }

    /// Joins the catalog with the text of its lock, if they fit together.
    pub fn lock(self, text: &str) -> Result<Locked, LockError> {
        let at = At(LOCK_FILE);
        let lock = lock_file::parse(at, text)?;
        self.check_complete(at, &lock)?;
        lock.check_used(
            at,
            &NeededEntries {
                release: &|file| self.releases().any(|(_, known)| known == file),
                source: &|version| {
                    self.versions.bundled.iter().any(|etcd| etcd.version == *version)
                },
                toolchain: &|go| self.versions.bundled.iter().any(|etcd| etcd.go == go),
                base: &|name| self.versions.bases.contains_key(name),
            },
        )?;
        let expected = self.digest();
        if lock.catalog != expected {
            return Err(LockError::Stale { expected, actual: lock.catalog });
        }
        Ok(Locked { catalog: self, lock })
    }

    fn check_complete(&self, at: At<'_>, lock: &Lock) -> Result<(), Fault> {
        let missing = |field: String, what: String| {
            Err(at.fault(1, field, format!("{what} has no entry"), "what `etcdimg lock` looks up"))
        };
        if let Some((version, file)) =
            self.releases().find(|(_, file)| lock.release(file).is_none())
        {
            return missing(format!("releases.{file}"), format!("etcd {version}"));
        }
        for etcd in &self.versions.bundled {
            if lock.source(&etcd.version).is_none() {
                return missing(
                    format!("sources.{}", etcd.version),
                    format!("etcd {}", etcd.version),
                );
            }
        }
        for target in &self.targets {
            if lock.base(&target.base).and_then(|base| base.manifest(&target.platform)).is_none() {
                let field = format!("bases.{}.manifests.{}", target.base, target.platform);
                return missing(field, format!("the base of {}", target.platform));
            }
        }
        Ok(())
    }
}

/// The file name of a release archive, as the etcd project gives it.
pub fn release_file(version: &EtcdVersion, target: &Target) -> String {
    let extension = if target.platform.os == "linux" { "tar.gz" } else { "zip" };
    format!("etcd-v{version}-{}-{}.{extension}", target.platform.os, target.goarch)
}
