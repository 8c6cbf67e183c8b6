//! Executes recipes with `docker buildx build`: in a builder image that is pinned by its digest,
//! by the engine of this machine or by whatever builder `--buildx-builder` names.
//!
//! The compilers are called with the same arguments and environment as on the host, only in
//! other folders, so both make the same bytes.

mod context;
mod dockerfile;
mod progress;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::CompileError;
use super::options::{Builder, BuildxOptions, CompileOptions, Network};
use super::recipe::Recipe;
use super::scratch::{Scratch, keep, log};
use super::{CompileContext, Compiled};
use crate::process::Invocation;

pub(super) use dockerfile::{CacheMount, Instruction};
pub use progress::ProgressLog;

/// One run of buildx: recipes, and what has to be in the builder before them.
#[derive(Debug)]
pub(super) struct BuilderRun {
    /// For people: `etcd 3.7.1 for linux/arm/v7`.
    pub what: String,
    /// `linux/arm/v7`
    pub platform: String,
    /// The name of the log, without folder and extension.
    pub log: String,
    /// Paths of the repository that the instructions copy.
    pub inputs: Vec<String>,
    /// Name and text of a file that the instructions copy and the repository does not have.
    pub written: Option<(&'static str, String)>,
    /// Downloads everything; the only stage with a network.
    pub fetch: Vec<Instruction>,
    /// Folders that stay between builds.
    pub caches: Vec<CacheMount>,
    pub recipes: Vec<Recipe>,
}

/// buildx, if this build compiles with it.
pub(super) fn chosen<'a>(context: &CompileContext<'a>) -> Option<&'a BuildxOptions> {
    match &context.options.builder {
        Builder::Host => None,
        Builder::Buildx(buildx) => Some(buildx),
        Builder::Auto(buildx, is_usable) => {
            let is_usable = *is_usable.get_or_init(|| {
                let is_usable = is_usable_here(buildx, context.options);
                let who = if is_usable { "docker buildx" } else { "this machine's toolchains" };
                context.ui.note(format!("compiling with {who}; `--builder` chooses"));
                is_usable
            });
            is_usable.then_some(buildx)
        }
    }
}

/// Builds the Dockerfile of a run and puts the programs into the store, in the order of the
/// recipes.
pub(super) fn run(
    context: &CompileContext<'_>,
    buildx: &BuildxOptions,
    run: &BuilderRun,
) -> Result<Vec<Compiled>, CompileError> {
    let options = context.options;
    if options.network == Network::Forbidden {
        return Err(CompileError::OfflineBuildx { what: run.what.clone() });
    }
    let scratch = Scratch::new(&options.work)?;
    let folders = context::ContextFolders::write(options, buildx, run, scratch.path())?;
    let command = build_command(options, buildx, &run.platform, &folders)?;
    context.ui.command(command.to_string());
    let log = log(&options.work, &run.log)?;
    let mut progress = progress::ProgressLog::new(&log, &run.what, context.ui);
    let ended = command.run_lines(&log, |line| progress.line(line));
    progress.finish().map_err(CompileError::io(&log))?;
    ended.map_err(|error| options.failed(&run.what)(error.with_tail_of_log()))?;
    let keep = |recipe: &Recipe| keep(context, recipe, &folders.out.join(recipe.program));
    run.recipes.iter().map(keep).collect()
}

fn build_command(
    options: &CompileOptions,
    buildx: &BuildxOptions,
    platform: &str,
    folders: &context::ContextFolders,
) -> Result<Invocation, CompileError> {
    let mut arguments: Vec<OsString> =
        ["buildx", "build", "--provenance=false", "--sbom=false", "--progress=rawjson"]
            .map(OsString::from)
            .into();
    let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}").into());
    buildx.name.iter().for_each(|name| flag("builder", name));
    buildx.cache_from.iter().for_each(|cache| flag("cache-from", cache));
    buildx.cache_to.iter().for_each(|cache| flag("cache-to", cache));
    flag("platform", platform);
    flag("file", &folders.dockerfile.to_string_lossy());
    flag("output", &format!("type=local,dest={}", folders.out.display()));
    arguments.push(folders.context.clone().into());
    docker(options, buildx, arguments, &options.work)
}

/// Whether an engine or builder answers, and has the builder image or can get it.
fn is_usable_here(buildx: &BuildxOptions, options: &CompileOptions) -> bool {
    let succeeds = |arguments: &[&str]| {
        let arguments = arguments.iter().map(OsString::from).collect();
        docker(options, buildx, arguments, &options.root)
            .is_ok_and(|command| command.output().is_ok())
    };
    let answers = match &buildx.name {
        Some(name) => succeeds(&["buildx", "inspect", name]),
        None => succeeds(&["version"]) && succeeds(&["buildx", "version"]),
    };
    answers
        && (succeeds(&["image", "inspect", &buildx.image])
            || succeeds(&["buildx", "imagetools", "inspect", "--raw", &buildx.image]))
}

fn docker(
    options: &CompileOptions,
    buildx: &BuildxOptions,
    arguments: Vec<OsString>,
    folder: &Path,
) -> Result<Invocation, CompileError> {
    let inherited = options.environment.clone().into_iter().chain(buildx.environment.clone());
    Ok(Invocation {
        program: options.find("docker")?,
        arguments,
        folder: folder.to_owned(),
        passed_on: inherited.collect(),
        environment: BTreeMap::new(),
    })
}

/// Where a program is in the last stage of the Dockerfile.
pub(super) fn out(program: &str) -> PathBuf {
    Path::new("/out").join(program)
}
