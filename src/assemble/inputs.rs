use std::collections::BTreeSet;

use super::{BuildError, Workshop, means, parallel};
use crate::base;
use crate::compile::{self, CompileOptions, Compiled};
use crate::digest::Digest;
use crate::fetch::{self, Wanted};
use crate::plan::{Plan, ReleaseSource, Source};

/// The programs of one layer: all in one archive, or each a file.
#[derive(Clone, Debug)]
pub(super) enum Programs {
    Archive(ReleaseSource),
    Files(Vec<Compiled>),
}

impl Programs {
    /// What decides the bytes of the programs.
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

/// The programs of every layer of the plan, in its order. What has to be compiled is compiled,
/// several at once; archives are not fetched yet.
pub(super) fn all_programs(
    plan: &Plan,
    workshop: &Workshop<'_>,
) -> Result<Vec<Programs>, BuildError> {
    let layers: Vec<_> = plan.images.iter().flat_map(|image| &image.layers).collect();
    let mut unique: Vec<&Source> = Vec::new();
    for layer in &layers {
        if !unique.contains(&&layer.source) {
            unique.push(&layer.source);
        }
    }
    let CompileOptions { jobs: n_cores, at_once, .. } = *workshop.compile;
    let made = parallel::each(&unique, n_cores, at_once, |source, jobs| {
        let compile = CompileOptions { jobs, ..workshop.compile.clone() };
        programs(&Workshop { compile: &compile, ..*workshop }, source)
    })?;
    let of = |source: &Source| unique.iter().position(|known| *known == source);
    Ok(layers.iter().filter_map(|layer| Some(made[of(&layer.source)?].clone())).collect())
}

fn programs(workshop: &Workshop<'_>, source: &Source) -> Result<Programs, BuildError> {
    let context = workshop.compile();
    Ok(match source {
        Source::Release(release) => Programs::Archive(release.clone()),
        Source::Modules(source) => Programs::Files(compile::compile_etcd(&context, source)?),
        Source::Workspace(source) => {
            Programs::Files(vec![compile::compile_migrate(&context, source)?])
        }
    })
}

/// Fetches the archives that the store lacks.
pub(super) fn fetch_archives<'a>(
    workshop: &Workshop<'_>,
    releases: impl Iterator<Item = &'a ReleaseSource>,
) -> Result<(), BuildError> {
    let mut seen: BTreeSet<Digest> = BTreeSet::new();
    let missing = releases.filter(|it| !workshop.store.has(&it.digest) && seen.insert(it.digest));
    let wanted: Vec<_> = missing.map(wanted).collect();
    if let Some(first) = wanted.first().filter(|_| workshop.is_offline) {
        return Err(BuildError::Offline(first.name.clone()));
    }
    if !wanted.is_empty() {
        let fetching = fetch::fetch(workshop.store, &wanted, workshop.fetch, workshop.ui);
        workshop.runtime.block_on(fetching)?;
    }
    Ok(())
}

fn wanted(release: &ReleaseSource) -> Wanted {
    Wanted {
        name: release.file.clone(),
        urls: release.urls.clone(),
        digest: release.digest,
        size: release.size,
    }
}

/// Brings the release archives of the plan into the cache.
pub fn fetch_releases(plan: &Plan, workshop: &Workshop<'_>) -> Result<(), BuildError> {
    let releases = sources(plan).filter_map(|source| match source {
        Source::Release(release) => Some(release),
        Source::Modules(_) | Source::Workspace(_) => None,
    });
    fetch_archives(workshop, releases)
}

/// Brings Go modules, Go toolchains and crates into the caches of Go and cargo.
pub fn fetch_modules(plan: &Plan, workshop: &Workshop<'_>) -> Result<(), BuildError> {
    let context = workshop.compile();
    sources(plan).try_for_each(|source| match source {
        Source::Modules(source) => Ok(compile::download_modules(&context, source)?),
        Source::Workspace(source) => Ok(compile::download_crates(&context, source)?),
        Source::Release(_) => Ok(()),
    })
}

/// Brings the bases of the plan into the cache.
pub fn fetch_bases(plan: &Plan, workshop: &Workshop<'_>) -> Result<(), BuildError> {
    plan.images.iter().try_for_each(|image| {
        base::resolve(&means(plan, workshop), &image.base.source, &image.platform)?;
        Ok(())
    })
}

fn sources(plan: &Plan) -> impl Iterator<Item = &Source> {
    plan.images.iter().flat_map(|image| &image.layers).map(|layer| &layer.source)
}
