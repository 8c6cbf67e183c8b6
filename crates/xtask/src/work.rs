//! A temporary folder in which daemons of root may write. It is removed with everything in it.

use std::path::{Path, PathBuf};

use crate::command::Cmd;
use crate::error::{ErrorContext as _, Result};
use crate::interrupt;

#[derive(Debug)]
pub struct Work(PathBuf);

impl Work {
    pub fn new(parent: &Path, prefix: &str) -> Result<Self> {
        std::fs::create_dir_all(parent).context(parent.display())?;
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
        Ok(Self(folder.context(parent.display())?.keep()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let options = ["-rf", "--one-file-system", "--"];
        interrupt::shielded(|| Cmd::root("rm").args(options).arg(&self.0).succeeds());
    }
}
