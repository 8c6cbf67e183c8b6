//! Replaces files so that, whenever the program or the machine stops, a file is the old or the new
//! one as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::inspect::version_pair::VersionPair;
use crate::platform;

/// Replaces a file. Writes `<path>-next`, makes it durable, renames it, and makes the rename durable.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
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
        Failure::file("write", path, &error)
    })
}

/// Writes `version.txt`, without a newline, unless it says the same already.
pub fn record(data_dir: &Path, pair: &VersionPair) -> Result<(), Failure> {
    let path = data_dir.join("version.txt");
    let content = pair.to_string();
    match fs::read(&path) {
        Ok(bytes) if bytes == content.as_bytes() => Ok(()),
        _ => replace(&path, content.as_bytes()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_version_is_written_without_newline_and_leaves_nothing_behind() {
        let scratch = Scratch::new();
        let path = scratch.path().join("version.txt");
        for text in ["3.5.33/etcd3", "3.6.14/etcd3", "3.6.14/etcd3"] {
            record(scratch.path(), &text.parse().unwrap()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_version_that_stands_there_is_not_written_again() {
        let scratch = Scratch::new();
        scratch.write("version.txt", b"3.6.14/etcd3");
        let path = scratch.path().join("version.txt");
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        // The newline of the shell generation is content of its own.
        record(scratch.path(), &"3.6.14/etcd3".parse().unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        scratch.write("version.txt", b"3.6.14/etcd3\n");
        record(scratch.path(), &"3.6.14/etcd3".parse().unwrap()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3.6.14/etcd3");
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let scratch = Scratch::new();
        scratch.write("version.txt/is-a-directory", b"");
        assert!(record(scratch.path(), &"3.6.14/etcd3".parse().unwrap()).is_err());
        assert!(scratch.path().join("version.txt/is-a-directory").exists());
        assert!(!scratch.path().join("version.txt-next").exists());
    }
}
