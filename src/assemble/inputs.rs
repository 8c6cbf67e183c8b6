//! The programs of a plan: downloads archives and compiles what has to be compiled.

use std::collections::BTreeSet;

use super::{BuildContext, BuildError, fetch_context, parallel};
use crate::base;
use crate::compile::{self, CompileOptions, Compiled};
use crate::digest::Digest;
use crate::fetch::{self, PinnedFile};
use crate::plan::{Plan, ProgramSource, ReleaseSource};

/// The programs of one layer: in a release archive, or one file in the store for each.
#[derive(Clone, Debug)]
pub(super) enum Programs {
    Archive(ReleaseSource),
    Files(Vec<Compiled>),
}

impl Programs {
    /// Digests of everything that decides the bytes of the programs.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Archive(release) => release.digest.to_string(),
            Self::Files(files) => files
                .iter()
                .map(|file| format!("{} {}", file.name, file.digest))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

/// The programs of every layer, in the order of the plan. Compiles what has to be compiled, several
/// at once; does not download archives.
pub(super) fn all_programs(
    plan: &Plan,
    context: &BuildContext<'_>,
) -> Result<Vec<Programs>, BuildError> {
    let layers: Vec<_> = plan.images.iter().flat_map(|image| &image.layers).collect();
    let mut unique: Vec<&ProgramSource> = Vec::new();
    for layer in &layers {
        if !unique.contains(&&layer.source) {
            unique.push(&layer.source);
        }
    }
    let CompileOptions { jobs: n_cores, at_once, .. } = *context.compile;
    let shares = parallel::share(unique.len(), n_cores, at_once);
    let compile = CompileOptions { jobs: shares.jobs_each, ..context.compile.clone() };
    let context = BuildContext { compile: &compile, ..*context };
    let made = parallel::each(&unique, shares.n_workers, |source| programs(&context, source))?;
    let of = |source: &ProgramSource| unique.iter().position(|known| *known == source);
    Ok(layers.iter().filter_map(|layer| Some(made[of(&layer.source)?].clone())).collect())
}

fn programs(context: &BuildContext<'_>, source: &ProgramSource) -> Result<Programs, BuildError> {
    let context = context.compile();
    Ok(match source {
        ProgramSource::Release(release) => Programs::Archive(release.clone()),
        ProgramSource::Modules(source) => Programs::Files(compile::compile_etcd(&context, source)?),
        ProgramSource::Workspace(source) => {
            Programs::Files(vec![compile::compile_migrate(&context, source)?])
        }
    })
}

/// Downloads the archives that the store does not have.
pub(super) fn fetch_archives<'a>(
    context: &BuildContext<'_>,
    releases: impl Iterator<Item = &'a ReleaseSource>,
) -> Result<(), BuildError> {
    let mut seen: BTreeSet<Digest> = BTreeSet::new();
    let missing = releases.filter(|it| !context.store.has(&it.digest) && seen.insert(it.digest));
    let wanted: Vec<_> = missing.map(wanted).collect();
    if let Some(first) = wanted.first().filter(|_| context.is_offline) {
        return Err(BuildError::Offline(first.name.clone()));
    }
    if !wanted.is_empty() {
        let fetching = fetch::fetch(context.store, &wanted, context.fetch, context.ui);
        context.runtime.block_on(fetching)?;
    }
    Ok(())
}

fn wanted(release: &ReleaseSource) -> PinnedFile {
    PinnedFile {
        name: release.file.clone(),
        urls: release.urls.clone(),
        digest: release.digest,
        size: release.size,
    }
}

/// Downloads the release archives of the plan into the cache.
pub fn fetch_releases(plan: &Plan, context: &BuildContext<'_>) -> Result<(), BuildError> {
    let releases = sources(plan).filter_map(|source| match source {
        ProgramSource::Release(release) => Some(release),
        ProgramSource::Modules(_) | ProgramSource::Workspace(_) => None,
    });
    fetch_archives(context, releases)
}

/// Downloads Go modules, Go toolchains and crates into the caches of Go and cargo.
pub fn fetch_modules(plan: &Plan, context: &BuildContext<'_>) -> Result<(), BuildError> {
    let context = context.compile();
    sources(plan).try_for_each(|source| match source {
        ProgramSource::Modules(source) => Ok(compile::download_modules(&context, source)?),
        ProgramSource::Workspace(source) => Ok(compile::download_crates(&context, source)?),
        ProgramSource::Release(_) => Ok(()),
    })
}

/// Downloads the base images of the plan into the cache.
pub fn fetch_bases(plan: &Plan, context: &BuildContext<'_>) -> Result<(), BuildError> {
    plan.images.iter().try_for_each(|image| {
        base::resolve(&fetch_context(plan, context), &image.base.source, &image.platform)?;
        Ok(())
    })
}

fn sources(plan: &Plan) -> impl Iterator<Item = &ProgramSource> {
    plan.images.iter().flat_map(|image| &image.layers).map(|layer| &layer.source)
}
