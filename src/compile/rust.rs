use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::Compiled;
use super::tool::{CompileError, Network, Toolchains, keep};
use crate::digest::Digest;
use crate::plan::WorkspaceSource;
use crate::process::Invocation;
use crate::store::Store;
use crate::ui::Ui;

const RECIPE: &str = "rust 1";

/// What `migrate` is made of, below the root of the repository.
const INPUTS: &[&str] = &["Cargo.lock", "Cargo.toml", "crates/etcd-version", "crates/migrate"];

/// Compiles `migrate`, static, or finds it in the store.
pub fn compile_migrate(
    store: &Store,
    tools: &Toolchains,
    source: &WorkspaceSource,
    ui: &Ui,
) -> Result<Compiled, CompileError> {
    let key = key(tools, source)?;
    let cached = || store.record::<Compiled>("compile", &key).filter(|it| store.has(&it.digest));
    if let Some(compiled) = cached() {
        return Ok(compiled);
    }
    let _guard = store.lock(&key.hex())?;
    if let Some(compiled) = cached() {
        return Ok(compiled);
    }
    check_rust(tools, source)?;
    let compiled = compile(store, tools, source, ui)?;
    store.put_record("compile", &key, &compiled)?;
    Ok(compiled)
}

/// Brings the crates that `migrate` is made of into cargo's own cache.
pub fn download_crates(
    tools: &Toolchains,
    source: &WorkspaceSource,
    ui: &Ui,
) -> Result<(), CompileError> {
    let arguments = ["fetch", "--locked", "--target", &source.triple].map(OsString::from);
    let command = invocation(tools, "cargo", arguments.into(), &tools.root)?;
    ui.command(command.to_string());
    let what = "migrate: its crates are missing".to_owned();
    command.run(&tools.log("cargo-fetch")?).map_err(tools.failed(what))
}

fn check_rust(tools: &Toolchains, source: &WorkspaceSource) -> Result<(), CompileError> {
    let ask = invocation(tools, "rustc", vec!["--version".into()], &tools.work)?;
    let what = "migrate: there is no Rust compiler".to_owned();
    let version = ask.output().map_err(|source| CompileError::Process { what, source })?;
    let received = version.split_whitespace().nth(1).unwrap_or_default();
    if received == source.rust {
        return Ok(());
    }
    Err(CompileError::WrongRust { expected: source.rust.clone(), received: received.to_owned() })
}

fn compile(
    store: &Store,
    tools: &Toolchains,
    source: &WorkspaceSource,
    ui: &Ui,
) -> Result<Compiled, CompileError> {
    let target = tools.work.join("cargo-target");
    let mut arguments: Vec<OsString> =
        ["build", "--locked", "--profile=image", "--package=migrate", "--target"]
            .map(OsString::from)
            .into();
    arguments.push(source.triple.clone().into());
    arguments.push("--target-dir".into());
    arguments.push(target.clone().into());
    if tools.network == Network::Forbidden {
        arguments.push("--offline".into());
    }
    let command = invocation(tools, "cargo", arguments, &tools.root)?;
    ui.command(command.to_string());
    let what = format!("migrate for {}", source.triple);
    let log = tools.log(&format!("migrate-{}", source.triple))?;
    command.run(&log).map_err(tools.failed(what.clone()))?;
    let compiled = keep(store, "migrate", &target.join(&source.triple).join("image/migrate"))?;
    ui.status("Compiled", format!("{what} {}", crate::ui::size(compiled.size)));
    Ok(compiled)
}

fn invocation(
    tools: &Toolchains,
    program: &'static str,
    arguments: Vec<OsString>,
    folder: &Path,
) -> Result<Invocation, CompileError> {
    let mut environment = BTreeMap::new();
    environment.insert("CARGO_ENCODED_RUSTFLAGS".to_owned(), flags(tools).join("\u{1f}").into());
    environment.insert("CARGO_BUILD_JOBS".to_owned(), tools.jobs.to_string().into());
    let (program, folder) = (tools.find(program)?, folder.to_owned());
    Ok(Invocation { program, arguments, folder, passed_on: tools.environment.clone(), environment })
}

/// Static, and without any path of this machine in the messages of panics.
fn flags(tools: &Toolchains) -> Vec<String> {
    let home = |name: &str, fallback: &str| -> PathBuf {
        let home = tools.environment.get("HOME").map(PathBuf::from).unwrap_or_default();
        tools.environment.get(name).map_or_else(|| home.join(fallback), PathBuf::from)
    };
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        remap(&tools.root, "/etcdimg"),
        remap(&home("CARGO_HOME", ".cargo"), "/cargo"),
        remap(&home("RUSTUP_HOME", ".rustup"), "/rustup"),
    ]
}

/// Everything that decides the bytes of `migrate`: its sources, the compiler, and the C library
/// of the machine that is linked in.
fn key(tools: &Toolchains, source: &WorkspaceSource) -> Result<Digest, CompileError> {
    let mut text = format!("{RECIPE}\n{} {}\n", source.rust, source.triple);
    for input in INPUTS {
        add(&mut text, &tools.root, Path::new(input))?;
    }
    let c_library = ["/usr/lib/x86_64-linux-gnu/libc.a", "/usr/lib64/libc.a"];
    for path in c_library.map(Path::new).into_iter().filter(|path| path.exists()) {
        let digest = Digest::of(fs::read(path).map_err(CompileError::io(path))?);
        let _ = writeln!(text, "{digest}");
    }
    Ok(Digest::of(text))
}

/// Names and digests of all files below a path, in order.
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
