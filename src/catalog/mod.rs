//! What is to be built, from which inputs: versions.yaml, targets/ and etcdimg.lock, checked.
//!
//! A [`Catalog`] that exists is consistent; every mistake in the files is one [`Fault`] with its
//! place. Reading files is `load`'s; everything else here is pure.
//! Not responsible for: the shape of the image, which the plan decides.

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
pub use target::{Origin, Target};
pub use versions::{BundledEtcd, Mirror, Versions};

use crate::digest::Digest;
use fault::At;
use lock::Used;

/// The name among `bases` of the image that compiles; no image is built on it.
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

/// Everything that people and `etcdimg lock` wrote down, without contradictions.
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

    /// What a lock depends on; it says nothing of the revision or of mirrors.
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

    /// The release archives that a build of every target may ask for.
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
            &Used {
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

/// What the etcd project calls the archive of a version for a platform.
pub fn release_file(version: &EtcdVersion, target: &Target) -> String {
    let extension = if target.platform.os == "linux" { "tar.gz" } else { "zip" };
    format!("etcd-v{version}-{}-{}.{extension}", target.platform.os, target.goarch)
}
