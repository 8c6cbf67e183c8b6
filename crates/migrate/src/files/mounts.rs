//! Finds mount points. A directory can be one although its device is that of its parent: a file
//! system may be mounted at several places.

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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::scratch::ScratchDirectory;

    #[test]
    fn mount_points_are_found_also_behind_links() {
        let scratch = ScratchDirectory::new();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        assert!(is_mount_point(Path::new("/proc")) && is_mount_point(&link));
        assert!(!is_mount_point(scratch.path()) && !is_mount_point(&scratch.path().join("none")));
        assert!(below(Path::new("/")).iter().any(|point| point == Path::new("/proc")));
        assert!(!below(Path::new("/proc")).contains(&"/proc".into()));
        assert!(below(scratch.path()).is_empty());
    }
}
