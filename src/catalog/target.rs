//! targets/: one file for each platform.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fault::{At, Fault};
use super::yaml::{self, Spanned, line};
use crate::platform::Platform;

const KEYS: &str = "`platform`, `goarch`, `goarm`, `triple`, `base`, `origin`, `qemu`, \
                    `unsupported-arch` and `default`";

/// One platform that images are built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub platform: Platform,
    pub goarch: String,
    /// `GOARM`, only for 32-bit arm.
    pub goarm: Option<String>,
    /// The Rust target triple, for `migrate`.
    pub triple: String,
    /// A name from `bases` of versions.yaml.
    pub base: String,
    pub origin: Origin,
    /// The suffix of qemu's user mode emulator, for tests.
    pub qemu: String,
    /// The etcd minor versions (`3.6`) that start only with `ETCD_UNSUPPORTED_ARCH`.
    pub unsupported_arch: Vec<String>,
    /// Whether `all-build` and `all-push` build it.
    pub is_default: bool,
}

/// Where the programs of etcd come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The release archives of the etcd project.
    Release,
    /// Compiled from Go modules.
    Source,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Source => "source",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TargetFile {
    platform: Spanned<String>,
    goarch: Spanned<String>,
    goarm: Option<Spanned<String>>,
    triple: Spanned<String>,
    base: Spanned<String>,
    origin: Origin,
    qemu: String,
    #[serde(default)]
    unsupported_arch: Vec<String>,
    default: bool,
}

/// Reads a target file. `bases` are the base images of versions.yaml.
pub fn parse(at: At<'_>, text: &str, bases: &BTreeMap<String, String>) -> Result<Target, Fault> {
    let file: TargetFile = yaml::parse(at, text, KEYS)?;
    let platform: Platform =
        file.platform.value.parse().map_err(|error: etcd_version::ParseError| {
            let problem = format!("`{}` is not a platform we know", error.text);
            let instead = error.expected.trim_start_matches("a platform we know: ");
            at.fault(line(&file.platform), "platform", problem, instead)
        })?;
    check_goarch(at, &file, &platform)?;
    if platform.is_windows() != platform.os_version.is_some() {
        let problem = format!("`{platform}` does not say which Windows");
        let instead =
            format!("the release as its bases are tagged, for example {platform}:ltsc2025");
        return Err(at.fault(line(&file.platform), "platform", problem, instead));
    }
    if !bases.contains_key(&file.base.value) {
        let names: Vec<_> = bases.keys().map(String::as_str).collect();
        let problem = format!("versions.yaml has no base `{}`", file.base.value);
        return Err(at.fault(
            line(&file.base),
            "base",
            problem,
            format!("one of: {}", names.join(", ")),
        ));
    }
    Ok(Target {
        platform,
        goarch: file.goarch.value,
        goarm: file.goarm.map(|goarm| goarm.value),
        triple: file.triple.value,
        base: file.base.value,
        origin: file.origin,
        qemu: file.qemu,
        unsupported_arch: file.unsupported_arch,
        is_default: file.default,
    })
}

/// OCI and Go have the same names for architectures; `GOARM` is the digit of the OCI variant.
fn check_goarch(at: At<'_>, file: &TargetFile, platform: &Platform) -> Result<(), Fault> {
    if file.goarch.value != platform.architecture {
        let problem = format!("`{}` is not the GOARCH of {platform}", file.goarch.value);
        return Err(at.fault(line(&file.goarch), "goarch", problem, &platform.architecture));
    }
    let expected = platform.variant.as_deref().map(|variant| variant.trim_start_matches('v'));
    let actual = file.goarm.as_ref().map(|goarm| goarm.value.as_str());
    if actual != expected {
        let at_line = file.goarm.as_ref().map_or(line(&file.goarch), line);
        let instead =
            expected.map_or("no `goarm`".to_owned(), |goarm| format!("goarm: \"{goarm}\""));
        return Err(at.fault(at_line, "goarm", format!("wrong for {platform}"), instead));
    }
    Ok(())
}
