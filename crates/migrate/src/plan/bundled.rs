//! Which versions of etcd are bundled in this image, and where their programs are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use etcd_version::facts::FACTS_PATH;
use etcd_version::{BUNDLED_PATH, Bundled, EtcdVersion, Facts};

use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::durable::parent;
use crate::platform::PROGRAM_SUFFIX;

/// The bundled versions: from the flag, else from the list in the image, else from the names of the
/// programs in `bin_dir`.
pub fn bundled(given: Option<&Bundled>, bin_dir: &Path) -> Result<Bundled, MigrateError> {
    if let Some(bundled) = given {
        return Ok(bundled.clone());
    }
    let path = beside_programs(bin_dir, BUNDLED_PATH);
    match fs::read_to_string(&path) {
        Ok(text) => text.parse().map_err(|error| {
            MigrateError::new(MigrateErrorKind::System, format_args!("{}: {error}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => by_programs(bin_dir),
        Err(error) => Err(MigrateError::file("read", &path, &error)),
    }
}

/// Lets the table of the image count, if there is one: it may know more of etcd than this program.
pub fn load_facts(bin_dir: &Path) -> Result<(), MigrateError> {
    let path = beside_programs(bin_dir, FACTS_PATH);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(MigrateError::file("read", &path, &error)),
    };
    let facts = Facts::parse(&text).map_err(|error| {
        let what = format_args!("{} cannot be used: {error}", path.display());
        MigrateError::new(MigrateErrorKind::System, what)
            .hint("remove the file, and what this program itself knows counts")
    })?;
    facts.install();
    Ok(())
}

/// A file of the image. Its path is fixed, so it is found relative to the programs.
fn beside_programs(bin_dir: &Path, path: &str) -> PathBuf {
    parent(bin_dir).join(path.strip_prefix("usr/local/").unwrap_or(path))
}

fn by_programs(bin_dir: &Path) -> Result<Bundled, MigrateError> {
    let unreadable = |error: io::Error| MigrateError::file("read the programs in", bin_dir, &error);
    let mut versions = Vec::new();
    for entry in fs::read_dir(bin_dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let version = name.strip_prefix("etcd-").and_then(|name| name.strip_suffix(PROGRAM_SUFFIX));
        versions.extend(version.and_then(|text| text.parse().ok()));
    }
    if versions.is_empty() {
        return Err(MigrateError::new(
            MigrateErrorKind::System,
            format_args!("no etcd-<version> programs in {}", bin_dir.display()),
        )
        .hint("give their directory with --bin-dir"));
    }
    Ok(Bundled::new(versions))
}

/// The path of a program such as `etcd-3.6.14`. An error if it does not exist.
pub fn program(bin_dir: &Path, name: &str, version: &EtcdVersion) -> Result<PathBuf, MigrateError> {
    let path = bin_dir.join(format!("{name}-{version}{PROGRAM_SUFFIX}"));
    if path.is_file() {
        return Ok(path);
    }
    Err(MigrateError::new(
        MigrateErrorKind::System,
        format_args!("{} does not exist", path.display()),
    )
    .hint("a step needs this program; `migrate --plan` prints the steps"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::ScratchDirectory;

    #[test]
    fn the_flag_beats_the_file_and_the_file_beats_the_programs() {
        let scratch = ScratchDirectory::new();
        let bin_dir = scratch.path().join("local/bin");
        let list = |given: Option<&Bundled>| {
            let bundled = bundled(given, &bin_dir).map_err(|failure| failure.kind)?;
            Ok::<_, MigrateErrorKind>(bundled.to_string().replace('\n', " "))
        };
        assert_eq!(list(None), Err(MigrateErrorKind::System));
        scratch.write("local/bin/migrate", b"");
        assert_eq!(list(None), Err(MigrateErrorKind::System));
        for name in ["etcd", "etcd-3.6.14", "etcdctl-3.9.9", "etcd-3.4.27", "etcd-wrapper"] {
            scratch.write(&format!("local/bin/{name}{PROGRAM_SUFFIX}"), b"");
        }
        assert_eq!(list(None).unwrap(), "3.4.27 3.6.14 ");
        scratch.write("local/share/etcdimg/bundled-versions", b"# list\n3.5.33\n");
        assert_eq!(list(None).unwrap(), "3.5.33 ");
        let given = "3.7.1".parse().unwrap();
        assert_eq!(list(Some(&given)).unwrap(), "3.7.1 ");
        scratch.write("local/share/etcdimg/bundled-versions", b"newest\n");
        assert_eq!(list(None), Err(MigrateErrorKind::System));
    }
}
