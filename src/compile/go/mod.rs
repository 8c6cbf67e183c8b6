//! Compiles the programs of one etcd version from its Go module below `sources/`.

mod command;
mod in_builder;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};

use super::error::CompileError;
use super::options::CompileOptions;
use super::scratch::{Scratch, log};
use super::{CompileContext, Compiled, buildx, host};
use crate::digest::Digest;
use crate::plan::ModulesSource;
use crate::store::Store;
use command::Go;

pub use toolchain::{go_host, toolchain_sum};

/// Part of the key of every compile: another number compiles everything again.
const RECIPE: &str = "go 1";

/// Compiles the programs of one version, or finds them in the store.
pub fn compile_etcd(
    context: &CompileContext<'_>,
    source: &ModulesSource,
) -> Result<Vec<Compiled>, CompileError> {
    let store = context.store;
    let key = key(source);
    if let Some(compiled) = cached(store, &key) {
        return Ok(compiled);
    }
    // A second process waits here, and then finds the programs in the store.
    let _guard = store.lock(&key.hex())?;
    if let Some(compiled) = cached(store, &key) {
        return Ok(compiled);
    }
    check_module(context.options, source)?;
    let compiled = match buildx::chosen(context) {
        None => compile_here(context, source)?,
        Some(options) => buildx::run(context, options, &in_builder::run(context, options, source))?,
    };
    // The compiler read it after the first check, and an editor may write in between.
    check_module(context.options, source)?;
    store.put_record("compile", &key, &compiled)?;
    Ok(compiled)
}

fn compile_here(
    context: &CompileContext<'_>,
    source: &ModulesSource,
) -> Result<Vec<Compiled>, CompileError> {
    let go = Go::here(context.options, source)?;
    toolchain::check(&go, context)?;
    let scratch = Scratch::new(&context.options.work)?;
    let compile = |(name, package): (&'static str, &str)| {
        host::run(context, &go.recipe(name, package, &scratch.path().join(name)))
    };
    programs(source).map(compile).collect()
}

/// Downloads the toolchain and the modules into Go's own cache, where Go enforces go.sum.
pub fn download_modules(
    context: &CompileContext<'_>,
    source: &ModulesSource,
) -> Result<(), CompileError> {
    check_module(context.options, source)?;
    let go = Go::here(context.options, source)?;
    toolchain::check(&go, context)?;
    let command = go.download();
    context.ui.command(command.to_string());
    let log = log(&context.options.work, &format!("go-mod-download-{}", source.version))?;
    let what = format!("etcd {}: its modules are missing", source.version);
    command.run(&log).map_err(context.options.failed(what))
}

fn cached(store: &Store, key: &Digest) -> Option<Vec<Compiled>> {
    let compiled: Vec<Compiled> = store.record("compile", key)?;
    compiled.iter().all(|program| store.has(&program.digest)).then_some(compiled)
}

/// The digest of everything that decides the bytes of the programs.
fn key(source: &ModulesSource) -> Digest {
    Digest::of(format!(
        "{RECIPE}\n{}\n{}\n{}\n{}\n{}\n{} {} {:?}\n",
        source.version,
        source.go,
        source.commit,
        source.go_mod,
        source.go_sum,
        source.goos,
        source.goarch,
        source.goarm
    ))
}

/// The module on disk must be the locked one.
fn check_module(options: &CompileOptions, source: &ModulesSource) -> Result<(), CompileError> {
    let folder = folder(&options.root, source);
    for (file, expected) in [("go.mod", source.go_mod), ("go.sum", source.go_sum)] {
        let path = folder.join(file);
        let received = Digest::of(fs::read(&path).map_err(CompileError::io(&path))?);
        if received != expected {
            return Err(CompileError::WrongModule {
                version: source.version.to_string(),
                file,
                expected: expected.to_string(),
                received: received.to_string(),
            });
        }
    }
    Ok(())
}

/// The folder of the module below a repository.
fn folder(root: &Path, source: &ModulesSource) -> PathBuf {
    root.join("sources").join(source.version.to_string())
}

/// As etcd's release build: stripped, and the commit in its version symbol.
fn linker_flags(source: &ModulesSource) -> String {
    etcd_version::release_linker_flags(&source.version, &source.commit[..7])
}

fn programs(source: &ModulesSource) -> impl Iterator<Item = (&'static str, &'static str)> {
    let version = &source.version;
    etcd_version::programs_of(version)
        .iter()
        .map(move |name| (*name, etcd_version::go_package(version, name)))
}
