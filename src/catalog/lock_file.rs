//! Reads and writes the text of etcdimg.lock.
//!
//! It is written by hand: the YAML library quotes keys with a colon, such as
//! `windows/amd64:ltsc2022`, and the text of existing lock files must not change.

use std::fmt::Write as _;

use etcd_version::EtcdVersion;
use serde::Deserialize;

use super::fault::{At, Fault};
use super::lock::{BaseLock, Lock, ReleaseLock, SourceLock, ToolchainLock};
use super::yaml::{self, Spanned, line};
use crate::digest::Digest;
use crate::platform::Platform;

const KEYS: &str = "`lock`, `catalog`, `releases`, `sources`, `toolchains` and `bases`; \
                    `etcdimg lock` writes them";

/// The version of the file's format, so that an older etcdimg does not misread a newer file.
const LOCK_VERSION: u32 = 1;

impl Lock {
    /// The text of the file, as `etcdimg lock` writes it.
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
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

/// Reads the text of a lock, whether or not it fits the catalog.
pub fn parse_lock(text: &str) -> Result<Lock, Fault> {
    parse(At(super::LOCK_FILE), text)
}

/// Reads the file.
pub(super) fn parse(at: At<'_>, text: &str) -> Result<Lock, Fault> {
    let file: LockFile = yaml::parse(at, text, KEYS)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_this_repository_is_written_as_it_was_read() {
        let text = include_str!("../../etcdimg.lock");
        assert_eq!(parse(At("etcdimg.lock"), text).unwrap().to_yaml(), text);
    }
}
