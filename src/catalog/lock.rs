//! etcdimg.lock: what a machine looked up. Written by `etcdimg lock`, enforced by every build.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use etcd_version::EtcdVersion;
use serde::Deserialize;

use super::fault::{At, Fault};
use super::yaml::{self, Spanned, line};
use crate::digest::Digest;
use crate::platform::Platform;

const KEYS: &str = "`lock`, `catalog`, `releases`, `sources`, `toolchains` and `bases`; \
                    `etcdimg lock` writes them";

/// The shape of the file, so that an older program does not misread a newer one.
const LOCK_VERSION: u32 = 1;

/// Every input, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The digest of the catalog it was made from: another one means that the lock is stale.
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
    /// Unknown for sums that were found without their archive.
    pub size: Option<u64>,
    line: u64,
}

/// The Go module below `sources/` that one version is compiled from. Its go.sum pins the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLock {
    pub version: EtcdVersion,
    pub go_mod: Digest,
    pub go_sum: Digest,
    line: u64,
}

/// A Go toolchain, by the `h1:` sum of its module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolchainLock {
    pub go: String,
    /// `linux-amd64`: where it runs.
    pub host: String,
    pub sum: String,
    line: u64,
}

/// A base image, by the digest of its index and of each platform's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseLock {
    pub name: String,
    pub index: Digest,
    pub manifests: Vec<(Platform, Digest)>,
    line: u64,
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

    /// The first entry that nothing of the catalog asks for, or that stands twice: a reviewer
    /// would see two digests, and a build would take one of them.
    pub(super) fn check_used(&self, at: At<'_>, used: &Used<'_>) -> Result<(), Fault> {
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
            let nothing = "nothing: `etcdimg lock` takes it out";
            if !is_used {
                return Err(at.fault(line, field, "nothing uses this entry", nothing));
            }
            if !seen.insert(field.clone()) {
                return Err(at.fault(line, field, "this entry stands twice", nothing));
            }
        }
        Ok(())
    }

    /// The file, as `etcdimg lock` writes it.
    pub fn to_yaml(&self) -> String {
        let mut text = format!(
            "# What every build may use, by digest. Written by `etcdimg lock`; review the diff.\n\
             lock: {LOCK_VERSION}\ncatalog: {}\nreleases:\n",
            self.catalog
        );
        for it in &self.releases {
            let _ = writeln!(text, "  - file: {}\n    digest: {}", it.file, it.digest);
            let _ = it.size.map(|size| writeln!(text, "    size: {size}"));
        }
        text.push_str("sources:\n");
        for it in &self.sources {
            let _ = writeln!(
                text,
                "  - version: {}\n    go.mod: {}\n    go.sum: {}",
                it.version, it.go_mod, it.go_sum
            );
        }
        text.push_str("toolchains:\n");
        for it in &self.toolchains {
            let _ =
                writeln!(text, "  - go: {}\n    host: {}\n    sum: \"{}\"", it.go, it.host, it.sum);
        }
        text.push_str("bases:\n");
        for it in &self.bases {
            let none = if it.manifests.is_empty() { " {}" } else { "" };
            let _ = writeln!(
                text,
                "  - name: {}\n    index: {}\n    manifests:{none}",
                it.name, it.index
            );
            for (platform, digest) in &it.manifests {
                let _ = writeln!(text, "      {platform}: {digest}");
            }
        }
        text
    }
}

