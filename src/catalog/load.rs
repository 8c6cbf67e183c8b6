//! Reads the files of the catalog from disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Catalog, Fault, Texts};
use crate::digest::Digest;

pub const VERSIONS_FILE: &str = "versions.yaml";
pub const LOCK_FILE: &str = "etcdimg.lock";

/// Why the catalog cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is missing or cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A file has a mistake.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Reads the catalog from a folder, and the text of its lock, if there is one.
pub fn load(root: &Path) -> Result<(Catalog, Option<String>), LoadError> {
    let texts = Texts {
        versions: read(&root.join(VERSIONS_FILE))?,
        targets: targets(&root.join("targets"))?,
        lock: optional(&root.join(LOCK_FILE))?,
        sources: sources(&root.join("sources"))?,
    };
    Ok((Catalog::parse(root.to_owned(), &texts)?, texts.lock))
}

fn read(path: &Path) -> Result<String, LoadError> {
    fs::read_to_string(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })
}

fn optional(path: &Path) -> Result<Option<String>, LoadError> {
    if path.exists() { read(path).map(Some) } else { Ok(None) }
}

fn targets(folder: &Path) -> Result<Vec<(String, String)>, LoadError> {
    let names = names(folder)?
        .into_iter()
        .filter(|name| Path::new(name).extension().is_some_and(|it| it == "yaml"));
    names.map(|name| Ok((name.clone(), read(&folder.join(name))?))).collect()
}

fn sources(
    folder: &Path,
) -> Result<std::collections::BTreeMap<String, (Digest, Digest)>, LoadError> {
    let digest = |path: PathBuf| read(&path).map(Digest::of);
    let versions = names(folder)?.into_iter();
    let sums = versions.map(|version| {
        let module = folder.join(&version);
        Ok((version, (digest(module.join("go.mod"))?, digest(module.join("go.sum"))?)))
    });
    sums.collect()
}

/// Sorted, because the file system has no order.
fn names(folder: &Path) -> Result<Vec<String>, LoadError> {
    let error = |source| LoadError::Io { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        names.push(entry.map_err(error)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
