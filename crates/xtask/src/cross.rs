//! Installs the parts that compile `migrate` for every platform, in the cache and nowhere else.
//!
//! `parts/rust-VERSION/library` has the sources of Rust's standard library, of the version in
//! versions.yaml: the toolchain's own where it has them, else those of Debian's package rust-src.
//! `parts/zig-VERSION` has zig, which is the linker and has a C library for every platform, and
//! cargo-zigbuild, both from PyPI by the digests in zig.txt.
//! `scripts/builder-toolchain` does the same in the images of docker buildx, which need no Rust.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::apt;
use crate::command::{Cmd, find, is_executable};
use crate::debian_package::{self, DebianSuite};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::part;
use crate::workspace::{self, say};

/// The packages that pip may install, by digest.
const REQUIREMENTS: &str = include_str!("../zig.txt");

/// Where a package of this version may be, the oldest suite first.
const SUITES: [&str; 4] = ["trixie-backports", "trixie", "forky", "sid"];

const RUST_SRC: &str = "rustup component add rust-src";

/// Where the installed parts are.
#[derive(Debug)]
pub struct CrossParts {
    /// The folder of zig and cargo-zigbuild.
    pub zig: PathBuf,
    /// The sources of Rust's standard library.
    pub library: PathBuf,
}

/// Installs the parts that are missing.
pub fn provide() -> Result<CrossParts> {
    let versions = workspace::versions(&workspace::root())?;
    if find("rustc").is_none() {
        return Err(TaskError::new("there is no rustc").hint("install Rust from https://rustup.rs"));
    }
    let parts = workspace::parts()?;
    let place = parts.join(format!("rust-{}", versions.rust));
    if !is_library(&place.join("library")) {
        standard_library(&versions.rust, &parts, &place)?;
    }
    let zig = parts.join(format!("zig-{}", versions.zig));
    if !is_executable(&zig.join("zig")) {
        linker(&versions.zig, &parts, &zig)?;
    }
    Ok(CrossParts { zig, library: place.join("library") })
}

fn is_library(folder: &Path) -> bool {
    folder.join("Cargo.lock").is_file()
}

/// The sources that the toolchain itself has, if it is of this version.
fn own_library(rust: &str) -> Result<Option<PathBuf>> {
    let version = Cmd::new("rustc").arg("--version").text()?;
    let library = PathBuf::from(Cmd::new("rustc").args(["--print", "sysroot"]).text()?)
        .join("lib/rustlib/src/rust/library");
    let is_it = version.split(' ').nth(1) == Some(rust) && is_library(&library);
    Ok(is_it.then_some(library))
}

fn standard_library(rust: &str, parts: &Path, place: &Path) -> Result<()> {
    if let Some(library) = own_library(rust)? {
        return link(&library, place);
    }
    let add = ["60", "rustup", "component", "add", "rust-src"];
    if find("rustup").is_some()
        && Cmd::new("timeout").args(add).succeeds()
        && let Some(library) = own_library(rust)?
    {
        say(format_args!("rustup added rust-src, which is in {}", library.display()));
        return link(&library, place);
    }
    crate::interrupt::check()?;
    let package = rust_src(rust)?;
    say(format_args!("unpacking {} into {}", package.display(), place.display()));
    let work = part::temporary(parts)?;
    debian_package::unpack(&package, work.path())?;
    let made = work.path().join("new");
    fs::create_dir(&made)?;
    let library = work.path().join(format!("usr/src/rustc-{rust}/library"));
    fs::rename(&library, made.join("library")).context(library.display())?;
    finish(&made, place)
}

/// Links the library into the cache, so that a build does not have to ask rustc for its path.
fn link(library: &Path, place: &Path) -> Result<()> {
    fs::create_dir_all(place)?;
    let link = place.join("library");
    match fs::remove_file(&link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)?,
        _ => {}
    }
    match symlink(library, &link) {
        Err(_) if is_library(&link) => Ok(()),
        other => other.context(link.display()),
    }
}

fn rust_src(rust: &str) -> Result<PathBuf> {
    if find("dpkg-deb").is_none() {
        let text = format!("there are no sources of Rust {rust}'s standard library");
        return Err(TaskError::new(text).hint(RUST_SRC));
    }
    let architecture = apt::architecture()?;
    let package = format!("rust-src={rust}");
    for suite in SUITES {
        let debian = DebianSuite { suite, architecture: &architecture };
        if let Ok(files) = debian_package::files(debian, &[&package]) {
            return files.into_iter().next().ok_or_else(|| TaskError::new("no package"));
        }
        crate::interrupt::check()?;
    }
    Err(TaskError::new(format!("no suite of Debian has rust-src {rust}"))
        .hint(RUST_SRC)
        .hint("or name an archive by ETCDIMG_APT_MIRROR"))
}

fn linker(version: &str, parts: &Path, place: &Path) -> Result<()> {
    let own_means = || format!("or put zig {version} and cargo-zigbuild on PATH by your own means");
    if required("ziglang") != Some(version) {
        let text = format!("crates/xtask/zig.txt has no digests of zig {version}");
        return Err(TaskError::new(text).hint("take them from the files of that release on PyPI"));
    }
    if !Cmd::new("python3").args(["-m", "pip", "--version"]).succeeds() {
        if !apt::is_here() {
            return Err(TaskError::new("python3 has no pip, which fetches zig").hint(own_means()));
        }
        apt::install(&["python3-pip"])?;
    }
    say(format_args!("unpacking zig {version} and cargo-zigbuild into {}", place.display()));
    let work = part::temporary(parts)?;
    let requirements = work.path().join("zig.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let wheels = work.path().join("wheels");
    Cmd::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--require-hashes", "--requirement"])
        .arg(&requirements)
        .arg("--dest")
        .arg(&wheels)
        .text()
        .map_err(|failure| failure.hint(own_means()))?;
    let unpacked = work.path().join("unpacked");
    for wheel in part::entries(&wheels)? {
        Cmd::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked).run()?;
    }
    let made = work.path().join("new");
    fs::create_dir(&made)?;
    let scripts = part::entry(&unpacked, "cargo_zigbuild-", ".data")?.join("scripts");
    for (folder, name) in [
        (unpacked.join("ziglang"), "zig"),
        (unpacked.join("ziglang"), "lib"),
        (scripts, "cargo-zigbuild"),
    ] {
        fs::rename(folder.join(name), made.join(name)).context(name)?;
    }
    for name in ["zig", "cargo-zigbuild"] {
        fs::set_permissions(made.join(name), fs::Permissions::from_mode(0o755))?;
    }
    finish(&made, place)
}

/// The version that zig.txt has of a package.
fn required(package: &str) -> Option<&'static str> {
    let mut lines = REQUIREMENTS.lines().filter_map(|line| line.split_once("=="));
    let (_, rest) = lines.find(|(name, _)| *name == package)?;
    rest.split(' ').next()
}

fn finish(made: &Path, place: &Path) -> Result<()> {
    fs::set_permissions(made, fs::Permissions::from_mode(0o755))?;
    part::finish(made, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_are_those_of_the_zig_in_versions_yaml() {
        let versions = workspace::versions(&workspace::root()).unwrap();
        assert_eq!(required("ziglang"), Some(versions.zig.as_str()));
    }

    #[test]
    fn every_requirement_has_digests() {
        let names = REQUIREMENTS.lines().filter(|line| line.contains("==")).count();
        let digests = REQUIREMENTS.matches("--hash=sha256:").count();
        assert_eq!((names, digests), (2, 4));
    }
}
