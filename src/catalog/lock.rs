//! etcdimg.lock: the digests that `etcdimg lock` looked up and that every build enforces.

use std::collections::BTreeSet;

use etcd_version::EtcdVersion;

use super::fault::{At, Fault};
use crate::digest::Digest;
use crate::platform::Platform;

/// Every input, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The digest of the catalog that the lock was made from. If the catalog has another digest
    /// now, the lock is stale.
    pub catalog: Digest,
    pub releases: Vec<ReleaseLock>,
    pub sources: Vec<SourceLock>,
    pub toolchains: Vec<ToolchainLock>,
    pub bases: Vec<BaseLock>,
}

/// A release archive of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseLock {
    pub file: String,
    pub digest: Digest,
    /// In bytes; `None` if only the digest was looked up.
    pub size: Option<u64>,
    pub(super) line: u64,
}

/// The Go module below `sources/` that one version is compiled from. Its go.sum pins all other
/// modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLock {
    pub version: EtcdVersion,
    pub go_mod: Digest,
    pub go_sum: Digest,
    pub(super) line: u64,
}

/// A Go toolchain, by the `h1:` sum of its module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolchainLock {
    pub go: String,
    /// The platform that it runs on: `linux-amd64`.
    pub host: String,
    pub sum: String,
    pub(super) line: u64,
}

/// A base image, by the digest of its index and of each platform's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseLock {
    pub name: String,
    pub index: Digest,
    pub manifests: Vec<(Platform, Digest)>,
    pub(super) line: u64,
}

impl ReleaseLock {
    pub fn new(file: String, digest: Digest, size: Option<u64>) -> Self {
        Self { file, digest, size, line: 0 }
    }
}

impl SourceLock {
    pub fn new(version: EtcdVersion, go_mod: Digest, go_sum: Digest) -> Self {
        Self { version, go_mod, go_sum, line: 0 }
    }
}

impl ToolchainLock {
    pub fn new(go: String, host: String, sum: String) -> Self {
        Self { go, host, sum, line: 0 }
    }
}

impl BaseLock {
    pub fn new(name: String, index: Digest, manifests: Vec<(Platform, Digest)>) -> Self {
        Self { name, index, manifests, line: 0 }
    }

    pub fn manifest(&self, platform: &Platform) -> Option<Digest> {
        self.manifests.iter().find(|(known, _)| known == platform).map(|(_, digest)| *digest)
    }
}

impl Lock {
    pub fn release(&self, file: &str) -> Option<&ReleaseLock> {
        self.releases.iter().find(|release| release.file == file)
    }

    pub fn source(&self, version: &EtcdVersion) -> Option<&SourceLock> {
        self.sources.iter().find(|source| source.version == *version)
    }

    pub fn toolchain(&self, go: &str, host: &str) -> Option<&ToolchainLock> {
        self.toolchains.iter().find(|toolchain| toolchain.go == go && toolchain.host == host)
    }

    pub fn base(&self, name: &str) -> Option<&BaseLock> {
        self.bases.iter().find(|base| base.name == name)
    }

    /// Refuses an entry that the catalog does not need, and a duplicate entry: a reviewer would see
    /// two digests, and a build would use one of them.
    pub(super) fn check_used(&self, at: At<'_>, used: &NeededEntries<'_>) -> Result<(), Fault> {
        let releases = self
            .releases
            .iter()
            .map(|it| (it.line, format!("releases.{}", it.file), (used.release)(&it.file)));
        let sources = self
            .sources
            .iter()
            .map(|it| (it.line, format!("sources.{}", it.version), (used.source)(&it.version)));
        let toolchains = self.toolchains.iter().map(|it| {
            (it.line, format!("toolchains.{}.{}", it.go, it.host), (used.toolchain)(&it.go))
        });
        let bases = self
            .bases
            .iter()
            .map(|it| (it.line, format!("bases.{}", it.name), (used.base)(&it.name)));
        let mut seen = BTreeSet::new();
        for (line, field, is_used) in releases.chain(sources).chain(toolchains).chain(bases) {
            let nothing = "nothing: `etcdimg lock` removes it";
            if !is_used {
                return Err(at.fault(line, field, "unused entry", nothing));
            }
            if !seen.insert(field.clone()) {
                return Err(at.fault(line, field, "duplicate entry", nothing));
            }
        }
        Ok(())
    }
}

/// Whether the catalog needs an entry of the lock.
pub(super) struct NeededEntries<'a> {
    pub release: &'a dyn Fn(&str) -> bool,
    pub source: &'a dyn Fn(&EtcdVersion) -> bool,
    pub toolchain: &'a dyn Fn(&str) -> bool,
    pub base: &'a dyn Fn(&str) -> bool,
}
