//! What decides the bytes of `migrate`: its sources and its compilers.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::super::error::CompileError;
use super::super::options::CompileOptions;
use super::RECIPE;
use crate::digest::Digest;
use crate::plan::WorkspaceSource;

/// The sources of `migrate`, below the root of the repository.
pub(super) const SOURCES: &[&str] =
    &["Cargo.lock", "Cargo.toml", "crates/etcd-version", "crates/migrate"];

/// The manifests of the other crates of the workspace, below the root of the repository. They
/// decide no byte, but cargo reads every manifest of a workspace.
pub(super) fn other_manifests(options: &CompileOptions) -> Result<Vec<String>, CompileError> {
    let folder = options.root.join("crates");
    let entries = fs::read_dir(&folder).map_err(CompileError::io(&folder))?;
    let mut manifests = Vec::new();
    for entry in entries {
        let name = entry.map_err(CompileError::io(&folder))?.file_name();
        let path = format!("crates/{}", name.to_string_lossy());
        let manifest = format!("{path}/Cargo.toml");
        if !SOURCES.contains(&path.as_str()) && options.root.join(&manifest).is_file() {
            manifests.push(manifest);
        }
    }
    manifests.sort();
    Ok(manifests)
}

/// The digest of everything that decides the bytes: the sources, and the releases of the
/// compiler, its standard library and the linker. `instead` describes those that are used in
/// place of the ones of versions.yaml.
pub(super) fn key(
    options: &CompileOptions,
    source: &WorkspaceSource,
    instead: &str,
) -> Result<Digest, CompileError> {
    let WorkspaceSource { rust, zig, triple, .. } = source;
    let mut text = format!("{RECIPE}\n{rust} {zig} {triple}\n{instead}");
    for path in SOURCES {
        add(&mut text, &options.root, Path::new(path))?;
    }
    Ok(Digest::of(text))
}

/// Adds the names and digests of all files below a path, in order.
fn add(text: &mut String, root: &Path, path: &Path) -> Result<(), CompileError> {
    let full = root.join(path);
    if full.is_file() {
        let digest = Digest::of(fs::read(&full).map_err(CompileError::io(&full))?);
        let _ = writeln!(text, "{} {digest}", path.display());
        return Ok(());
    }
    let entries = fs::read_dir(&full).map_err(CompileError::io(&full))?;
    let mut names = entries
        .map(|entry| entry.map(|it| it.file_name()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(CompileError::io(&full))?;
    names.sort();
    names.iter().try_for_each(|name| add(text, root, &path.join(name)))
}
