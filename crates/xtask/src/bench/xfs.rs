//! An XFS in a file, whose files can share blocks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::command::{Cmd, find};
use crate::failure::Result;
use crate::interrupt;
use crate::workspace::say;

/// Mounted as long as this value lives.
#[derive(Debug)]
pub struct Xfs(PathBuf);

impl Xfs {
    /// `None` where it cannot be made or mounted, which is said.
    pub fn mount(work: &Path, mib: u64) -> Result<Option<Self>> {
        let (image, place) = (work.join("xfs.image"), work.join("xfs"));
        fs::create_dir(&place)?;
        File::create(&image)?.set_len(mib << 20)?;
        let Some(mkfs) = find("mkfs.xfs") else {
            say("no XFS here: there is no mkfs.xfs");
            return Ok(None);
        };
        let made = Cmd::new(mkfs).args(["-q", "-m", "reflink=1"]).arg(&image).text();
        let mount = || Cmd::root("mount").args(["-o", "loop"]).arg(&image).arg(&place).text();
        if let Err(failure) = made.and_then(|_| mount()) {
            interrupt::check()?;
            say(format_args!("no XFS here: {failure}"));
            return Ok(None);
        }
        let xfs = Self(place);
        Cmd::root("chmod").arg("1777").arg(&xfs.0).run()?;
        Ok(Some(xfs))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn free_bytes(&self) -> Result<u64> {
        let known = rustix::fs::statvfs(&self.0)?;
        Ok(known.f_bfree * known.f_frsize)
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        interrupt::shielded(|| Cmd::root("umount").arg("--lazy").arg(&self.0).succeeds());
    }
}
