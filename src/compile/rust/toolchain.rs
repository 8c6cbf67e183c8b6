//! The Rust of this machine: its release decides the bytes of `migrate`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::super::error::CompileError;
use super::super::options::CompileOptions;
use crate::plan::WorkspaceSource;
use crate::process::Invocation;

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
    let received = printed.split_whitespace().nth(1).unwrap_or_default();
    if received == source.rust {
        return Ok(());
    }
    Err(CompileError::WrongRust { expected: source.rust.clone(), received: received.to_owned() })
}

fn rustc(options: &CompileOptions, arguments: &[&str]) -> Result<Invocation, CompileError> {
    Ok(Invocation {
        program: options.find("rustc")?,
        arguments: arguments.iter().map(OsString::from).collect(),
        folder: options.work.clone(),
        passed_on: options.environment.clone(),
        environment: BTreeMap::new(),
    })
}
