//! Parses single values of the command line; an error says what to write instead.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::acceptance::Suite;
use crate::catalog::{Mirror, Origin};
use crate::digest::Digest;
use crate::layer::format::Compression;
use crate::manifests;
use crate::platform::Platform;
use crate::ui::ProgressMode;

pub(super) fn kinds() -> impl TypedValueParser<Value = manifests::ManifestKind> {
    let all = manifests::ManifestKind::ALL;
    let all = all.map(|kind| PossibleValue::new(kind.name()).help(kind.summary()));
    PossibleValuesParser::new(all).try_map(|name| name.parse())
}

pub(super) fn suites() -> impl TypedValueParser<Value = Suite> {
    let all = Suite::ALL.map(|suite| PossibleValue::new(suite.name()).help(suite.summary()));
    PossibleValuesParser::new(all).try_map(|name| name.parse())
}

/// A value, how it is written, and what the help says of it.
type NamedValue<T> = (T, &'static str, &'static str);

const ORIGINS: &[NamedValue<Origin>] = &[
    (Origin::Release, "release", "The release archives of the etcd project"),
    (Origin::Source, "source", "Compiled from Go modules"),
];

const COMPRESSIONS: &[NamedValue<Compression>] = &[
    (Compression::Gzip, "gzip", "Read by every client"),
    (Compression::Zstd, "zstd", "Smaller and faster to unpack; needs a client of 2021 or later"),
];

const PROGRESS_MODES: &[NamedValue<ProgressMode>] = &[
    (ProgressMode::Auto, "auto", "Bars on a terminal, lines elsewhere"),
    (ProgressMode::Plain, "plain", "A line every few seconds"),
    (ProgressMode::None, "none", "No progress is shown"),
];

pub(super) fn origins() -> impl TypedValueParser<Value = Origin> {
    one_of(ORIGINS)
}

pub(super) fn compressions() -> impl TypedValueParser<Value = Compression> {
    one_of(COMPRESSIONS)
}

pub(super) fn progress_modes() -> impl TypedValueParser<Value = ProgressMode> {
    one_of(PROGRESS_MODES)
}

fn one_of<T>(choices: &'static [NamedValue<T>]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let names = choices.iter().map(|(_, name, help)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(names).try_map(move |written| {
        let choice = choices.iter().find(|(_, name, _)| *name == written);
        choice.map(|(value, ..)| *value).ok_or(ArgumentError("use one of the possible values"))
    })
}

/// The Linux platform of an architecture. An empty `ARCH` of the environment means none.
pub(super) fn linux(arch: &str) -> Result<Option<Platform>, ArgumentError> {
    (!arch.is_empty()).then(|| linux_platform(arch)).transpose()
}

pub(super) fn linux_platform(arch: &str) -> Result<Platform, ArgumentError> {
    let platform = format!("linux/{arch}").parse();
    platform.map_err(|_| ArgumentError("use amd64, arm, arm64, ppc64le, riscv64 or s390x"))
}

pub(super) fn mirror(text: &str) -> Result<Mirror, ArgumentError> {
    Mirror::parse(text).ok_or(ArgumentError("use an https://, http:// or file:// URL"))
}

pub(super) fn report(text: &str) -> Result<PathBuf, ArgumentError> {
    let path = PathBuf::from(text);
    let is_known = path.extension().is_some_and(|kind| kind == "xml" || kind == "html");
    is_known.then_some(path).ok_or(ArgumentError("use a file name that ends in .xml or .html"))
}

pub(super) fn pinned_image(text: &str) -> Result<String, ArgumentError> {
    let digest = text.rsplit_once('@').filter(|(name, _)| !name.is_empty()).map(|(_, it)| it);
    let is_pinned = digest.is_some_and(|it| it.parse::<Digest>().is_ok());
    let error = ArgumentError("use IMAGE@sha256:…: an image is an input, so it must be pinned");
    is_pinned.then(|| text.to_owned()).ok_or(error)
}

pub(super) fn docker_archive(text: &str) -> Result<PathBuf, ArgumentError> {
    let file = text.strip_prefix("docker-archive:").filter(|file| !file.is_empty());
    file.map(PathBuf::from).ok_or(ArgumentError("use docker-archive:FILE"))
}

/// What to write instead of a wrong value.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ArgumentError(&'static str);
