//! What runs under wine in the tests of `migrate`: etcd for Windows of every version in
//! versions.yaml, `migrate.exe` of this checkout, and a library that old wines lack.
//!
//! The programs are taken from the layers of an image for Windows, and are always compiled here.
//! The cache keeps etcd by the digest of the locked inputs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bases;
use crate::command::{Cmd, path_with};
use crate::error::{ErrorContext as _, Result};
use crate::workspace::{self, say};
use crate::{cross, go, oci_layout, part, real_etcd};

const RELEASE: &str = "ltsc2022";
const MIGRATE: &str = "migrate.exe";
/// Go reads random numbers from it.
const LIBRARY: &str = "bcryptprimitives.dll";

/// The folder of the programs. `migrate.exe` in it is always made anew.
pub fn provide() -> Result<PathBuf> {
    let parts = workspace::parts()?;
    let folder = parts.join(format!("etcd-windows-{}", &real_etcd::key()?[..16]));
    let work = part::temporary(&parts)?;
    let made = work.path().join("bin");
    fs::create_dir(&made)?;
    for layer in oci_layout::layers(&image(work.path())?)? {
        oci_layout::unpack(&layer, program, &made)?;
    }
    if folder.is_dir() {
        let own = folder.join(MIGRATE);
        fs::rename(made.join(MIGRATE), &own).context(own.display())?;
    } else {
        library(&made.join(LIBRARY))?;
        part::finish(&made, &folder)?;
    }
    Ok(folder)
}

/// Builds an image on a base without Windows, of which nothing is used.
fn image(work: &Path) -> Result<PathBuf> {
    let base = bases::windows(RELEASE, &work.join("base"))?;
    let layout = work.join("layout");
    say("compiling etcd for Windows, unless it is in the cache");
    real_etcd::etcdimg()?
        .env("PATH", path_with(go::provide()?.as_deref())?)
        .args(["-q", "build", "--from=source", "--builder=host", "--base", &base])
        .arg(format!("--platform=windows/amd64:{RELEASE}"))
        .arg("--out")
        .arg(&layout)
        .run()?;
    Ok(layout)
}

/// `etcdctl-3.7.1.exe` of `Files/usr/local/bin/etcdctl-3.7.1.exe`, and `migrate.exe`; without the
/// plain names, which are links.
fn program(path: &Path) -> Option<&str> {
    let name = path.strip_prefix("Files/usr/local/bin").ok()?.to_str()?;
    (name == MIGRATE || (name.contains('-') && path.extension()? == "exe")).then_some(name)
}

fn library(to: &Path) -> Result<()> {
    let cache = workspace::cache()?.join("zig/wine");
    Cmd::new(cross::provide()?.zig.join("zig"))
        .args(["cc", "-target", "x86_64-windows-gnu", "-shared", "-O2", "-s", "-ladvapi32"])
        .arg(workspace::root().join("tests/wine/bcryptprimitives.c"))
        .arg("-o")
        .arg(to)
        .env("ZIG_GLOBAL_CACHE_DIR", &cache)
        .env("ZIG_LOCAL_CACHE_DIR", &cache)
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_below_files() {
        let check = |path: &str, expected| assert_eq!(program(Path::new(path)), expected);
        check("Files/usr/local/bin/etcd-3.7.1.exe", Some("etcd-3.7.1.exe"));
        check("Files/usr/local/bin/migrate.exe", Some("migrate.exe"));
        check("Files/usr/local/bin/etcd.exe", None);
        check("Files/usr/local/bin/migrate-if-needed.bat", None);
        check("Files/bin/migrate.exe", None);
        check("usr/local/bin/etcd-3.7.1.exe", None);
    }
}
