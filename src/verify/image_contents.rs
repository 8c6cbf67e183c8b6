//! The files of one image, compared with its labels and with the image contract.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use contract::{EtcdOrigin, MigrateOrigin, labels, paths};
use etcd_version::facts::FACTS_PATH;
use etcd_version::{BUNDLED_PATH, Bundled, EtcdVersion, Facts, programs_of};
use tar::EntryType;

use crate::layer::windows::{FILES, HIVES};
use crate::platform::Platform;
use crate::program::{self, Expected, Identity};

/// With a slash at the end, so that what follows is a name.
const BIN: &str = "usr/local/bin/";

const WRAPPERS: [&str; 2] = [paths::WRAPPER, paths::WINDOWS_WRAPPER];

/// Limit for reading a program, in bytes; larger than any of ours.
const PROGRAM_LIMIT: u64 = 256 << 20;

/// The files of one image, compared with its labels.
pub(super) struct ImageContents<'a> {
    labels: &'a BTreeMap<String, String>,
    platform: Option<Platform>,
    /// Each path, and the target of a link.
    paths: BTreeMap<String, Option<String>>,
    /// The paths of our own layers, without folders.
    ours: Vec<String>,
    /// Which root folders of a Windows layer were seen in the current layer.
    roots: BTreeSet<&'static str>,
    bundled_file: Option<String>,
    n_programs: usize,
    faults: Vec<String>,
}

impl<'a> ImageContents<'a> {
    pub(super) fn new(labels: &'a BTreeMap<String, String>, platform: &str) -> Self {
        Self {
            labels,
            platform: platform.parse().ok(),
            paths: BTreeMap::new(),
            ours: Vec::new(),
            roots: BTreeSet::new(),
            bundled_file: None,
            n_programs: 0,
            faults: Vec::new(),
        }
    }

    pub(super) fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Whether one of our layers was read already.
    pub(super) fn has_ours(&self) -> bool {
        !self.ours.is_empty()
    }

    fn is_windows(&self) -> bool {
        self.platform.as_ref().is_some_and(Platform::is_windows)
    }

