//! Bases where registries cannot be reached: busybox of all Linux platforms as one OCI image
//! layout with an index, and stand-ins for Windows Nano Server.

use std::fs;
use std::path::Path;

use oci::document::{Annotations, PlatformFields, RunConfig};
use oci::{Digest, ImageConfig};

use crate::apt;
use crate::busybox;
use crate::debian_package::{self, DebianSuite};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::oci_layout::LayoutWriter;
use crate::part;
use crate::root_tar::RootTar;
use crate::workspace::say;

const LINUX: [&str; 5] =
    ["linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/s390x"];

/// Not every suite of Debian has it; targets/ does not build it by default.
const RISCV64: &str = "linux/riscv64";

/// As versions.yaml names them; the builds are those of the last digests that were locked.
const WINDOWS: [(&str, &str); 3] = [
    ("1809", "10.0.17763.7249"),
    ("ltsc2022", "10.0.20348.5499"),
    ("ltsc2025", "10.0.26100.33296"),
];

/// The highest level of gzip.
const LEVEL: u32 = 9;

/// Makes every base in a folder; returns the arguments for etcdimg that use them.
pub fn all(out: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(out).context(out.display())?;
    let out = fs::canonicalize(out)?;
    let index = anew(&out.join("busybox"), busybox_index)?;
    let mut arguments = vec![base("busybox", &out.join("busybox"), &index)];
    for (release, _) in WINDOWS {
        arguments.push(windows(release, &out.join(format!("nanoserver-{release}")))?);
    }
    Ok(arguments.into_iter().flat_map(|argument| ["--base".to_owned(), argument]).collect())
}

/// Makes a stand-in for one release of Windows in a folder; returns its value for `--base`.
pub fn windows(release: &str, folder: &Path) -> Result<String> {
    let (_, version) = WINDOWS
        .into_iter()
        .find(|(known, _)| *known == release)
        .ok_or_else(|| TaskError::new(format!("`{release}` is no release of Windows")))?;
    let image = anew(folder, |folder| nanoserver(version, folder))?;
    Ok(base(&format!("nanoserver-{release}"), folder, &image))
}

fn base(name: &str, layout: &Path, digest: &Digest) -> String {
    format!("{name}=oci:{}@{digest}", layout.display())
}

/// Makes a folder under a temporary name, then replaces the folder at `place` by it.
fn anew(place: &Path, fill: impl FnOnce(&Path) -> Result<Digest>) -> Result<Digest> {
    let work = part::temporary(place.parent().unwrap_or(place))?;
    let made = work.path().join("new");
    let digest = fill(&made)?;
    let _ = fs::remove_dir_all(place);
    fs::rename(&made, place).context(place.display())?;
    Ok(digest)
}

fn busybox_index(folder: &Path) -> Result<Digest> {
    let layout = LayoutWriter::create(folder)?;
    let mut platforms = LINUX.to_vec();
    let suite = apt::suite()?;
    let debian = DebianSuite { suite: &suite, architecture: "riscv64" };
    match debian_package::files(debian, &["busybox-static"]) {
        Ok(_) => platforms.push(RISCV64),
        Err(_) => say(format_args!("{suite} has no busybox for {RISCV64}: it is left out")),
    }
    let manifests = platforms.iter().map(|platform| {
        let layer = layout.layer(&busybox::layer(None, platform)?, LEVEL)?;
        layout.image(&[layer], config(listed(platform)), None)
    });
    let index = layout.index(manifests.collect::<Result<Vec<_>>>()?)?;
    let found = index.digest;
    layout.tag("busybox", index)?;
    Ok(found)
}

/// A config that contains only the platform.
fn config(platform: PlatformFields) -> ImageConfig {
    ImageConfig { platform, config: Some(RunConfig::default()), ..ImageConfig::default() }
}

/// A platform as OCI documents name it.
fn listed(platform: &str) -> PlatformFields {
    let mut words = platform.split('/').map(str::to_owned);
    PlatformFields {
        os: words.next().unwrap_or_default(),
        architecture: words.next().unwrap_or_default(),
        variant: words.next(),
        ..PlatformFields::default()
    }
}

/// Writes a stand-in for Windows Nano Server; returns the digest of its manifest.
///
/// It has the documents of a Windows base and the two root folders of its layer, but no file of
/// Windows: an image on top of it can be inspected, verified and pushed, but it cannot run. An
/// annotation of the manifest says so; images on top of it get the same annotation.
pub fn nanoserver(version: &str, folder: &Path) -> Result<Digest> {
    if !is_windows_version(version) {
        return Err(TaskError::new(format!("`{version}` is no version of Windows"))
            .hint("for example 10.0.20348.5499"));
    }
    let mut root = RootTar::default();
    for path in ["Files/Windows/System32", "Hives"] {
        root.folder(path, 0o755);
    }
    let layout = LayoutWriter::create(folder)?;
    let layer = layout.layer(&root.bytes()?, LEVEL)?;
    let platform =
        PlatformFields { os_version: Some(version.to_owned()), ..listed("windows/amd64") };
    let stand_in = (etcdimg::image::STAND_IN.to_owned(), "no file of Windows is in it".to_owned());
    let annotations = Some(Annotations::from([stand_in]));
    let image = layout.image(&[layer], config(platform), annotations)?;
    let found = image.digest;
    layout.tag(version, image)?;
    Ok(found)
}

/// `10.0.`, then two numbers.
fn is_windows_version(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("10.0.") else { return false };
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|it| it.is_ascii_digit());
    rest.split_once('.').is_some_and(|(build, revision)| is_number(build) && is_number(revision))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_of_windows_have_four_numbers() {
        assert!(is_windows_version("10.0.20348.5499"));
        for text in ["10.0.20348", "10.0..1", "10.0.1.2.3", "6.1.7601.1", "10.0.a.1"] {
            assert!(!is_windows_version(text), "{text}");
        }
    }

    #[test]
    fn a_platform_is_listed_with_its_variant() {
        let json = |platform| serde_json::to_value(listed(platform)).unwrap();
        let arm = json!({ "os": "linux", "architecture": "arm", "variant": "v7" });
        assert_eq!(json("linux/arm/v7"), arm);
        assert_eq!(json("linux/s390x"), json!({ "os": "linux", "architecture": "s390x" }));
    }

    #[test]
    fn the_same_stand_in_has_the_same_digest() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| nanoserver("10.0.20348.5499", &folder.path().join(name)).unwrap();
        assert_eq!(make("one"), make("two"));
    }
}
