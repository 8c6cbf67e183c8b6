//! The folders of one `docker buildx build`: what goes in and where the programs come out.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::error::CompileError;
use super::super::options::{BuildxOptions, CompileOptions};
use super::BuilderRun;
use super::dockerfile::dockerfile;

/// Everything is below one scratch folder.
pub(super) struct ContextFolders {
    /// The build context: only the inputs, so that no other file of the repository matters.
    pub context: PathBuf,
    pub dockerfile: PathBuf,
    /// Made by buildx.
    pub out: PathBuf,
}

impl ContextFolders {
    /// Copies the inputs of a run and writes its Dockerfile.
    pub(super) fn write(
        options: &CompileOptions,
        buildx: &BuildxOptions,
        run: &BuilderRun,
        scratch: &Path,
    ) -> Result<Self, CompileError> {
        let folders = Self {
            context: scratch.join("context"),
            dockerfile: scratch.join("Dockerfile"),
            out: scratch.join("out"),
        };
        for input in &run.inputs {
            copy(&options.root.join(input), &folders.context.join(input))?;
        }
        if let Some((name, text)) = &run.written {
            let path = folders.context.join(name);
            fs::write(&path, text).map_err(CompileError::io(&path))?;
        }
        fs::write(&folders.dockerfile, dockerfile(&buildx.image, run))
            .map_err(CompileError::io(&folders.dockerfile))?;
        Ok(folders)
    }
}

/// Copies a file or a folder. Links are followed and times do not matter.
fn copy(from: &Path, to: &Path) -> Result<(), CompileError> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(CompileError::io(parent))?;
    if from.is_dir() {
        fs::create_dir_all(to).map_err(CompileError::io(to))?;
        for entry in fs::read_dir(from).map_err(CompileError::io(from))? {
            let name = entry.map_err(CompileError::io(from))?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(CompileError::io(from))
}