/// What the catalog asks of a lock.
pub(super) struct Used<'a> {
    pub release: &'a dyn Fn(&str) -> bool,
    pub source: &'a dyn Fn(&EtcdVersion) -> bool,
    pub toolchain: &'a dyn Fn(&str) -> bool,
    pub base: &'a dyn Fn(&str) -> bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    lock: Spanned<u32>,
    catalog: Spanned<String>,
    releases: Vec<ReleaseEntry>,
    sources: Vec<SourceEntry>,
    toolchains: Vec<ToolchainEntry>,
    bases: Vec<BaseEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseEntry {
    file: Spanned<String>,
    digest: Spanned<String>,
    size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceEntry {
    version: Spanned<String>,
    #[serde(rename = "go.mod")]
    go_mod: Spanned<String>,
    #[serde(rename = "go.sum")]
    go_sum: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolchainEntry {
    go: Spanned<String>,
    host: String,
    sum: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseEntry {
    name: Spanned<String>,
    index: Spanned<String>,
    manifests: std::collections::BTreeMap<String, Spanned<String>>,
}

pub(super) fn parse(at: At<'_>, text: &str) -> Result<Lock, Fault> {
    let file: File = yaml::parse(at, text, KEYS)?;
    if file.lock.value != LOCK_VERSION {
        let problem =
            format!("version {} of the lock file is not known to this etcdimg", file.lock.value);
        return Err(at.fault(
            line(&file.lock),
            "lock",
            problem,
            format!("{LOCK_VERSION}, or use a newer etcdimg"),
        ));
    }
    Ok(Lock {
        catalog: digest(at, "catalog", &file.catalog)?,
        releases: file.releases.iter().map(|it| release(at, it)).collect::<Result<_, _>>()?,
        sources: file.sources.iter().map(|it| source(at, it)).collect::<Result<_, _>>()?,
        toolchains: file
            .toolchains
            .into_iter()
            .map(|it| toolchain(at, it))
            .collect::<Result<_, _>>()?,
        bases: file.bases.into_iter().map(|it| base(at, it)).collect::<Result<_, _>>()?,
    })
}

/// A lock as it stands in the file, whether or not it fits the catalog.
pub fn parse_known(text: &str) -> Result<Lock, Fault> {
    parse(At(super::LOCK_FILE), text)
}

fn digest(at: At<'_>, field: impl Into<String>, text: &Spanned<String>) -> Result<Digest, Fault> {
    text.value.parse().map_err(|error: crate::digest::DigestError| {
        at.fault(line(text), field, error.to_string(), "the digest that `etcdimg lock` looks up")
    })
}

fn release(at: At<'_>, it: &ReleaseEntry) -> Result<ReleaseLock, Fault> {
    let digest = digest(at, format!("releases.{}.digest", it.file.value), &it.digest)?;
    Ok(ReleaseLock { file: it.file.value.clone(), digest, size: it.size, line: line(&it.file) })
}

fn source(at: At<'_>, it: &SourceEntry) -> Result<SourceLock, Fault> {
    let text = &it.version;
    let version: EtcdVersion = text.value.parse().map_err(|error| {
        at.fault(line(text), "sources", format!("{error}"), "a version that versions.yaml bundles")
    })?;
    Ok(SourceLock {
        go_mod: digest(at, format!("sources.{version}.go.mod"), &it.go_mod)?,
        go_sum: digest(at, format!("sources.{version}.go.sum"), &it.go_sum)?,
        version,
        line: line(text),
    })
}

fn toolchain(at: At<'_>, it: ToolchainEntry) -> Result<ToolchainLock, Fault> {
    if !it.sum.value.starts_with("h1:") || it.sum.value.len() != 47 {
        let problem = format!("`{}` is not a module sum", it.sum.value);
        return Err(at.fault(
            line(&it.sum),
            format!("toolchains.{}.sum", it.go.value),
            problem,
            "`h1:` and 44 characters, as in go.sum",
        ));
    }
    let line = line(&it.go);
    Ok(ToolchainLock { go: it.go.value, host: it.host, sum: it.sum.value, line })
}

fn base(at: At<'_>, it: BaseEntry) -> Result<BaseLock, Fault> {
    let field = format!("bases.{}", it.name.value);
    let manifest = |(platform, text): (&String, &Spanned<String>)| {
        let known: Platform = platform.parse().map_err(|error| {
            at.fault(line(text), field.clone(), format!("{error}"), "a platform of targets/")
        })?;
        Ok((known, digest(at, format!("{field}.manifests.{platform}"), text)?))
    };
    Ok(BaseLock {
        index: digest(at, format!("{field}.index"), &it.index)?,
        manifests: it.manifests.iter().map(manifest).collect::<Result<_, _>>()?,
        line: line(&it.name),
        name: it.name.value,
    })
}
