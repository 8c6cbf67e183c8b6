//! Go 1.21 or later, which compiles etcd when its release archives are not used. The exact Go
//! release of versions.yaml is then fetched by Go itself.

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt;
use crate::command::{Cmd, find};
use crate::debian_package::{self, DebianSuite};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::part;
use crate::workspace::{self, say};

/// Since this minor version Go fetches the release that `GOTOOLCHAIN` names.
const OLDEST: u32 = 21;

/// The packages of trixie, and the folder name in them.
const PACKAGES: [&str; 2] = ["golang-1.24-go", "golang-1.24-src"];
const FOLDER: &str = "go-1.24";

const WHERE: &str = "install one from https://go.dev/dl";

/// The folder of a Go that is not on `PATH`, or `None` when the one there is recent. On Debian and
/// Ubuntu a missing one is put into the cache.
pub fn provide() -> Result<Option<PathBuf>> {
    if find("go").is_some_and(|go| is_recent(&go)) {
        return Ok(None);
    }
    let own = workspace::parts()?.join("go/bin");
    if is_recent(&own.join("go")) {
        return Ok(Some(own));
    }
    if !apt::is_here() {
        return Err(TaskError::new("there is no Go 1.21 or later").hint(WHERE));
    }
    if apt::os_release("ID").is_some_and(|id| id == "debian") {
        unpack()?;
    } else {
        apt::install(&["golang-go"])?;
        if find("go").is_some_and(|go| is_recent(&go)) {
            return Ok(None);
        }
    }
    if is_recent(&own.join("go")) {
        return Ok(Some(own));
    }
    Err(TaskError::new("the Go that this system has is older than 1.21").hint(WHERE))
}

fn is_recent(go: &Path) -> bool {
    let ask = Cmd::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local");
    ask.text().is_ok_and(|text| minor(&text).is_some_and(|minor| minor >= OLDEST))
}

fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("go1.")?.split('.').next()?.parse().ok()
}

/// The package splits the toolchain between two folders, connected by absolute links.
fn unpack() -> Result<()> {
    let parts = workspace::parts()?;
    let place = parts.join("go");
    say(format_args!("unpacking Go 1.24 of trixie into {}", place.display()));
    let work = part::temporary(&parts)?;
    let unpacked = work.path().join("unpacked");
    let architecture = apt::architecture()?;
    let debian = DebianSuite { suite: "trixie", architecture: &architecture };
    for package in debian_package::files(debian, &PACKAGES)? {
        debian_package::unpack(&package, &unpacked)?;
    }
    let root = work.path().join("root");
    fs::rename(unpacked.join("usr/share").join(FOLDER), &root).context("Go's sources")?;
    let programs = part::entries(&unpacked.join("usr/lib").join(FOLDER))?;
    let own = programs.iter().filter(|entry| !entry.is_symlink());
    Cmd::new("cp").arg("-r").args(own).arg(&root).run()?;
    let _ = fs::remove_dir_all(&place);
    part::finish(&root, &place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minor_version_of_go() {
        assert_eq!(minor("go1.26.5"), Some(26));
        assert_eq!(minor("go1.21"), Some(21));
        assert_eq!(minor("devel"), None);
    }
}
