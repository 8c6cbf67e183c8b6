//! Plans one image: its layers, files, environment and labels.

use std::collections::BTreeMap;

use contract::labels::{self, standard};
use contract::paths::{
    BIN, BUNDLED_PATH, DIRECTORY_MODE, FACTS_PATH, FILE_MODE, MIGRATE, PROGRAM_MODE, SHARE,
    WINDOWS_BIN,
};
use contract::{EtcdOrigin, EtcdSource, LayerName, MigrateOrigin, PathStyle};
use etcd_version::{Bundled, EtcdVersion, facts};

use super::{
    BasePlan, BaseSource, Choice, EntryContent, EntryPlan, ImagePlan, LayerPlan, ModulesSource,
    PlanError, ProgramSource, ReleaseSource, WorkspaceSource,
};
use crate::catalog::{BundledEtcd, Locked, Origin, Target, release_file};
use crate::layer::format::FORMAT;
use crate::platform::Platform;

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
            name: LayerName::Etcd(etcd.version.clone()).to_string(),
            source,
            entries: etcd_entries(target, etcd, is_last),
        });
    }
    // Last, because it changes most often: the etcd layers keep their digests.
    layers.push(migrate(locked, target));
    let base = base(locked, choice, target)?;
    let labels = labels_of(locked, origin, &base, &layers);
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
    let lock =
        locked.lock.release(&file).ok_or_else(|| PlanError::UnlockedRelease(file.clone()))?;
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
    let root = PathStyle::of(&target.platform);
    let versioned = |name: &str| root.program(&format!("{name}-{}", etcd.version));
    let mut entries = directories(root, &["usr", "usr/local", BIN]);
    for name in etcd.programs() {
        let content = EntryContent::Program { name: (*name).to_owned() };
        entries.push(EntryPlan { path: versioned(name), mode: PROGRAM_MODE, content });
    }
    if is_last {
        for name in etcd.programs() {
            let content = EntryContent::HardLink { to: versioned(name) };
            entries.push(EntryPlan { path: root.program(name), mode: PROGRAM_MODE, content });
        }
    }
    sorted(entries)
}

fn migrate(locked: &Locked, target: &Target) -> LayerPlan {
    let versions = locked.catalog.versions.bundled.iter().map(|etcd| etcd.version.clone());
    let bundled = Bundled::new(versions.collect()).to_string();
    let root = PathStyle::of(&target.platform);
    let file = |path: String, mode, content| EntryPlan { path, mode, content };
    let mut entries = directories(root, &["usr", "usr/local", BIN, "usr/local/share", SHARE]);
    let text = if root.is_windows() { WINDOWS_WRAPPER } else { WRAPPER };
    let wrapper = root.path(&format!("{BIN}/{}", root.wrapper()));
    let program = root.program(MIGRATE);
    if root.is_windows() {
        entries.push(directory(root.path(WINDOWS_BIN)));
        for to in [&program, &wrapper] {
            let path = to.replacen(BIN, WINDOWS_BIN, 1);
            entries.push(file(path, PROGRAM_MODE, EntryContent::HardLink { to: to.clone() }));
        }
    }
    entries.push(file(program, PROGRAM_MODE, EntryContent::Program { name: MIGRATE.into() }));
    entries.push(file(wrapper, PROGRAM_MODE, EntryContent::Text { text: text.into() }));
    entries.push(file(root.path(BUNDLED_PATH), FILE_MODE, EntryContent::Text { text: bundled }));
    let facts = EntryContent::Text { text: facts::TEXT.into() };
    entries.push(file(root.path(FACTS_PATH), FILE_MODE, facts));
    let source = WorkspaceSource {
        rust: locked.catalog.versions.rust.clone(),
        zig: locked.catalog.versions.zig.clone(),
        triple: target.triple.clone(),
        platform: Platform { os_version: None, ..target.platform.clone() },
    };
    LayerPlan {
        name: LayerName::Migrate.to_string(),
        source: ProgramSource::Workspace(source),
        entries: sorted(entries),
    }
}

