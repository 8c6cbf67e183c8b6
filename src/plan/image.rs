//! Plans one image: its layers, files, environment and labels.

use std::collections::BTreeMap;

use etcd_version::{BUNDLED_PATH, Bundled};

use super::{
    BASE_LABEL, BasePlan, BaseSource, Choice, EntryContent, EntryPlan, ImagePlan, LayerPlan,
    ModulesSource, PlanError, ProgramSource, ReleaseSource, WorkspaceSource,
};
use crate::catalog::{BundledEtcd, Locked, Origin, Target, release_file};
use crate::layer::format::FORMAT;
use crate::layer::windows::{FILES, HIVES};
use crate::platform::Platform;

const BIN: &str = "usr/local/bin";

/// A second folder with `migrate` on Windows, which old Kubernetes manifests use.
const WINDOWS_BIN: &str = "bin";

/// The mode of every program and script, as in the old etcd images.
const PROGRAM_MODE: u32 = 0o555;

const WRAPPER: &str = include_str!("../../crates/migrate/migrate-if-needed.sh");
const WINDOWS_WRAPPER: &str = include_str!("../../crates/migrate/migrate-if-needed.bat");

pub(super) fn plan(
    locked: &Locked,
    choice: &Choice,
    target: &Target,
) -> Result<ImagePlan, PlanError> {
    let bundled = &locked.catalog.versions.bundled;
    let origin = choice.origin.unwrap_or(target.origin);
    let mut layers = Vec::new();
    for (i, etcd) in bundled.iter().enumerate() {
        let is_last = i + 1 == bundled.len();
        let source = source(locked, choice, target, origin, etcd)?;
        layers.push(LayerPlan {
            name: format!("etcd {}", etcd.version),
            source,
            entries: etcd_entries(target, etcd, is_last),
        });
    }
    // Last, because it changes most often: the etcd layers keep their digests.
    layers.push(migrate(locked, target));
    let base = base(locked, choice, target)?;
    let labels = labels(locked, origin, &base, &layers);
    Ok(ImagePlan {
        platform: target.platform.clone(),
        base,
        layers,
        environment: environment(locked, target),
        labels,
    })
}

fn source(
    locked: &Locked,
    choice: &Choice,
    target: &Target,
    origin: Origin,
    etcd: &BundledEtcd,
) -> Result<ProgramSource, PlanError> {
    match origin {
        Origin::Release => release(locked, choice, target, etcd).map(ProgramSource::Release),
        Origin::Source => Ok(ProgramSource::Modules(modules(locked, target, etcd))),
    }
}

fn release(
    locked: &Locked,
    choice: &Choice,
    target: &Target,
    etcd: &BundledEtcd,
) -> Result<ReleaseSource, PlanError> {
    let file = release_file(&etcd.version, target);
    let lock = locked.lock.release(&file).ok_or_else(|| PlanError::NoRelease(file.clone()))?;
    let mirrors = choice.mirrors.iter().chain(&locked.catalog.versions.mirrors);
    Ok(ReleaseSource {
        version: etcd.version.clone(),
        go: etcd.go.clone(),
        commit: etcd.commit.clone(),
        urls: mirrors.map(|mirror| mirror.url(&etcd.version, &file)).collect(),
        digest: lock.digest,
        size: lock.size,
        file,
    })
}

fn modules(locked: &Locked, target: &Target, etcd: &BundledEtcd) -> ModulesSource {
    let lock =
        locked.lock.source(&etcd.version).expect("`Catalog::lock` wants one for every version");
    ModulesSource {
        version: etcd.version.clone(),
        go: etcd.go.clone(),
        commit: etcd.commit.clone(),
        go_mod: lock.go_mod,
        go_sum: lock.go_sum,
        goos: target.platform.os.clone(),
        goarch: target.goarch.clone(),
        goarm: target.goarm.clone(),
    }
}

fn etcd_entries(target: &Target, etcd: &BundledEtcd, is_last: bool) -> Vec<EntryPlan> {
    let paths = ImagePaths::of(target);
    let versioned = |name: &str| paths.program(&format!("{name}-{}", etcd.version));
    let mut entries = paths.directories(&["usr", "usr/local", BIN]);
    for name in etcd.programs() {
        let content = EntryContent::Program { name: (*name).to_owned() };
        entries.push(EntryPlan { path: versioned(name), mode: PROGRAM_MODE, content });
    }
    if is_last {
        for name in etcd.programs() {
            let content = EntryContent::HardLink { to: versioned(name) };
            entries.push(EntryPlan { path: paths.program(name), mode: PROGRAM_MODE, content });
        }
    }
    sorted(entries)
}

fn migrate(locked: &Locked, target: &Target) -> LayerPlan {
    let versions = locked.catalog.versions.bundled.iter().map(|etcd| etcd.version.clone());
    let bundled = Bundled::new(versions.collect()).to_string();
    let paths = ImagePaths::of(target);
    let file = |path: String, mode, content| EntryPlan { path, mode, content };
    let mut entries =
        paths.directories(&["usr", "usr/local", BIN, "usr/local/share", "usr/local/share/etcdimg"]);
    let (name, text) = if target.platform.is_windows() {
        ("migrate-if-needed.bat", WINDOWS_WRAPPER)
    } else {
        ("migrate-if-needed.sh", WRAPPER)
    };
    let (program, wrapper) = (paths.program("migrate"), paths.path(&format!("{BIN}/{name}")));
    if target.platform.is_windows() {
        entries.push(paths.directory(WINDOWS_BIN));
        for to in [&program, &wrapper] {
            let path = to.replacen(BIN, WINDOWS_BIN, 1);
            entries.push(file(path, PROGRAM_MODE, EntryContent::HardLink { to: to.clone() }));
        }
    }
    entries.push(file(program, PROGRAM_MODE, EntryContent::Program { name: "migrate".into() }));
    entries.push(file(wrapper, PROGRAM_MODE, EntryContent::Text { text: text.into() }));
    entries.push(file(paths.path(BUNDLED_PATH), 0o444, EntryContent::Text { text: bundled }));
    let source = WorkspaceSource {
        rust: locked.catalog.versions.rust.clone(),
        zig: locked.catalog.versions.zig.clone(),
        triple: target.triple.clone(),
        platform: Platform { os_version: None, ..target.platform.clone() },
    };
    LayerPlan {
        name: "migrate".into(),
        source: ProgramSource::Workspace(source),
        entries: sorted(entries),
    }
}

