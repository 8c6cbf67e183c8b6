//! What every command starts from: the global flags and the environment, and the values that are
//! made of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use super::access;
use crate::assemble::BuildContext;
use crate::catalog::{self, Catalog, Locked};
use crate::cli::{AccessArgs, BuilderKind, ChoiceArgs, CompileArgs, Format, Global, TrustArgs};
use crate::compile::{
    Builder, BuildxOptions, COMPILER_VARIABLES, CompileOptions, DOCKER_VARIABLES, Network,
};
use crate::failure::{Failure, Kind};
use crate::plan::{Choice, Plan, plan};
use crate::registry::Registries;
use crate::store::Store;
use crate::ui::{Ui, Verbosity};

/// What every command starts from: the global flags, and the environment, read once.
pub(super) struct Context {
    pub ui: Ui,
    pub format: Format,
    pub is_offline: bool,
    root: PathBuf,
    cache: PathBuf,
}

impl Context {
    pub(super) fn new(global: Global) -> Result<Self, Failure> {
        let verbosity = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        let absolute = |path: PathBuf| {
            std::path::absolute(path).map_err(|error| Failure::new(Kind::Io, error))
        };
        let cache = match global.cache_dir {
            Some(folder) => folder,
            None => default_cache()?,
        };
        Ok(Self {
            ui: Ui::new(verbosity, global.progress),
            format: global.format,
            is_offline: global.offline,
            root: absolute(global.directory)?,
            cache: absolute(cache)?,
        })
    }

    pub(super) fn root(&self) -> &std::path::Path {
        &self.root
    }

    pub(super) fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.cache)?)
    }

    /// The registries of a command that cannot work without them. A user that was named on the
    /// command line belongs to those of `names`.
    pub(super) fn registries(
        &self,
        arguments: &AccessArgs,
        names: &[&str],
    ) -> Result<Registries, Failure> {
        if self.is_offline {
            let text = "this command needs a registry, and --offline is set";
            return Err(Failure::new(Kind::Unavailable, text));
        }
        access::registries(self.store()?.root(), &self.ui, arguments, names)
    }

    pub(super) fn catalog(&self) -> Result<(Catalog, Option<String>), Failure> {
        Ok(catalog::load(&self.root)?)
    }

    /// The catalog, or `None` if there is no versions.yaml: a layout can be pushed from anywhere.
    pub(super) fn catalog_if_any(&self) -> Result<Option<Catalog>, Failure> {
        let is_there = self.root.join(catalog::VERSIONS_FILE).exists();
        is_there.then(|| Ok(self.catalog()?.0)).transpose()
    }

    /// The catalog with its lock. A missing or stale lock is an error.
    pub(super) fn locked(&self) -> Result<Locked, Failure> {
        let (catalog, lock) = self.catalog()?;
        let text = lock.ok_or_else(|| {
            Failure::new(Kind::Catalog, "there is no etcdimg.lock")
                .hint("run `etcdimg lock` to write it")
        })?;
        Ok(catalog.lock(&text)?)
    }

    pub(super) fn plan(&self, arguments: &ChoiceArgs) -> Result<(Locked, Plan), Failure> {
        let locked = self.locked()?;
        let plan = plan(&locked, &choice(arguments))?;
        Ok((locked, plan))
    }

    pub(super) fn compile_options(&self) -> CompileOptions {
        CompileOptions {
            root: self.root.clone(),
            work: self.cache.clone(),
            environment: environment(COMPILER_VARIABLES),
            network: if self.is_offline { Network::Forbidden } else { Network::Allowed },
            jobs: std::thread::available_parallelism().map_or(1, NonZero::get),
            at_once: None,
            builder: Builder::Host,
        }
    }

    /// The same with the builder that `--builder` chose.
    pub(super) fn chosen_compile_options(
        &self,
        locked: &Locked,
        arguments: &CompileArgs,
    ) -> Result<CompileOptions, Failure> {
        let options = self.compile_options();
        let image = arguments.builder_image.clone().or_else(|| locked.builder_image());
        let buildx = image.map(|image| BuildxOptions {
            image,
            name: arguments.buildx_builder.clone(),
            cache_to: arguments.cache_to.clone(),
            cache_from: arguments.cache_from.clone(),
            environment: environment(DOCKER_VARIABLES),
        });
        let builder = match (arguments.builder, buildx) {
            (BuilderKind::Host, _) | (BuilderKind::Auto, None) => Builder::Host,
            // buildx always downloads the inputs of a compile.
            (BuilderKind::Auto, _) if self.is_offline => Builder::Host,
            (BuilderKind::Auto, Some(buildx)) => Builder::Auto(buildx, Arc::default()),
            (BuilderKind::Buildx, Some(buildx)) => Builder::Buildx(buildx),
            (BuilderKind::Buildx, None) => {
                let why = "versions.yaml has no `builder` among its bases";
                return Err(Failure::new(Kind::Catalog, why)
                    .hint("give one with `--builder-image IMAGE@DIGEST`"));
            }
        };
        Ok(CompileOptions { builder, at_once: arguments.jobs.map(NonZero::get), ..options })
    }

    /// Calls `work` with everything that building needs.
    pub(super) fn with_build_context<T>(
        &self,
        locked: &Locked,
        trust: &TrustArgs,
        work: impl FnOnce(&BuildContext<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let bases = BaseOptions { is_sparse: false, trust };
        self.with_build_options(locked, &self.compile_options(), bases, work)
    }

    pub(super) fn with_build_options<T>(
        &self,
        locked: &Locked,
        compile: &CompileOptions,
        bases: BaseOptions<'_>,
        work: impl FnOnce(&BuildContext<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (store, fetch) = (self.store()?, access::fetch_options(bases.trust)?);
        let registries = access::base_registries(store.root(), &self.ui, &fetch);
        let runtime = runtime()?;
        work(&BuildContext {
            store: &store,
            compile,
            lock: &locked.lock,
            fetch: &fetch,
            registries: &registries,
            runtime: &runtime,
            is_offline: self.is_offline,
            is_sparse: bases.is_sparse,
            ui: &self.ui,
        })
    }

    /// Prints a value as JSON on standard output.
    pub(super) fn out_json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(Kind::Other, error))?;
        self.ui.out(text);
        Ok(())
    }
}

/// How base images are fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct BaseOptions<'a> {
    /// Layers of Windows bases stay in their registry.
    pub is_sparse: bool,
    pub trust: &'a TrustArgs,
}

/// The variables of our own environment with these names, if they are set.
fn environment(names: &[&str]) -> BTreeMap<String, OsString> {
    let variable = |name: &&str| Some(((*name).to_owned(), std::env::var_os(name)?));
    names.iter().filter_map(variable).collect()
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| Failure::new(Kind::Other, error))
}

fn default_cache() -> Result<PathBuf, Failure> {
    cache_dir::default_folder().ok_or_else(|| {
        Failure::new(
            Kind::Io,
            "neither HOME nor XDG_CACHE_HOME is set, so there is no cache folder",
        )
        .hint("give a folder with `--cache-dir`")
    })
}

/// The choice that the arguments make.
fn choice(arguments: &ChoiceArgs) -> Choice {
    let bases = arguments.base.iter().map(|base| (base.name.clone(), base.source.clone()));
    Choice {
        platforms: arguments.platforms(),
        origin: arguments.from,
        bases: bases.collect(),
        mirrors: arguments.mirror.clone(),
        compression: arguments.compression,
        epoch_seconds: arguments.source_date_epoch,
    }
}
