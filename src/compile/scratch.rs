//! Folders that compiles write into, and the way of a finished program into the store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::CompileError;
use super::recipe::Recipe;
use super::{CompileContext, Compiled};
use crate::ui;

/// The folder of one compile, removed when dropped. Its lock tells `cache gc` that it is in use.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    /// An empty folder below the cache.
    pub(super) fn new(work: &Path) -> Result<Self, CompileError> {
        let folder = work.join("compile");
        fs::create_dir_all(&folder).map_err(CompileError::io(&folder))?;
        let folder = tempfile::tempdir_in(&folder).map_err(CompileError::io(&folder))?;
        let lock = File::open(folder.path()).map_err(CompileError::io(folder.path()))?;
        lock.lock().map_err(CompileError::io(folder.path()))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Where the log of a compiler goes.
pub(super) fn log(work: &Path, name: &str) -> Result<PathBuf, CompileError> {
    let folder = work.join("logs");
    fs::create_dir_all(&folder).map_err(CompileError::io(&folder))?;
    Ok(folder.join(format!("{name}.log")))
}

/// Copies a compiled program into the store and reports it.
pub(super) fn keep(
    context: &CompileContext<'_>,
    recipe: &Recipe,
    path: &Path,
) -> Result<Compiled, CompileError> {
    let mut file = File::open(path).map_err(CompileError::io(path))?;
    let mut writer = context.store.writer()?;
    io::copy(&mut file, &mut writer).map_err(CompileError::io(path))?;
    let (digest, size) = writer.commit()?;
    context.ui.status("Compiled", format!("{} {}", recipe.what, ui::size(size)));
    Ok(Compiled { name: recipe.program.to_owned(), digest, size })
}
