//! versions.yaml: which etcd versions, toolchains and base images an image is made of.

use std::collections::BTreeMap;

use etcd_version::facts::{Floor, MinorChange};
use etcd_version::{EtcdVersion, Facts, ImageTag};
use serde::Deserialize;

use super::fault::{At, Fault};
use super::yaml::{self, Spanned, line};
use oci::Repository;

const KEYS: &str = "`repository`, `revision`, `etcd` (a list of `version`, `go`, `commit` and \
                    perhaps `also: true`), `rust`, `zig`, `bases`, `mirrors` and \
                    perhaps `mount-from`";

/// versions.yaml, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    pub repository: String,
    pub tag: ImageTag,
    pub bundled: Vec<BundledEtcd>,
    pub rust: String,
    pub zig: String,
    pub bases: BTreeMap<String, String>,
    pub mirrors: Vec<Mirror>,
    /// Repositories that may already have blobs of the image, for example earlier releases.
    pub mount_from: Vec<Repository>,
}

/// One version of etcd that goes into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundledEtcd {
    pub version: EtcdVersion,
    /// The Go release that compiles it: etcd's own `.go-version` at that tag.
    pub go: String,
    /// The commit of the release tag; the programs print its first digits as `Git SHA`.
    pub commit: String,
}

impl BundledEtcd {
    pub fn programs(&self) -> &'static [&'static str] {
        etcd_version::programs_of(&self.version)
    }
}

/// Where release archives are: a URL with `{version}` and `{file}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror(String);

impl Mirror {
    pub fn parse(text: &str) -> Option<Self> {
        let schemes = ["https://", "http://", "file://"];
        schemes.iter().any(|scheme| text.starts_with(scheme)).then(|| Self(text.to_owned()))
    }

