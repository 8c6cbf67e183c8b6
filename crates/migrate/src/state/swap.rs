//! Replaces `member` by restored data, so that a kill at any moment loses nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::lock::state_dir;
use super::part_swap::PartSwap;
use crate::error::MigrateError;
use crate::files::{durable, tree};
use crate::inspect::layout::DataLayout;
use crate::platform;

/// The paths of one replacement. It takes two renames, because the data directory itself may be a
/// mount point. Between them there is no `member`, and the next run finishes the replacement. Where
/// `member` or a part of it cannot be renamed, files are moved inside of the parts.
#[derive(Debug)]
pub struct Swap {
    /// `member` itself, the data that etcd opens.
    pub member: PathBuf,
    /// A data directory of the older version, complete when `member` may be replaced by its own.
    pub restored: PathBuf,
    /// What `member` was before.
    replaced: PathBuf,
    /// A data directory in which the newer tool works first.
    pub staged: PathBuf,
    parts: PartSwap,
    can_rename: bool,
}

impl Swap {
    /// The paths for a data directory. Touches nothing.
    pub fn of(layout: &DataLayout) -> Self {
        let state = state_dir(&layout.data_dir);
        let parts = PartSwap::of(layout);
        let can_rename = layout.can_be_renamed() && !parts.is_pending();
        let work = if can_rename { state.clone() } else { parts.work() };
        Self {
            member: layout.member.clone(),
            restored: work.join("restored"),
            replaced: state.join("replaced"),
            staged: work.join("staged"),
            parts,
            can_rename,
        }
    }

    /// The directories that tools write to.
    pub fn targets(&self) -> impl Iterator<Item = &Path> {
        [&*self.restored, &*self.staged].into_iter()
    }

    /// Makes the directory in which the tools write.
    pub fn prepare(&self) -> Result<(), MigrateError> {
        if self.can_rename {
            return Ok(());
        }
        let work = durable::parent(&self.restored);
        self.parts.prepare().map_err(|error| MigrateError::file("create", work, &error))
    }

    /// Whether a run ended between the first rename and the last one.
    pub fn is_pending(&self) -> bool {
        let is_between = !self.member.exists()
            && self.replaced.exists()
            && self.restored.join("member").exists();
        is_between || self.parts.is_pending()
    }

    /// Makes the renames, or those that were not made yet.
    pub fn finish(&self) -> Result<(), MigrateError> {
        if !self.can_rename {
            return self.parts.finish(&self.restored);
        }
        self.rename()
            .map_err(|error| MigrateError::file("move the restored data to", &self.member, &error))
    }

    fn rename(&self) -> io::Result<()> {
        if self.member.exists() {
            fs::rename(&self.member, &self.replaced)?;
            platform::sync_directory(durable::parent(&self.replaced))?;
        }
        fs::rename(self.restored.join("member"), &self.member)?;
        platform::sync_directory(durable::parent(&self.member))
    }

    /// Removes what earlier runs left, which fills the disk. Removes nothing while a replacement is
    /// pending, or if there is no `member`.
    pub fn clear(&self) -> Result<(), MigrateError> {
        if self.is_pending() || !self.member.exists() {
            return Ok(());
        }
        for path in [&self.restored, &self.replaced, &self.staged] {
            tree::remove(path).map_err(|error| MigrateError::file("remove", path, &error))?;
        }
        self.parts.clear()
    }

    /// Removes what a failed restore has written. What cannot be removed is left to the next run.
    pub fn discard(&self) {
        if self.is_pending() || !self.member.exists() {
            return;
        }
        let _ = self.targets().try_for_each(tree::remove);
        let _ = self.parts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::ScratchDirectory;

    #[test]
    fn a_swap_that_was_interrupted_between_its_renames_is_finished() {
        let scratch = ScratchDirectory::new();
        scratch.write("version.txt", b"3.5.33/etcd3");
        scratch.write(".migrate/replaced/snap/db", b"old");
        scratch.write(".migrate/restored/member/snap/db", b"new");
        let swap = Swap::of(&DataLayout::of(scratch.path(), None));
        assert!(swap.is_pending());
        swap.finish().unwrap();
        assert!(!swap.is_pending());
        assert_eq!(fs::read(scratch.path().join("member/snap/db")).unwrap(), b"new");
    }

    #[test]
    fn what_a_restore_left_is_removed_only_when_there_is_a_member() {
        let scratch = ScratchDirectory::new();
        let swap = Swap::of(&DataLayout::of(scratch.path(), None));
        let left = ["restored/member", "staged/member", "replaced"];
        let there = || left.map(|name| scratch.path().join(".migrate").join(name).exists());
        for name in left {
            scratch.write(&format!(".migrate/{name}/snap/db"), b"");
        }
        swap.discard();
        swap.clear().unwrap();
        assert_eq!(there(), [true, true, true]);
        scratch.write("member/snap/db", b"");
        swap.discard();
        assert_eq!(there(), [false, false, true]);
        swap.clear().unwrap();
        assert_eq!(there(), [false, false, false]);
    }

    #[test]
    fn a_restore_that_did_not_get_to_its_renames_is_not_taken_for_one() {
        let scratch = ScratchDirectory::new();
        scratch.write("member/snap/db", b"old");
        scratch.write(".migrate/restored/member/snap/db", b"half");
        assert!(!Swap::of(&DataLayout::of(scratch.path(), None)).is_pending());
    }
}
