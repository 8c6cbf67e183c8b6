//! Where the files of the repository and of the cache are, and messages.

use std::path::{Path, PathBuf};

use etcdimg::catalog::{self, Versions};

use crate::error::{Result, TaskError};

/// The folder of the repository.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// versions.yaml of a folder, which is the repository's own for most tasks.
pub fn versions(folder: &Path) -> Result<Versions> {
    Ok(catalog::load(folder)?.0.versions)
}

/// The cache folder, the same as that of etcdimg.
pub fn cache() -> Result<PathBuf> {
    let folder = cache_dir::cache_folder().ok_or_else(|| {
        TaskError::new("none of ETCDIMG_CACHE, XDG_CACHE_HOME and HOME is set")
            .hint("set ETCDIMG_CACHE to a folder")
    })?;
    Ok(std::path::absolute(folder)?)
}

/// The folder of the cache for third-party parts: compilers, packages, programs.
pub fn parts() -> Result<PathBuf> {
    let parts = cache()?.join("parts");
    std::fs::create_dir_all(&parts)?;
    Ok(parts)
}

/// Prints a message to standard error.
pub fn say(text: impl std::fmt::Display) {
    eprintln!("xtask: {text}");
}
