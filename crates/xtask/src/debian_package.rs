//! Package files of Debian or Ubuntu, of any suite and architecture, without installing anything.
//!
//! apt verifies them: the mirror comes from this machine's apt sources (or `ETCDIMG_APT_MIRROR`),
//! the signature must be of the distribution's own keyring. A file that was fetched once is used
//! for good; to get a newer version remove `parts/debian/SUITE/ARCHITECTURE/PACKAGE` of the cache.
//! Needs no root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::apt;
use crate::command::Cmd;
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::part;
use crate::workspace::{self, say};

const MIRROR: &str = "ETCDIMG_APT_MIRROR";

/// A suite of Debian or Ubuntu for one architecture, where packages come from.
#[derive(Clone, Copy, Debug)]
pub struct DebianSuite<'a> {
    pub suite: &'a str,
    pub architecture: &'a str,
}

/// The file of each package. `NAME=VERSION` selects a version by its beginning, where the suite
/// has several.
pub fn files(debian: DebianSuite<'_>, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let DebianSuite { suite, architecture } = debian;
    let cache = workspace::parts()?.join("debian").join(suite).join(architecture);
    let missing: Vec<_> =
        packages.iter().copied().filter(|package| cached(&cache, package).is_err()).collect();
    if !missing.is_empty() {
        fetch(debian, &cache, &missing)?;
    }
    packages.iter().map(|package| cached(&cache, package)).collect()
}

fn cached(cache: &Path, package: &str) -> Result<PathBuf> {
    part::entry(&cache.join(package), "", ".deb")
}

fn fetch(debian: DebianSuite<'_>, cache: &Path, packages: &[&str]) -> Result<()> {
    let DebianSuite { suite, architecture } = debian;
    let names = packages.join(" ");
    if !apt::is_here() {
        let text = format!("this system has no apt, so {names} of {suite} cannot be fetched");
        return Err(TaskError::new(text)
            .hint("run this on Debian or Ubuntu, or in a container of one of them"));
    }
    let folder = part::temporary(cache)?;
    let apt = Apt { work: folder.path(), debian, keyrings: keyrings()? };
    say(format_args!("fetching {names} of {suite} for {architecture} into {}", cache.display()));
    let mut log = String::new();
    let mut is_fetched = false;
    for archive in apt.archives()? {
        match apt.download(&archive, packages) {
            Ok(()) => {
                is_fetched = true;
                break;
            }
            Err(failure) => log.extend(["\n--- ", &archive, "\n", &failure.to_string()]),
        }
        crate::interrupt::check()?;
    }
    if !is_fetched {
        let sources = "no archive of this machine's apt sources has";
        return Err(TaskError::new(format!(
            "{sources} {names} of {suite} for {architecture}{log}"
        ))
        .hint(format!(
            "{MIRROR}=URI names another archive, as in a sources.list line: deb URI SUITE \
                 main (Ubuntu has foreign architectures in its ports archive)"
        ))
        .hint(
            "for a suite of another distribution install its keyring \
                 (debian-archive-keyring, ubuntu-keyring)",
        ));
    }
    for package in packages {
        let name = package.split('=').next().unwrap_or(package);
        let file = part::entry(&apt.fetched(), &format!("{name}_"), ".deb")?;
        let made = apt.work.join("new").join(package);
        fs::create_dir_all(&made)?;
        fs::rename(&file, made.join(file.file_name().unwrap_or_default()))?;
        part::finish(&made, &cache.join(package))?;
    }
    Ok(())
}

/// The distribution's own keys, in the form of apt's `signed-by`.
fn keyrings() -> Result<String> {
    let names = ["debian-archive-keyring.", "ubuntu-archive-keyring."];
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kind = names.iter().find_map(|begin| name.strip_prefix(begin));
        kind.is_some_and(|kind| kind.starts_with(['g', 'p']))
    };
    let found = part::entries(Path::new("/usr/share/keyrings"))?.into_iter().filter(is_one);
    let paths: Vec<_> = found.map(|path| path.display().to_string()).collect();
    if paths.is_empty() {
        return Err(TaskError::new("there is no archive keyring in /usr/share/keyrings")
            .hint("apt-get install debian-archive-keyring"));
    }
    Ok(paths.join(","))
}

/// An apt with its own folders; those of the system are not changed.
struct Apt<'a> {
    work: &'a Path,
    debian: DebianSuite<'a>,
    keyrings: String,
}

