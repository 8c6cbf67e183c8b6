//! Replaces files so that, whenever the program or the machine stops, a file is the old or the new
//! one as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::MigrateError;
use crate::platform;

/// Replaces a file. Writes `<path>-next`, makes it durable, renames it, and makes the rename
/// durable.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), MigrateError> {
    let next = beside(path, "-next");
    let write = || -> io::Result<()> {
        let mut file = File::create(&next)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        platform::sync_directory(parent(path))
    };
    write().map_err(|error| {
        // On a full disk only a part was written. The old file is still complete.
        let _ = fs::remove_file(&next);
        MigrateError::file("write", path, &error)
    })
}

/// `<path><suffix>`; an extension of the path stays.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The directory that a path is in; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