/// The paths of a platform's layers: a Windows layer has its files below `Files`, and programs
/// that end in `.exe`.
struct ImagePaths {
    is_windows: bool,
}

impl ImagePaths {
    fn of(target: &Target) -> Self {
        Self { is_windows: target.platform.is_windows() }
    }

    fn path(&self, path: &str) -> String {
        if self.is_windows { format!("{FILES}/{path}") } else { path.to_owned() }
    }

    fn program(&self, name: &str) -> String {
        self.path(&format!("{BIN}/{name}{}", if self.is_windows { ".exe" } else { "" }))
    }

    fn directory(&self, path: &str) -> EntryPlan {
        EntryPlan { path: self.path(path), mode: 0o755, content: EntryContent::Directory }
    }

    /// Folders, and before them the two root folders of a Windows layer.
    fn directories(&self, paths: &[&str]) -> Vec<EntryPlan> {
        let roots: &[&str] = if self.is_windows { &[FILES, HIVES] } else { &[] };
        let root = |path: &&str| EntryPlan {
            path: (*path).to_owned(),
            mode: 0o755,
            content: EntryContent::Directory,
        };
        roots.iter().map(root).chain(paths.iter().map(|path| self.directory(path))).collect()
    }
}

/// Directories, then files, then links, each sorted by path: a link comes after its target.
fn sorted(mut entries: Vec<EntryPlan>) -> Vec<EntryPlan> {
    let rank = |entry: &EntryPlan| match entry.content {
        EntryContent::Directory => 0,
        EntryContent::Program { .. } | EntryContent::Text { .. } => 1,
        EntryContent::HardLink { .. } => 2,
    };
    entries.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.path.cmp(&b.path)));
    entries
}

fn base(locked: &Locked, choice: &Choice, target: &Target) -> Result<BasePlan, PlanError> {
    let name = target.base.clone();
    if let Some(source) = choice.bases.get(&name) {
        return Ok(BasePlan { name, source: source.clone() });
    }
    let reference =
        locked.catalog.versions.bases.get(&name).ok_or_else(|| PlanError::NoBase(name.clone()))?;
    let lock = locked.lock.base(&name).and_then(|base| base.manifest(&target.platform));
    let digest = lock.expect("`Catalog::lock` wants one for every target");
    let source = BaseSource::Registry { reference: reference.clone(), digest };
    Ok(BasePlan { name, source })
}

/// `ETCD_UNSUPPORTED_ARCH`, if the last version (plain `etcd`) needs it on this platform.
fn environment(locked: &Locked, target: &Target) -> BTreeMap<String, String> {
    let last = locked.catalog.versions.tag.etcd.series();
    let is_unsupported = target.unsupported_arch.contains(&last);
    is_unsupported
        .then(|| ("ETCD_UNSUPPORTED_ARCH".to_owned(), target.goarch.clone()))
        .into_iter()
        .collect()
}

/// The labels of the config, which are also the annotations of the manifest.
fn labels(
    locked: &Locked,
    origin: Origin,
    base: &BasePlan,
    layers: &[LayerPlan],
) -> BTreeMap<String, String> {
    let versions = &locked.catalog.versions;
    let bundled: Vec<_> = versions.bundled.iter().map(|etcd| etcd.version.to_string()).collect();
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.title".to_owned(), "etcd".to_owned()),
        (
            "org.opencontainers.image.description".to_owned(),
            "etcd, and migrate to bring the data of older versions to it".to_owned(),
        ),
        ("org.opencontainers.image.version".to_owned(), versions.tag.to_string()),
        ("org.opencontainers.image.licenses".to_owned(), "Apache-2.0".to_owned()),
        ("org.opencontainers.image.vendor".to_owned(), "etcdimg".to_owned()),
        (BASE_LABEL.to_owned(), base.source.to_string()),
        ("dev.etcdimg.bundled-versions".to_owned(), bundled.join(",")),
        ("dev.etcdimg.format".to_owned(), FORMAT.to_string()),
        ("dev.etcdimg.origin".to_owned(), origin.as_str().to_owned()),
    ]);
    if let BaseSource::Registry { reference, digest } = &base.source {
        labels.insert("org.opencontainers.image.base.name".to_owned(), reference.clone());
        labels.insert("org.opencontainers.image.base.digest".to_owned(), digest.to_string());
    }
    for layer in layers {
        let key = |version: &dyn std::fmt::Display| format!("dev.etcdimg.etcd.{version}");
        match &layer.source {
            ProgramSource::Release(it) => labels.insert(
                key(&it.version),
                format!("commit {} go {} from {} {}", it.commit, it.go, it.file, it.digest),
            ),
            ProgramSource::Modules(it) => labels.insert(
                key(&it.version),
                format!("commit {} go {} from go.sum {}", it.commit, it.go, it.go_sum),
            ),
            ProgramSource::Workspace(it) => labels.insert(
                "dev.etcdimg.migrate".to_owned(),
                format!("{} rust {} zig {}", env!("CARGO_PKG_VERSION"), it.rust, it.zig),
            ),
        };
    }
    labels
}
