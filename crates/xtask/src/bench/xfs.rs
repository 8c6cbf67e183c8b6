//! An XFS in a file, whose files can share blocks.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::command::{Cmd, find};
use crate::error::Result;
use crate::workspace::say;
use crate::{interrupt, part};

/// A mounted XFS; it is unmounted when this value is dropped.
#[derive(Debug)]
pub struct Xfs {
    place: PathBuf,
    /// The free bytes while it was empty.
    empty_free_bytes: u64,
}

impl Xfs {
    /// `None` if it cannot be made or mounted, with a message.
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
        let mut xfs = Self { place, empty_free_bytes: 0 };
        Cmd::root("chmod").arg("1777").arg(&xfs.place).run()?;
        xfs.empty_free_bytes = xfs.free_bytes()?;
        Ok(Some(xfs))
    }

    pub fn path(&self) -> &Path {
        &self.place
    }

    /// How many more bytes the files would need without shared blocks.
    pub fn shared_bytes(&self) -> Result<u64> {
        Cmd::new("sync").arg("-f").arg(&self.place).run()?;
        let used = self.empty_free_bytes.saturating_sub(self.free_bytes()?);
        Ok(allocated_bytes(&self.place)?.saturating_sub(used))
    }

    fn free_bytes(&self) -> Result<u64> {
        let known = rustix::fs::statvfs(&self.place)?;
        Ok(known.f_bfree * known.f_frsize)
    }
}

/// The bytes of all files below a folder; shared blocks count once for each file.
fn allocated_bytes(folder: &Path) -> Result<u64> {
    /// The unit of `st_blocks` (stat(2)).
    const BLOCK: u64 = 512;
    let mut sum = 0;
    for path in part::entries(folder)? {
        let known = fs::symlink_metadata(&path)?;
        sum += known.blocks() * BLOCK;
        if known.is_dir() {
            sum += allocated_bytes(&path)?;
        }
    }
    Ok(sum)
}

impl Drop for Xfs {
    fn drop(&mut self) {
        interrupt::shielded(|| Cmd::root("umount").arg("--lazy").arg(&self.place).succeeds());
    }
}