    /// Remembers a path of the base: `/bin/sh` must be there. Nothing else of the base matters.
    pub(super) fn base_entry(&mut self, entry: &tar::Entry<'_, impl Read>) {
        if self.is_windows() {
            return;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        self.paths.insert(path, None);
    }

    pub(super) fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> io::Result<()> {
        let full = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if self.is_windows() {
            self.windows_attributes(&full, entry)?;
        }
        let Some(path) = self.within_root(&full) else { return Ok(()) };
        let header = entry.header();
        let mode = header.mode()?;
        let kind = header.entry_type();
        if (header.uid()?, header.gid()?) != (0, 0) {
            self.faults.push(format!("/{path} does not belong to root"));
        }
        if path.starts_with(BIN) && kind != EntryType::Directory && mode != paths::PROGRAM_MODE {
            self.faults.push(format!("/{path} has the mode {mode:04o}, not 0555"));
        } else if mode & 0o7022 != 0 {
            self.faults.push(format!("/{path} has the mode {mode:04o}"));
        }
        let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
        let link = link.and_then(|link| self.within_root(&link));
        let is_directory = kind == EntryType::Directory;
        if !is_directory {
            self.ours.push(path.clone());
        }
        if self.paths.insert(path.clone(), link).is_some() && !is_directory {
            self.faults.push(format!("/{path} is in two layers"));
        }
        if kind == EntryType::Regular && path == BUNDLED_PATH {
            let mut text = String::new();
            entry.take(1 << 16).read_to_string(&mut text)?;
            self.bundled_file = Some(text);
        } else if kind == EntryType::Regular && path == FACTS_PATH {
            let mut text = String::new();
            entry.take(1 << 20).read_to_string(&mut text)?;
            if let Err(error) = Facts::parse(&text) {
                self.faults.push(format!("/{path} cannot be used: {error}"));
            }
        } else if let Some(name) = path
            .strip_prefix(BIN)
            .filter(|name| kind == EntryType::Regular && !WRAPPERS.contains(name))
        {
            let mut bytes = Vec::new();
            entry.take(PROGRAM_LIMIT).read_to_end(&mut bytes)?;
            self.program(name, &bytes);
        }
        Ok(())
    }

    /// The path in the file system of the image. On Windows this is below `Files`; other paths are
    /// reported and ignored.
    fn within_root(&mut self, path: &str) -> Option<String> {
        if !self.is_windows() {
            return Some(path.to_owned());
        }
        let path = path.trim_end_matches('/');
        if let Some(root) = [FILES, HIVES].into_iter().find(|root| *root == path) {
            self.roots.insert(root);
            return None;
        }
        let inside = path.strip_prefix(FILES).and_then(|rest| rest.strip_prefix('/'));
        if inside.is_none() {
            self.faults.push(format!("{path} is neither in {FILES} nor in {HIVES}"));
        }
        inside.map(str::to_owned)
    }

    /// Ends a layer. Windows refuses a layer that lacks one of the root folders.
    pub(super) fn end_of_layer(&mut self, name: &str) {
        let roots = std::mem::take(&mut self.roots);
        if self.is_windows() {
            let missing = [FILES, HIVES].into_iter().filter(|root| !roots.contains(root));
            self.faults.extend(missing.map(|root| format!("{name} has no folder {root}")));
        }
    }

    /// On Windows an entry without a security descriptor belongs to nobody and cannot be used.
    fn windows_attributes(
        &mut self,
        path: &str,
        entry: &mut tar::Entry<'_, impl Read>,
    ) -> io::Result<()> {
        let kind = entry.header().entry_type();
        let mut keys = Vec::new();
        for record in entry.pax_extensions()?.into_iter().flatten() {
            keys.push(record?.key().unwrap_or_default().to_owned());
        }
        let wanted = ["LIBARCHIVE.creationtime", "MSWINDOWS.fileattr", "MSWINDOWS.rawsd"];
        let missing = wanted.into_iter().find(|name| keys.iter().all(|key| key != name));
        if let (Some(name), EntryType::Regular | EntryType::Directory) = (missing, kind) {
            self.faults.push(format!("{path} has no {name}"));
        }
        Ok(())
    }

    fn program(&mut self, name: &str, bytes: &[u8]) {
        self.n_programs += 1;
        let Some(platform) = self.platform.clone() else {
            return self.faults.push("the platform of the config is unknown".to_owned());
        };
        let name = if platform.is_windows() {
            let Some(name) = name.strip_suffix(".exe") else {
                return self.faults.push(format!("/{BIN}{name} is no .exe"));
            };
            name
        } else {
            name
        };
        let (program, version) = name.split_once('-').unwrap_or((name, ""));
        let is_migrate = name == paths::MIGRATE;
        let label = if is_migrate { labels::MIGRATE.to_owned() } else { labels::etcd(version) };
        let Some(label) = self.labels.get(&label) else {
            return self.faults.push(format!("/{BIN}{name} has no label `{label}`"));
        };
        let (migrate, etcd): (Result<MigrateOrigin, _>, Result<EtcdOrigin, _>) =
            (label.parse(), label.parse());
        let content = match (&migrate, &etcd) {
            (Ok(it), _) if is_migrate => Identity::Migrate { version: &it.version },
            (_, Ok(EtcdOrigin { commit, go, .. })) if !is_migrate => {
                Identity::Etcd { program, version, go, commit }
            }
            _ => return self.faults.push(format!("the label of {name} cannot be read: {label}")),
        };
        let faults = program::check(bytes, &Expected { name, platform: &platform, content });
        self.faults.extend(faults.iter().map(ToString::to_string));
    }

    /// The number of programs, and everything that is wrong.
    pub(super) fn finish(mut self) -> (usize, Vec<String>) {
        let label = self.labels.get(labels::BUNDLED_VERSIONS).cloned().unwrap_or_default();
        match labels::parse_bundled(&label) {
            Ok(versions) => self.check_versions(&versions),
            Err(error) => self
                .faults
                .push(format!("the label {} is wrong: {error}", labels::BUNDLED_VERSIONS)),
        }
        let wanted: &[&str] = if self.is_windows() {
            &[
                "usr/local/bin/migrate.exe",
                "usr/local/bin/migrate-if-needed.bat",
                "bin/migrate.exe",
                "bin/migrate-if-needed.bat",
            ]
        } else {
            &["usr/local/bin/migrate", "usr/local/bin/migrate-if-needed.sh", "bin/sh"]
        };
        for path in wanted {
            if !self.paths.contains_key(*path) {
                self.faults.push(format!("/{path} is missing"));
            }
        }
        (self.n_programs, self.faults)
    }

    fn check_versions(&mut self, versions: &[EtcdVersion]) {
        if self.bundled_file != Some(Bundled::new(versions.to_vec()).to_string()) {
            self.faults.push(format!("/{BUNDLED_PATH} does not list the bundled versions"));
        }
        let exe = if self.is_windows() { ".exe" } else { "" };
        for version in versions {
            for program in programs_of(version) {
                let path = format!("{BIN}{program}-{version}{exe}");
                if !self.paths.contains_key(&path) {
                    self.faults.push(format!("/{path} is missing"));
                }
            }
        }
        let Some(last) = versions.iter().max() else { return };
        for path in std::mem::take(&mut self.ours) {
            let path_of_linux = if exe.is_empty() { Some(path.clone()) } else { linux(&path) };
            if !path_of_linux.is_some_and(|path| is_expected(&path, versions, last)) {
                self.faults.push(format!("/{path} is not part of the image contract"));
            }
        }
        for program in programs_of(last) {
            self.check_link(
                &format!("{BIN}{program}{exe}"),
                &format!("{BIN}{program}-{last}{exe}"),
            );
        }
        if self.is_windows() {
            for name in ["migrate.exe", "migrate-if-needed.bat"] {
                self.check_link(&format!("bin/{name}"), &format!("{BIN}{name}"));
            }
        }
    }

    fn check_link(&mut self, path: &str, to: &str) {
        if self.paths.get(path) != Some(&Some(to.to_owned())) {
            self.faults.push(format!("/{path} is not a hard link to /{to}"));
        }
    }
}

/// The path on Linux of a file of a Windows image; `None` if Linux has no such file.
fn linux(path: &str) -> Option<String> {
    let path = match path.strip_prefix("bin/migrate") {
        Some(rest) => format!("{BIN}migrate{rest}"),
        None => path.to_owned(),
    };
    match path.strip_suffix(".exe") {
        Some(program) => Some(program.to_owned()),
        None if path == BUNDLED_PATH || path == FACTS_PATH => Some(path),
        None => path.strip_suffix(".bat").map(|script| format!("{script}.sh")),
    }
}

/// Whether our layers may have a path. A whiteout is not expected, so none can hide a program.
fn is_expected(path: &str, versions: &[EtcdVersion], last: &EtcdVersion) -> bool {
    let is_program = |name: &str| {
        name == "migrate"
            || name == "migrate-if-needed.sh"
            || programs_of(last).contains(&name)
            || versions.iter().any(|version| {
                programs_of(version).iter().any(|program| name == format!("{program}-{version}"))
            })
    };
    path == BUNDLED_PATH || path == FACTS_PATH || path.strip_prefix(BIN).is_some_and(is_program)
}
