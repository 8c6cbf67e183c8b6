//! Folders of the cache that exist completely or not at all.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::error::{ErrorContext as _, Result, TaskError};

/// A temporary folder in `parent`, so that its content can be renamed into `parent`.
pub fn temporary(parent: &Path) -> Result<TempDir> {
    fs::create_dir_all(parent).context(parent.display())?;
    tempfile::Builder::new().prefix(".xtask-").tempdir_in(parent).context(parent.display())
}

/// Makes `place` by renaming the folder `made`. If another run has made it meanwhile, that
/// folder stays.
pub fn finish(made: &Path, place: &Path) -> Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).context(parent.display())?;
    }
    match fs::rename(made, place) {
        Err(_) if place.is_dir() => Ok(()),
        other => other.context(place.display()),
    }
}

/// The only entry of a folder whose name has this beginning and this end.
pub fn entry(folder: &Path, begin: &str, end: &str) -> Result<std::path::PathBuf> {
    let mut found = entries(folder)?;
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begin) && name.ends_with(end)
    });
    found
        .into_iter()
        .next()
        .ok_or_else(|| TaskError::new(format!("there is no {begin}…{end} in {}", folder.display())))
}

/// Everything in a folder, by name. Empty if the folder does not exist.
pub fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.context(folder.display())?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_runs_wins() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("deep/part");
        for name in ["first", "second"] {
            let work = temporary(folder.path()).unwrap();
            let made = work.path().join("new");
            fs::create_dir(&made).unwrap();
            fs::write(made.join(name), "").unwrap();
            finish(&made, &place).unwrap();
        }
        assert_eq!(entries(&place).unwrap(), [place.join("first")]);
        // The folder of the slower run was removed.
        assert_eq!(entries(folder.path()).unwrap(), [folder.path().join("deep")]);
    }
}
