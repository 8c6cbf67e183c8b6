//! What is in a package, and where: the files of the image below a folder of their own, and the
//! texts that only a host needs. Pure.

use contract::paths::WRAPPER;

use super::{NAME, PackageJob};
use crate::plan::{EntryContent, ImagePlan};

/// The folder of everything that is not a link to it. Programs find their lists relative to
/// themselves, so it may also be unpacked elsewhere.
const HOME: &str = "usr/lib/etcd-migrate";

pub(super) const PROGRAM_MODE: u32 = 0o755;
pub(super) const FILE_MODE: u32 = 0o644;
pub(super) const DIRECTORY_MODE: u32 = 0o755;

/// The command of the package, and the program that it is.
pub(super) const COMMAND: (&str, &str) =
    ("usr/sbin/etcd-migrate", "../lib/etcd-migrate/etcd-migrate");

/// A file whose text is known here.
pub(super) struct TextFile {
    pub path: String,
    pub mode: u32,
    pub text: String,
}

const SCRIPTS: &[(&str, &str)] = &[
    ("before-kubelet", include_str!("host/before-kubelet.sh")),
    ("before-start", include_str!("host/before-start.sh")),
    ("etcd-migrate", include_str!("host/etcd-migrate.sh")),
];

const UNITS: &[(&str, &str)] = &[
    ("etcd-migrate-kubeadm.service", include_str!("host/etcd-migrate-kubeadm.service")),
    ("etcd-migrate.conf", include_str!("host/etcd-migrate.conf")),
];

const DOCUMENTS: &[(&str, &str)] =
    &[("README", include_str!("host/README")), ("copyright", include_str!("host/copyright"))];

/// Why `lintian` need not complain: a tag of it in each line.
const OVERRIDES: &str = include_str!("host/lintian-overrides");

/// The folders of a package, each after the one that it is in.
pub(super) fn directories() -> Vec<String> {
    let below_home = ["", "/bin", "/share", "/share/etcdimg", "/systemd"];
    let mut all: Vec<_> = ["usr", "usr/lib"].map(str::to_owned).to_vec();
    all.extend(below_home.map(|folder| format!("{HOME}{folder}")));
    all.extend(["usr/sbin", "usr/share", "usr/share/doc"].map(str::to_owned));
    all.push(format!("usr/share/doc/{NAME}"));
    all.extend(["usr/share/lintian", "usr/share/lintian/overrides"].map(str::to_owned));
    all
}

pub(super) fn texts(job: &PackageJob<'_>) -> Vec<TextFile> {
    let file = |path: String, mode, text: &str| TextFile { path, mode, text: text.to_owned() };
    let mut files = vec![file(format!("{HOME}/origin"), FILE_MODE, &origin(job.image))];
    let at_home = |(name, text): &(&str, &str)| file(format!("{HOME}/{name}"), PROGRAM_MODE, text);
    files.extend(SCRIPTS.iter().map(at_home));
    let unit =
        |(name, text): &(&str, &str)| file(format!("{HOME}/systemd/{name}"), FILE_MODE, text);
    files.extend(UNITS.iter().map(unit));
    let document =
        |(name, text): &(&str, &str)| file(format!("usr/share/doc/{NAME}/{name}"), FILE_MODE, text);
    files.extend(DOCUMENTS.iter().map(document));
    files.push(file(format!("usr/share/lintian/overrides/{NAME}"), FILE_MODE, OVERRIDES));
    files
}

/// The labels of the image that say what the programs are made of.
fn origin(image: &ImagePlan) -> String {
    let is_of_programs = |name: &str| {
        name.starts_with(&contract::labels::etcd("")) || name == contract::labels::MIGRATE
    };
    let labels = image.labels.iter().filter(|(name, _)| is_of_programs(name));
    labels.flat_map(|(name, value)| [name, " = ", value, "\n"]).collect()
}

/// The files of the image that are wanted: their paths there, here, and their modes here. Links are
/// not wanted, and neither is the script for old manifests.
pub(super) fn from_image(image: &ImagePlan) -> Vec<(String, String, u32)> {
    let entries = image.layers.iter().flat_map(|layer| &layer.entries);
    let wanted = entries.filter_map(|entry| {
        let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
        let (folder, mode) = match entry.content {
            EntryContent::Program { .. } => ("bin", PROGRAM_MODE),
            EntryContent::Text { .. } if name != WRAPPER => ("share/etcdimg", FILE_MODE),
            _ => return None,
        };
        Some((entry.path.clone(), format!("{HOME}/{folder}/{name}"), mode))
    });
    wanted.collect()
}

#[cfg(test)]
mod tests {
    use contract::paths::{BIN, SHARE};

    use super::*;

    #[test]
    fn migrate_finds_its_lists_beside_its_programs() {
        // `migrate` looks below the folder that holds the one of the programs.
        assert_eq!(BIN.strip_suffix("/bin"), SHARE.strip_suffix("/share/etcdimg"));
        let all = directories();
        assert!(["bin", "share/etcdimg"].iter().all(|it| all.contains(&format!("{HOME}/{it}"))));
        let is_after_its_parent = |(at, path): (usize, &String)| {
            path.rsplit_once('/').is_none_or(|(parent, _)| all[..at].iter().any(|it| it == parent))
        };
        assert!(all.iter().enumerate().all(is_after_its_parent));
    }

    /// The line that the guide and the drop-in name is where the package has the program.
    #[test]
    fn units_and_scripts_name_files_of_the_package() {
        let exists = |path: &str| {
            SCRIPTS.iter().chain(UNITS).any(|(name, _)| {
                path == format!("/{HOME}/{name}") || path == format!("/{HOME}/systemd/{name}")
            })
        };
        for (name, text) in UNITS {
            let words = text.split_whitespace().flat_map(|word| word.split('='));
            let paths: Vec<_> = words.filter(|it| it.starts_with(&format!("/{HOME}/"))).collect();
            assert!(!paths.is_empty(), "{name}");
            for path in paths {
                assert!(exists(path), "{name}: {path}");
            }
        }
        let (command, to) = COMMAND;
        assert_eq!(command, format!("usr/sbin/{NAME}"));
        assert!(exists(&format!("/usr/{}", to.trim_start_matches("../"))));
    }
}