    pub fn url(&self, version: &EtcdVersion, file: &str) -> String {
        let url = self.0.replace("{version}", &version.to_string());
        if url.contains("{file}") {
            url.replace("{file}", file)
        } else {
            format!("{}/{file}", url.trim_end_matches('/'))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct VersionsFile {
    repository: Spanned<String>,
    revision: Spanned<String>,
    etcd: Spanned<Vec<EtcdEntry>>,
    rust: Spanned<String>,
    zig: Spanned<String>,
    bases: BTreeMap<String, Spanned<String>>,
    mirrors: Vec<Spanned<String>>,
    #[serde(default)]
    mount_from: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EtcdEntry {
    version: Spanned<String>,
    go: Spanned<String>,
    commit: Spanned<String>,
    #[serde(default)]
    also: bool,
}

pub fn parse(at: At<'_>, text: &str) -> Result<Versions, Fault> {
    let file: VersionsFile = yaml::parse(at, text, KEYS)?;
    let bundled = bundled(at, &file.etcd)?;
    Ok(Versions {
        repository: repository(at, &file.repository)?,
        tag: ImageTag { etcd: last(&bundled), revision: revision(at, &file.revision)? },
        bundled,
        rust: toolchain(at, "rust", &file.rust)?,
        zig: toolchain(at, "zig", &file.zig)?,
        bases: bases(at, file.bases)?,
        mirrors: mirrors(at, &file.mirrors)?,
        mount_from: mount_from(at, &file.mount_from)?,
    })
}

fn last(bundled: &[BundledEtcd]) -> EtcdVersion {
    bundled.last().expect("`bundled` refuses an empty list").version.clone()
}

/// A repository name by the grammar of distribution-spec, without a registry.
fn repository(at: At<'_>, name: &Spanned<String>) -> Result<String, Fault> {
    let is_component = |part: &str| {
        part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
            && part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && part.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    if name.value.split('/').all(is_component) {
        return Ok(name.value.clone());
    }
    let problem = format!("`{}` is not a repository name", name.value);
    Err(at.fault(line(name), "repository", problem, "lower-case letters, digits, `.`, `_`, `-` and `/`, for example `etcd`; the registry is given when pushing"))
}

fn revision(at: At<'_>, text: &Spanned<String>) -> Result<u32, Fault> {
    // Parsed as part of a tag, so that both have the same grammar.
    format!("3.0.0-{}", text.value).parse::<ImageTag>().map(|tag| tag.revision).map_err(|_| {
        let problem = format!("`{}` is not a revision", text.value);
        at.fault(
            line(text),
            "revision",
            problem,
            "a number: `0` for a new etcd version, one more for every rebuild",
        )
    })
}

fn bundled(at: At<'_>, entries: &Spanned<Vec<EtcdEntry>>) -> Result<Vec<BundledEtcd>, Fault> {
    if entries.value.is_empty() {
        return Err(at.fault(
            line(entries),
            "etcd",
            "no version is bundled",
            "at least one version of etcd",
        ));
    }
    let mut bundled: Vec<BundledEtcd> = Vec::new();
    for (i, entry) in entries.value.iter().enumerate() {
        let next = bundled_etcd(at, i, entry)?;
        if let Some(previous) = bundled.last() {
            check_order(at, i, entry, &previous.version, &next.version)?;
        }
        bundled.push(next);
    }
    check_stepping_stone(at, &bundled, &entries.value)?;
    Ok(bundled)
}

fn bundled_etcd(at: At<'_>, i: usize, entry: &EtcdEntry) -> Result<BundledEtcd, Fault> {
    let field = |name: &str| format!("etcd[{i}].{name}");
    let text = &entry.version;
    let version: EtcdVersion = text.value.parse().map_err(|_| {
        let problem = format!("`{}` is not an etcd version", text.value);
        at.fault(line(text), field("version"), problem, "three numbers, for example `3.6.14`")
    })?;
    if version.major() != 3 {
        let problem = format!("etcd {version} is not of major version 3");
        return Err(at.fault(line(text), field("version"), problem, "a 3.x version"));
    }
    let commit = &entry.commit;
    if commit.value.len() != 40
        || !commit.value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        let problem = format!("`{}` is not a commit", commit.value);
        return Err(at.fault(
            line(commit),
            field("commit"),
            problem,
            "the 40 hex digits of the commit that the release tag names",
        ));
    }
    let go = toolchain(at, &field("go"), &entry.go)?;
    Ok(BundledEtcd { version, go, commit: commit.value.clone() })
}

fn toolchain(at: At<'_>, field: &str, text: &Spanned<String>) -> Result<String, Fault> {
    let numbers: Vec<_> = text.value.split('.').collect();
    let is_number =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if numbers.len() == 3 && numbers.iter().all(is_number) {
        return Ok(text.value.clone());
    }
    let problem = format!("`{}` is not a toolchain version", text.value);
    Err(at.fault(line(text), field, problem, "three numbers, for example `1.25.12`"))
}

fn check_order(
    at: At<'_>,
    i: usize,
    entry: &EtcdEntry,
    previous: &EtcdVersion,
    next: &EtcdVersion,
) -> Result<(), Fault> {
    let fault = |problem: String, instead: String| {
        Err(at.fault(line(&entry.version), format!("etcd[{i}].version"), problem, instead))
    };
    if next == previous {
        return fault(format!("etcd {next} is listed twice"), "each version once".into());
    }
    if next < previous {
        return fault(
            format!("etcd {next} is listed after {previous}"),
            "the versions in ascending order: the last one is what the tag and plain `etcd` name"
                .into(),
        );
    }
    if next.series() == previous.series() && !entry.also {
        return fault(
            format!("etcd {previous} and {next} are two patches of {}", next.series()),
            format!("only {next}; or `also: true` beside it, if the image is to carry both"),
        );
    }
    if next.minor() > previous.minor() + 1 {
        let missing = previous.minor() + 1;
        return fault(
            format!(
                "nothing between etcd {previous} and {next}: data moves one minor version at a time"
            ),
            format!("a 3.{missing} version before it"),
        );
    }
    Ok(())
}

fn check_stepping_stone(
    at: At<'_>,
    bundled: &[BundledEtcd],
    entries: &[EtcdEntry],
) -> Result<(), Fault> {
    let Some(newest) = bundled.last().map(|etcd| etcd.version.series()) else { return Ok(()) };
    for (i, etcd) in bundled.iter().enumerate() {
        let version = &etcd.version;
        // If there are several patches of a minor version, data goes through the newest one.
        if bundled.get(i + 1).is_some_and(|next| next.version.series() == version.series()) {
            continue;
        }
        let floor = Facts::compiled_in().floor(version.series(), newest);
        let below = |floor: &&Floor| floor.required.as_ref().is_some_and(|it| version < it);
        let Some(Floor {
            required: Some(required),
            change: MinorChange::UpTo(next),
            reason,
            source,
            ..
        }) = floor.filter(below)
        else {
            continue;
        };
        return Err(at.fault(
            line(&entries[i].version),
            format!("etcd[{i}].version"),
            format!("etcd {version} cannot be the step to {next}. {reason} See {source}"),
            format!("{required} or later"),
        ));
    }
    Ok(())
}

fn bases(
    at: At<'_>,
    bases: BTreeMap<String, Spanned<String>>,
) -> Result<BTreeMap<String, String>, Fault> {
    for (name, reference) in &bases {
        let (_, tag) = reference.value.rsplit_once(':').unwrap_or_default();
        let has_registry = reference
            .value
            .split_once('/')
            .is_some_and(|(host, _)| host.contains('.') || host.contains(':'));
        if tag.is_empty() || tag.contains('/') || reference.value.contains('@') || !has_registry {
            let problem =
                format!("`{}` is not a registry, a repository and a tag", reference.value);
            return Err(at.fault(line(reference), format!("bases.{name}"), problem, "for example `docker.io/library/busybox:1.38.0-musl`; the digest belongs in etcdimg.lock"));
        }
    }
    Ok(bases.into_iter().map(|(name, reference)| (name, reference.value)).collect())
}

fn mirrors(at: At<'_>, mirrors: &[Spanned<String>]) -> Result<Vec<Mirror>, Fault> {
    let parse = |(i, text): (usize, &Spanned<String>)| {
        Mirror::parse(&text.value).ok_or_else(|| {
            let problem = format!("`{}` is not a URL", text.value);
            at.fault(
                line(text),
                format!("mirrors[{i}]"),
                problem,
                "an https://, http:// or file:// URL; `{version}` and `{file}` in it are replaced",
            )
        })
    };
    mirrors.iter().enumerate().map(parse).collect()
}

fn mount_from(at: At<'_>, names: &[Spanned<String>]) -> Result<Vec<Repository>, Fault> {
    let parse = |(i, name): (usize, &Spanned<String>)| {
        name.value.parse().map_err(|_| {
            let problem = format!("`{}` is not a registry and a repository", name.value);
            let instead = "for example `registry.example/team/etcd`, without a tag";
            at.fault(line(name), format!("mount-from[{i}]"), problem, instead)
        })
    };
    names.iter().enumerate().map(parse).collect()
}
