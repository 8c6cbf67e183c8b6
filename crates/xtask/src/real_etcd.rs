//! Real etcd servers and tools for the tests of `migrate`: `etcd-V`, `etcdctl-V` and `etcdutl-V` of
//! every version in versions.yaml.
//!
//! They are those of the linux/amd64 image, taken from its layers: from etcd's release archives,
//! or compiled here where those cannot be reached. On demand also the etcds of Debian's suites in
//! `debian/`, which wrote much of the data that exists. The cache keeps them by the digest of the
//! locked inputs.

use std::fs;
use std::path::{Path, PathBuf};

use etcdimg::catalog::{LOCK_FILE, VERSIONS_FILE};
use etcdimg::digest::Digest;

use crate::command::{Cmd, path_with};
use crate::debian_package::{self, DebianSuite};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::workspace::{self, say};
use crate::{go, oci_layout, part};

const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "forky"];

/// etcdimg's exit code when something cannot be reached.
const UNAVAILABLE: u8 = 5;

/// The folder of the programs, which are made if it does not exist.
pub fn provide(with_debian: bool) -> Result<PathBuf> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(TaskError::new("real etcds are installed on x86_64 machines only"));
    }
    let parts = workspace::parts()?;
    let folder = parts.join(format!("etcd-{}", &key()?[..16]));
    if !folder.is_dir() {
        let work = part::temporary(&parts)?;
        part::finish(&programs(work.path(), &folder)?, &folder)?;
    }
    let debian = folder.join("debian");
    if with_debian && !debian.is_dir() {
        let work = part::temporary(&parts)?;
        part::finish(&debians(work.path())?, &debian)?;
    }
    Ok(folder)
}

/// A digest, in hexadecimal, of everything that decides the bytes of the programs.
pub fn key() -> Result<String> {
    let root = workspace::root();
    let mut text = fs::read(root.join(VERSIONS_FILE)).context(VERSIONS_FILE)?;
    text.extend(fs::read(root.join(LOCK_FILE)).context(LOCK_FILE)?);
    Ok(Digest::of(text).hex())
}

/// Builds an image and takes the programs out of it.
fn programs(work: &Path, folder: &Path) -> Result<PathBuf> {
    let (origin, path) = origin()?;
    // Nothing of the base is used, so an empty one is enough and needs no registry.
    let empty = tar::Builder::new(Vec::new()).into_inner()?;
    let base = work.join("base.tar");
    fs::write(&base, &empty)?;
    let base = format!("--base=busybox=rootfs:{}@{}", base.display(), Digest::of(&empty));
    let layout = work.join("layout");
    etcdimg()?
        .env("PATH", path)
        .args(["-q", "build", "--arch=amd64", "--from", origin, &base, "--out"])
        .arg(&layout)
        .run()?;
    say(format_args!("unpacking into {}", folder.display()));
    let made = work.join("bin");
    fs::create_dir(&made)?;
    for layer in oci_layout::layers(&layout)? {
        oci_layout::unpack(&layer, program, &made)?;
    }
    Ok(made)
}

/// Where the programs come from (the value for `--from`), and the `PATH` for it.
fn origin() -> Result<(&'static str, std::ffi::OsString)> {
    match etcdimg()?.args(["-q", "fetch", "--only=releases"]).run() {
        Ok(()) => Ok(("release", path_with(None)?)),
        Err(failure) if failure.code() == UNAVAILABLE => {
            say("the release archives cannot be reached from here: compiling etcd from source");
            Ok(("source", path_with(go::provide()?.as_deref())?))
        }
        Err(failure) => Err(failure),
    }
}

/// The tool of this checkout, with the cache of the test environment.
pub fn etcdimg() -> Result<Cmd> {
    let run = ["run", "--locked", "--quiet", "--bin=etcdimg", "--", "--cache-dir"];
    Ok(Cmd::cargo().args(run).arg(workspace::cache()?))
}

/// `etcdctl-3.7.1` of `usr/local/bin/etcdctl-3.7.1`.
fn program(path: &Path) -> Option<&str> {
    let name = path.strip_prefix("usr/local/bin").ok()?.to_str()?;
    let (tool, version) = name.split_once('-')?;
    (tool.starts_with("etcd") && version.starts_with(|it: char| it.is_ascii_digit()))
        .then_some(name)
}

fn debians(work: &Path) -> Result<PathBuf> {
    let made = work.join("debian");
    fs::create_dir(&made)?;
    for suite in SUITES {
        let debian = DebianSuite { suite, architecture: "amd64" };
        // Some mirrors no longer have the oldest suite, some do not have the newest one yet.
        let Ok(packages) = debian_package::files(debian, &["etcd-server", "etcd-client"]) else {
            crate::interrupt::check()?;
            say(format_args!("no etcd of {suite}"));
            continue;
        };
        let unpacked = work.join(suite);
        let mut version = String::new();
        for package in packages {
            let full = debian_package::field(&package, "Version")?;
            upstream(&full).clone_into(&mut version);
            debian_package::unpack(&package, &unpacked)?;
        }
        for name in ["etcd", "etcdctl"] {
            let from = unpacked.join("usr/bin").join(name);
            fs::copy(&from, made.join(format!("{name}-{version}"))).context(from.display())?;
        }
    }
    Ok(made)
}

/// `3.4.23` of `3.4.23+dfsg-4+b5`.
fn upstream(version: &str) -> &str {
    version.split(['+', '-']).next().unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_a_version_in_their_name() {
        let check = |path: &str, expected| assert_eq!(program(Path::new(path)), expected);
        check("usr/local/bin/etcdutl-3.6.14", Some("etcdutl-3.6.14"));
        check("usr/local/bin/etcd-3.4.21", Some("etcd-3.4.21"));
        check("usr/local/bin/etcd", None);
        check("usr/local/bin/migrate-if-needed.sh", None);
        check("usr/local/bin/etcd-dump-logs", None);
        check("bin/etcd-3.4.21", None);
    }

    #[test]
    fn debian_adds_to_versions() {
        assert_eq!(upstream("3.4.23+dfsg-4+b5"), "3.4.23");
        assert_eq!(upstream("3.5.16-4"), "3.5.16");
    }
}
