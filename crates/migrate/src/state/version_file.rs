//! Writes `version.txt`.

use std::fs;
use std::path::Path;

use crate::error::MigrateError;
use crate::files::durable;
use crate::inspect::version_pair::VersionPair;

/// Writes the version without a newline, unless the file is the same already.
pub fn write(data_dir: &Path, pair: &VersionPair) -> Result<(), MigrateError> {
    let path = data_dir.join("version.txt");
    let content = pair.to_string();
    match fs::read(&path) {
        Ok(bytes) if bytes == content.as_bytes() => Ok(()),
        _ => durable::replace(&path, content.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::ScratchDirectory;

    #[test]
    fn the_version_is_written_without_newline_and_leaves_nothing_behind() {
        let scratch = ScratchDirectory::new();
        let path = scratch.path().join("version.txt");
        for text in ["3.5.33/etcd3", "3.6.14/etcd3", "3.6.14/etcd3"] {
            write(scratch.path(), &text.parse().unwrap()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_version_that_stands_there_is_not_written_again() {
        let scratch = ScratchDirectory::new();
        scratch.write("version.txt", b"3.6.14/etcd3");
        let path = scratch.path().join("version.txt");
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        // The newline of the shell generation is content of its own.
        write(scratch.path(), &"3.6.14/etcd3".parse().unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        scratch.write("version.txt", b"3.6.14/etcd3\n");
        write(scratch.path(), &"3.6.14/etcd3".parse().unwrap()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3.6.14/etcd3");
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let scratch = ScratchDirectory::new();
        scratch.write("version.txt/is-a-directory", b"");
        assert!(write(scratch.path(), &"3.6.14/etcd3".parse().unwrap()).is_err());
        assert!(scratch.path().join("version.txt/is-a-directory").exists());
        assert!(!scratch.path().join("version.txt-next").exists());
    }
}