impl Apt<'_> {
    fn fetched(&self) -> PathBuf {
        self.work.join("fetched")
    }

    /// The mirrors that may have the suite.
    fn archives(&self) -> Result<Vec<String>> {
        if let Some(mirror) = std::env::var(MIRROR).ok().filter(|value| !value.is_empty()) {
            return Ok(vec![mirror]);
        }
        let lists = format!("Dir::State::Lists={}", self.work.join("lists").display());
        let text = Cmd::new("apt-get").args(["-o", &lists, "--print-uris", "update"]).text()?;
        Ok(archives(&text))
    }

    /// Downloads the packages into `fetched`.
    fn download(&self, archive: &str, packages: &[&str]) -> Result<()> {
        let DebianSuite { suite, architecture } = self.debian;
        let is_ubuntu = apt::os_release("ID").is_some_and(|id| id == "ubuntu");
        let components = if is_ubuntu { "main universe" } else { "main" };
        // No security suite: its fixes arrive with the point releases, and a mirror of it that is
        // half synchronised must not decide which version this machine gets.
        let line = format!(
            "deb [arch={architecture} target=Packages signed-by={}] {archive} {suite} {components}\n",
            self.keyrings
        );
        fs::write(self.work.join("sources.list"), line)?;
        for name in ["lists", "fetched"] {
            let _ = fs::remove_dir_all(self.work.join(name));
        }
        for name in ["lists/partial", "cache/archives/partial", "fetched"] {
            let path = self.work.join(name);
            fs::create_dir_all(&path).context(path.display())?;
        }
        self.apt_get()?.arg("update").text()?;
        let wanted = packages.iter().map(|package| wanted(package));
        self.apt_get()?.arg("download").args(wanted).dir(&self.fetched()).text()?;
        Ok(())
    }

    fn apt_get(&self) -> Result<Cmd> {
        let work = self.work.display();
        let architecture = self.debian.architecture;
        let user = Cmd::new("id").arg("-un").text()?;
        let options = [
            format!("Dir::Etc::SourceList={work}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={work}/lists"),
            "Dir::State::Status=/dev/null".to_owned(),
            format!("Dir::Cache={work}/cache"),
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            format!("APT::Sandbox::User={user}"),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        let options = options.iter().flat_map(|option| ["-o", option]);
        Ok(Cmd::new("apt-get").arg("-q").args(options))
    }
}

/// apt accepts the beginning of a version only with a wildcard.
fn wanted(package: &str) -> String {
    if package.contains('=') { format!("{package}*") } else { package.to_owned() }
}

/// The archives that `apt-get --print-uris update` names, the most likely one first. apt does not
/// say which of the sites is the distribution's own archive: most likely it is the one that has an
/// `-updates` suite.
fn archives(text: &str) -> Vec<String> {
    let site = |line: &str| {
        let uri = line.strip_prefix('\'')?.split_once("/InRelease'")?.0;
        let (archive, suite) = uri.rsplit_once("/dists/")?;
        let rank = match suite {
            _ if suite.ends_with("-updates") => 1,
            _ if suite.ends_with("-security") => 3,
            _ => 2,
        };
        Some((rank, archive.to_owned()))
    };
    let ranked: BTreeSet<_> = text.lines().filter_map(site).collect();
    let mut archives: Vec<String> = Vec::new();
    for (_, archive) in ranked {
        if !archives.contains(&archive) {
            archives.push(archive);
        }
    }
    archives
}

/// A field of a package file, such as `Version`.
pub fn field(package: &Path, name: &str) -> Result<String> {
    Cmd::new("dpkg-deb").arg("--field").arg(package).arg(name).text()
}

pub fn unpack(package: &Path, folder: &Path) -> Result<()> {
    Cmd::new("dpkg-deb").arg("--extract").arg(package).arg(folder).text().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_with_updates_is_asked_first() {
        let text = "'http://a.example/security/dists/one-security/InRelease' a_security 0\n\
                    'http://b.example/extra/dists/one/InRelease' b_one 0\n\
                    'http://c.example/debian/dists/one/InRelease' c_one 0\n\
                    'http://c.example/debian/dists/one-updates/InRelease' c_updates 0\n\
                    Reading package lists...\n";
        assert_eq!(
            archives(text),
            ["http://c.example/debian", "http://b.example/extra", "http://a.example/security"]
        );
    }

    #[test]
    fn a_version_is_asked_for_by_how_it_begins() {
        assert_eq!(wanted("rust-src=1.95.0"), "rust-src=1.95.0*");
        assert_eq!(wanted("crane"), "crane");
    }
}