fn directory(path: String) -> EntryPlan {
    EntryPlan { path, mode: DIRECTORY_MODE, content: EntryContent::Directory }
}

/// Folders, and before them the two root folders of a Windows layer.
fn directories(root: PathStyle, paths: &[&str]) -> Vec<EntryPlan> {
    let roots = root.roots().iter().map(|path| (*path).to_owned());
    roots.chain(paths.iter().map(|path| root.path(path))).map(directory).collect()
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
    let reference = locked
        .catalog
        .versions
        .bases
        .get(&name)
        .ok_or_else(|| PlanError::UnknownBase(name.clone()))?;
    let lock = locked.lock.base(&name).and_then(|base| base.manifest(&target.platform));
    let digest = lock.expect("`Catalog::lock` wants one for every target");
    let source = BaseSource::Registry { reference: reference.clone(), digest };
    Ok(BasePlan { name, source })
}

/// `ETCD_UNSUPPORTED_ARCH`, if the last version (plain `etcd`) needs it on this platform.
fn environment(locked: &Locked, target: &Target) -> BTreeMap<String, String> {
    let last = locked.catalog.versions.tag.etcd.series().to_string();
    let is_unsupported = target.unsupported_arch.contains(&last);
    is_unsupported
        .then(|| (contract::run::UNSUPPORTED_ARCH.to_owned(), target.goarch.clone()))
        .into_iter()
        .collect()
}

/// The labels of the config, which are also the annotations of the manifest.
fn labels_of(
    locked: &Locked,
    origin: Origin,
    base: &BasePlan,
    layers: &[LayerPlan],
) -> BTreeMap<String, String> {
    let versions = &locked.catalog.versions;
    let bundled = labels::bundled_value(versions.bundled.iter().map(|etcd| &etcd.version));
    let mut all = BTreeMap::new();
    let mut add = |name: &str, value: String| all.insert(name.to_owned(), value);
    add(standard::TITLE, "etcd".to_owned());
    let description = "etcd, and migrate to bring the data of older versions to it";
    add(standard::DESCRIPTION, description.to_owned());
    add(standard::VERSION, versions.tag.to_string());
    add(standard::LICENSES, "Apache-2.0".to_owned());
    add(standard::VENDOR, "etcdimg".to_owned());
    add(labels::BASE, base.source.to_string());
    add(labels::BUNDLED_VERSIONS, bundled);
    add(labels::FORMAT, FORMAT.to_string());
    add(labels::ORIGIN, origin.as_str().to_owned());
    if let BaseSource::Registry { reference, digest } = &base.source {
        add(standard::BASE_NAME, reference.clone());
        add(standard::BASE_DIGEST, digest.to_string());
    }
    for layer in layers {
        let (name, value) = source_label(&layer.source);
        add(&name, value);
    }
    all
}

/// The label that says what the programs of a layer are made of.
fn source_label(source: &ProgramSource) -> (String, String) {
    let etcd = |version: &EtcdVersion, commit: &String, go: &String, source: EtcdSource| {
        let origin = EtcdOrigin { commit: commit.clone(), go: go.clone(), source };
        (labels::etcd(version), origin.to_string())
    };
    match source {
        ProgramSource::Release(it) => {
            let source = EtcdSource::Release { file: it.file.clone(), digest: it.digest };
            etcd(&it.version, &it.commit, &it.go, source)
        }
        ProgramSource::Modules(it) => {
            let source = EtcdSource::Modules { go_sum: it.go_sum };
            etcd(&it.version, &it.commit, &it.go, source)
        }
        ProgramSource::Workspace(it) => {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            let (rust, zig) = (it.rust.clone(), it.zig.clone());
            (labels::MIGRATE.to_owned(), MigrateOrigin { version, rust, zig }.to_string())
        }
    }
}
