//! Compiles `migrate` by one run of buildx. `scripts/builder-toolchain` installs the same
//! parts in the builder that `cargo xtask cross` installs on a host.

use std::path::Path;

use super::super::buildx::{BuilderRun, CacheMount, Instruction};
use super::super::error::CompileError;
use super::super::options::{BuildxOptions, CompileOptions};
use super::super::recipe::{BUILDER_ROOT, BUILDER_WORK, Site};
use super::cargo::Cargo;
use super::compile_folder::{CompileFolder, recipe};
use super::cross::Cross;
use super::inputs::{SOURCES, other_manifests};
use super::wrapper;
use crate::plan::WorkspaceSource;

/// What installs the compilers in the builder.
const TOOLING: &[&str] = &["scripts/builder-toolchain", "crates/xtask/zig.txt", "versions.yaml"];

pub(in crate::compile) fn run(
    options: &CompileOptions,
    buildx: &BuildxOptions,
    source: &WorkspaceSource,
) -> Result<BuilderRun, CompileError> {
    let site = Site::builder(options, buildx);
    let work = Path::new(BUILDER_WORK);
    let folder = CompileFolder::in_builder(source);
    let wrapper = folder.wrapper_text(&work.join("rustup"), &work.join("cargo"));
    let cross = Cross::of_builder(&site, source);
    let target = folder.target.display().to_string();
    let folder_script = folder.shell(source);
    let cargo = Cargo { program: "cargo".into(), site, cross, folder, source };
    let cache = |id: String, folder: String| CacheMount { id, folder };
    let sources = [owned(SOURCES), other_manifests(options)?].concat();
    Ok(BuilderRun {
        what: format!("migrate for {}", source.platform),
        platform: source.platform.to_string(),
        log: format!("buildx-migrate-{}", source.triple),
        inputs: [owned(TOOLING), sources.clone()].concat(),
        written: Some((wrapper::NAME, wrapper)),
        fetch: fetch(&cargo, sources, folder_script),
        caches: vec![
            cache(format!("etcdimg-migrate-{}-{}", recipe(), source.triple), target),
            cache("etcdimg-zig".to_owned(), format!("{BUILDER_WORK}/zig")),
        ],
        recipes: vec![cargo.recipe()],
    })
}

fn fetch(cargo: &Cargo<'_>, sources: Vec<String>, folder_script: String) -> Vec<Instruction> {
    vec![
        Instruction::Env("PATH", format!("{BUILDER_WORK}/rust/bin:$PATH")),
        Instruction::Env("RUSTUP_HOME", format!("{BUILDER_WORK}/rustup")),
        Instruction::Copy(owned(TOOLING)),
        Instruction::Comment(
            "The compiler where the image has none, its library's sources, and zig.",
        ),
        Instruction::Shell(format!("{BUILDER_ROOT}/scripts/builder-toolchain {BUILDER_WORK}")),
        Instruction::Copy([sources, owned(&[wrapper::NAME])].concat()),
        Instruction::Shell(folder_script),
        Instruction::Comment("The crates of migrate, which Cargo.lock pins."),
        Instruction::Run(cargo.fetch()),
    ]
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}
