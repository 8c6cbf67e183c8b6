//! The same content for every program that `bench` measures: the layers of an image as tars, as
//! files of a Dockerfile and as archives of releases.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use etcdimg::catalog::{self, LOCK_FILE, VERSIONS_FILE};
use etcdimg::digest::Digest;

use crate::command::Cmd;
use crate::error::{ErrorContext as _, Result};
use crate::workspace;
use crate::{oci_layout, part};

/// Links of the catalog to what a build reads beside it.
const LINKS: [&str; 5] = ["sources", "crates", "manifests", "Cargo.toml", "Cargo.lock"];

/// The folders that the content of a benchmark is in.
#[derive(Debug)]
pub struct BenchContent {
    work: PathBuf,
}

impl BenchContent {
    /// Takes the layers of the image in `layout` apart, all but that of the base.
    pub fn write(work: &Path, layout: &Path) -> Result<Self> {
        let content = Self { work: work.to_owned() };
        let mut dockerfile = "FROM base\n".to_owned();
        for folder in ["tars", "context", "release", "archives"] {
            fs::create_dir(work.join(folder))?;
        }
        for (number, tar) in oci_layout::layers(layout)?.iter().enumerate().skip(1) {
            fs::write(work.join(format!("tars/{number}.tar")), tar)?;
            content.unpack(number, tar)?;
            let _ = writeln!(dockerfile, "COPY {number} /");
        }
        fs::write(content.context().join("Dockerfile"), dockerfile)?;
        content.archive()?;
        Ok(content)
    }

    pub fn context(&self) -> PathBuf {
        self.work.join("context")
    }

    pub fn tars(&self) -> Result<Vec<PathBuf>> {
        part::entries(&self.work.join("tars"))
    }

    pub fn archives(&self) -> PathBuf {
        self.work.join("archives")
    }

    /// A catalog whose lock has the digests of the archives.
    pub fn catalog(&self) -> Result<PathBuf> {
        let (root, catalog) = (workspace::root(), self.work.join("catalog"));
        fs::create_dir(&catalog)?;
        let copied = [VERSIONS_FILE, "targets"].map(|name| root.join(name));
        Cmd::new("cp").arg("-r").args(copied).arg(&catalog).run()?;
        for name in LINKS {
            symlink(root.join(name), catalog.join(name))?;
        }
        let mut lock = catalog::parse_lock(&fs::read_to_string(root.join(LOCK_FILE))?)?;
        for release in &mut lock.releases {
            if let Ok(file) = fs::File::open(self.archives().join(&release.file)) {
                let (digest, size) = Digest::of_reader(file)?;
                (release.digest, release.size) = (digest, Some(size));
            }
        }
        fs::write(catalog.join(LOCK_FILE), lock.to_yaml())?;
        Ok(catalog)
    }

    /// Hard links are left out: COPY would turn them into files, more work than for other tools.
    fn unpack(&self, number: usize, tar: &[u8]) -> Result<()> {
        for entry in tar::Archive::new(tar).entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = entry.path()?.into_owned();
            let path = self.context().join(number.to_string()).join(&name);
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(&path, bytes).context(path.display())?;
            fs::set_permissions(&path, fs::Permissions::from_mode(entry.header().mode()?))?;
            let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some((program, version)) = released(&name) {
                let folder = self.work.join("release").join(release_name(version));
                fs::create_dir_all(&folder)?;
                fs::hard_link(&path, folder.join(program))?;
            }
        }
        Ok(())
    }

    /// As etcd releases them.
    fn archive(&self) -> Result<()> {
        let release = self.work.join("release");
        for folder in part::entries(&release)? {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let archive = self.archives().join(format!("{name}.tar.gz"));
            let options = ["--sort=name", "--use-compress-program=gzip -6", "--create", "--file"];
            let command = Cmd::new("tar").arg("-C").arg(&release).args(options);
            command.arg(&archive).arg(&name).run()?;
        }
        Ok(())
    }
}

/// Program and version of a name such as `etcdctl-3.7.1`.
fn released(name: &str) -> Option<(&str, &str)> {
    name.split_once('-').filter(|_| name.starts_with("etcd"))
}

fn release_name(version: &str) -> String {
    format!("etcd-v{version}-linux-amd64")
}

/// The sum of what the entries of a tar hold.
pub fn size_of_tar(path: &Path) -> Result<u64> {
    let file = fs::File::open(path).context(path.display())?;
    let mut size = 0;
    for entry in tar::Archive::new(file).entries()? {
        size += entry?.header().size()?;
    }
    Ok(size)
}

/// The sum of all files below a folder.
pub fn size_of_files(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for path in part::entries(folder)? {
        let known = fs::symlink_metadata(&path)?;
        size += match known.file_type() {
            kind if kind.is_dir() => size_of_files(&path)?,
            kind if kind.is_file() => known.len(),
            _ => 0,
        };
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_tar::RootTar;

    #[test]
    fn programs_are_released_by_version() {
        assert_eq!(released("etcdctl-3.7.1"), Some(("etcdctl", "3.7.1")));
        assert_eq!(released("migrate-if-needed.sh"), None);
        assert_eq!(released("etcd"), None);
        assert_eq!(release_name("3.7.1"), "etcd-v3.7.1-linux-amd64");
    }

    #[test]
    fn sizes_are_those_of_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let mut tar = RootTar::default();
        tar.file("a/b", 0o644, vec![1; 700]);
        tar.file("c", 0o644, vec![1; 30]);
        let path = folder.path().join("it.tar");
        fs::write(&path, tar.bytes().unwrap()).unwrap();
        assert_eq!(size_of_tar(&path).unwrap(), 730);
        fs::remove_file(path).unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/e"), "four").unwrap();
        assert_eq!(size_of_files(folder.path()).unwrap(), 4);
    }
}
