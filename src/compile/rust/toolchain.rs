//! The Rust of this machine: its release decides the bytes of `migrate`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::super::error::CompileError;
use super::super::options::CompileOptions;
use crate::plan::WorkspaceSource;
use crate::process::Invocation;

/// The variable by which rustup chooses a toolchain.
const RUSTUP_TOOLCHAIN: &str = "RUSTUP_TOOLCHAIN";

/// The options with which rustup uses the release of versions.yaml. Everything is compiled in the
/// cache, where rustup does not see rust-toolchain.toml. The environment stays as it is where the
/// user chose a toolchain, and where rustup does not have this one: it is not downloaded.
pub(super) fn pinned(options: &CompileOptions, source: &WorkspaceSource) -> CompileOptions {
    let mut options = options.clone();
    if !options.environment.contains_key(RUSTUP_TOOLCHAIN) && is_installed(&options, source) {
        options.environment.insert(RUSTUP_TOOLCHAIN.to_owned(), OsString::from(&source.rust));
    }
    options
}

/// Whether rustup has the release of versions.yaml.
fn is_installed(options: &CompileOptions, source: &WorkspaceSource) -> bool {
    let Ok(rustup) = options.find("rustup") else { return false };
    let arguments = ["run", &source.rust, "rustc", "--version"];
    let mut command = invocation(options, rustup, &arguments);
    command.environment.insert("RUSTUP_AUTO_INSTALL".to_owned(), "0".into());
    command.output().is_ok_and(|printed| release(&printed) == source.rust)
}

/// The folder of the toolchain.
pub(super) fn sysroot(
    options: &CompileOptions,
    source: &WorkspaceSource,
) -> Result<PathBuf, CompileError> {
    let command = rustc(options, &["--print", "sysroot"])?;
    let what = format!("migrate: there is no Rust {}", source.rust);
    let printed = command.output().map_err(CompileError::process(what))?;
    Ok(printed.trim().into())
}

/// The compiler must be of the release that versions.yaml names.
pub(super) fn check(
    options: &CompileOptions,
    source: &WorkspaceSource,
) -> Result<(), CompileError> {
    let command = rustc(options, &["--version"])?;
    let what = "migrate: there is no Rust compiler";
    let printed = command.output().map_err(CompileError::process(what))?;
    let received = release(&printed);
    if received == source.rust {
        return Ok(());
    }
    Err(CompileError::WrongRust { expected: source.rust.clone(), received: received.to_owned() })
}

/// The second word of `rustc 1.95.0 (59807616e 2026-04-14)`.
fn release(printed: &str) -> &str {
    printed.split_whitespace().nth(1).unwrap_or_default()
}

fn rustc(options: &CompileOptions, arguments: &[&str]) -> Result<Invocation, CompileError> {
    Ok(invocation(options, options.find("rustc")?, arguments))
}

fn invocation(options: &CompileOptions, program: PathBuf, arguments: &[&str]) -> Invocation {
    Invocation {
        program,
        arguments: arguments.iter().map(OsString::from).collect(),
        folder: options.work.clone(),
        passed_on: options.environment.clone(),
        environment: BTreeMap::new(),
    }
}
