//! Finds mount points. A directory can be one although its device is that of its parent: a file system
//! may be mounted at several places.

use std::fs;
use std::path::{Path, PathBuf};

use crate::platform;

/// Whether something is mounted at a path; links are followed. Nothing can be renamed across such a
/// place.
pub fn is_mount_point(path: &Path) -> bool {
    let Ok(real) = fs::canonicalize(path) else { return false };
    let file_system = |path: &Path| platform::file_system(path).ok();
    let is_other = real.parent().is_some_and(|parent| file_system(parent) != file_system(&real));
    is_other || platform::mount_points().contains(&real)
}

/// The mount points below a directory, without itself.
pub fn below(directory: &Path) -> Vec<PathBuf> {
    let Ok(real) = fs::canonicalize(directory) else { return Vec::new() };
    let points = platform::mount_points().into_iter();
    points.filter(|point| point.starts_with(&real) && *point != real).collect()
}
