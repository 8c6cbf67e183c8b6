//! Compiles `migrate` from this repository: a static program, the same bytes on every machine.
//!
//! Cargo and rustc mix folders, flags and the clock into what they write. `compile_folder` and
//! `wrapper` keep them out; `cross` finds the standard library and the linker.

mod cargo;
mod compile_folder;
mod cross;
pub(super) mod in_builder;
mod inputs;
mod toolchain;
mod wrapper;

use std::fs::File;

use super::error::CompileError;
use super::options::CompileOptions;
use super::recipe::Site;
use super::scratch::log;
use super::{CompileContext, Compiled, buildx, host};
use crate::digest::Digest;
use crate::plan::WorkspaceSource;
use crate::store::Store;
use crate::ui::Ui;
use cargo::Cargo;
use compile_folder::CompileFolder;
use cross::Cross;
use inputs::key;

/// Part of the key of every compile and of the names of build folders: another number compiles
/// everything again, in an empty build folder. (Cargo does not notice that the wrapper changed,
/// and would mix what both have made.)
const RECIPE: &str = "rust 6";

/// Compiles `migrate`, or finds it in the store.
pub fn compile_migrate(
    context: &CompileContext<'_>,
    source: &WorkspaceSource,
) -> Result<Compiled, CompileError> {
    let store = context.store;
    // The key of the exact compilers that versions.yaml names. It is looked up first, so that a
    // build which compiles nothing does not have to search for compilers.
    let usual = key(context.options, source, "")?;
    if let Some(compiled) = cached(store, &usual) {
        return Ok(compiled);
    }
    let Some(buildx) = buildx::chosen(context) else {
        return compile_here(context, source, usual);
    };
    let _guard = store.lock(&usual.hex())?;
    if let Some(compiled) = cached(store, &usual) {
        return Ok(compiled);
    }
    let run = in_builder::run(context.options, buildx, source)?;
    let compiled = buildx::run(context, buildx, &run)?;
    let compiled = compiled.into_iter().next().ok_or(CompileError::NoOutput { what: run.what })?;
    same_sources(&usual, key(context.options, source, "")?)?;
    store.put_record("compile", &usual, &compiled)?;
    Ok(compiled)
}

fn compile_here(
    context: &CompileContext<'_>,
    source: &WorkspaceSource,
    usual: Digest,
) -> Result<Compiled, CompileError> {
    let CompileContext { store, ui, .. } = *context;
    let options = &toolchain::pinned(context.options, source);
    let cross = Cross::find(options, source, || toolchain::sysroot(options, source))?;
    let is_particular = cross.is_particular(source);
    let instead = if is_particular { cross.identity()? } else { String::new() };
    let key_now = || key(options, source, &instead);
    let key = if is_particular { key_now()? } else { usual };
    let _guard = lock_folder(store, source)?;
    if let Some(compiled) = cached(store, &key) {
        return Ok(compiled);
    }
    toolchain::check(options, source)?;
    if is_particular {
        warn(ui, source);
    }
    let cargo = cargo_here(options, source, cross)?;
    let compiled = host::run(context, &cargo.recipe())?;
    same_sources(&key, key_now()?)?;
    store.put_record("compile", &key, &compiled)?;
    Ok(compiled)
}

/// Compilers read the sources after the key was made of them, and an editor may write in between.
fn same_sources(before: &Digest, after: Digest) -> Result<(), CompileError> {
    if *before == after { Ok(()) } else { Err(CompileError::SourcesChanged { what: "migrate" }) }
}

/// One build folder for each triple, so that the standard library is compiled once. It has links
/// to the checkout that is compiled.
fn lock_folder(store: &Store, source: &WorkspaceSource) -> Result<File, CompileError> {
    Ok(store.lock(&format!("migrate-{}", source.triple))?)
}

fn cached(store: &Store, key: &Digest) -> Option<Compiled> {
    store.record::<Compiled>("compile", key).filter(|it| store.has(&it.digest))
}

fn warn(ui: &Ui, source: &WorkspaceSource) {
    ui.warning(format!(
        "migrate for {} is not compiled from rust-src and linked by zig {}: another machine may \
         make other bytes of it",
        source.triple, source.zig
    ));
}

/// Downloads the crates of `migrate` into cargo's own cache, and those of the standard library,
/// if that is compiled, too.
pub fn download_crates(
    context: &CompileContext<'_>,
    source: &WorkspaceSource,
) -> Result<(), CompileError> {
    let options = &toolchain::pinned(context.options, source);
    let cross = Cross::find(options, source, || toolchain::sysroot(options, source))?;
    let _guard = lock_folder(context.store, source)?;
    let command = cargo_here(options, source, cross)?.fetch();
    context.ui.command(command.to_string());
    let log = log(&options.work, "cargo-fetch")?;
    command.run(&log).map_err(options.failed("migrate: its crates are missing"))
}

/// Cargo of this machine, with its folder on disk.
fn cargo_here<'a>(
    options: &CompileOptions,
    source: &'a WorkspaceSource,
    cross: Cross,
) -> Result<Cargo<'a>, CompileError> {
    let folder = CompileFolder::at(&options.work, source);
    folder.write(options, &cross)?;
    Ok(Cargo { program: options.find("cargo")?, site: Site::host(options), cross, folder, source })
}
