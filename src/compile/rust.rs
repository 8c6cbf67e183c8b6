use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Compiled;
use super::buildx::{Build, Buildx, CACHE, ROOT, Step, dockerfile};
use super::cross::{Cross, Library, Linker};
use super::tool::{CompileError, Network, Toolchains, keep};
use crate::digest::Digest;
use crate::plan::WorkspaceSource;
use crate::process::Invocation;
use crate::store::Store;
use crate::ui::Ui;

/// Part of the key of every compile: another number compiles everything again.
const RECIPE: &str = "rust 4";

/// What `migrate` is made of, below the root of the repository.
const INPUTS: &[&str] = &["Cargo.lock", "Cargo.toml", "crates/etcd-version", "crates/migrate"];

/// No single quote is in it, so that it fits into a line of a Dockerfile.
const WRAPPER: &str = r#"#!/bin/sh
kind=
case "$*" in *rustc-dep-of-std*) kind=-std ;; esac
n=$#
while [ $n -gt 0 ]; do
  word=$1
  shift
  case $word in metadata=*) word="metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION$kind" ;; esac
  set -- "$@" "$word"
  n=$((n - 1))
done
exec "$@" "@rustup@" "@cargo@" "@target@" "@root@"
"#;

/// Compiles `migrate`, static, or finds it in the store.
pub fn compile_migrate(
    store: &Store,
    tools: &Toolchains,
    source: &WorkspaceSource,
    ui: &Ui,
) -> Result<Compiled, CompileError> {
    let cached =
        |key: &Digest| store.record::<Compiled>("compile", key).filter(|it| store.has(&it.digest));
    // The compilers are what versions.yaml says, so that a build which compiles nothing does not
    // have to look for them.
    let usual = key(tools, source, "")?;
    if let Some(compiled) = cached(&usual) {
        return Ok(compiled);
    }
    if let Some(buildx) = tools.buildx(ui) {
        let _guard = store.lock(&usual.hex())?;
        if let Some(compiled) = cached(&usual) {
            return Ok(compiled);
        }
        let compiled = compile_in(buildx, store, tools, source, ui)?;
        store.put_record("compile", &usual, &compiled)?;
        return Ok(compiled);
    }
    let cross = Cross::find(tools, source, || sysroot(tools, source))?;
    let is_particular = cross.is_particular(source);
    let key = if is_particular { key(tools, source, &cross.identity()?)? } else { usual };
    // One build folder for each triple, so that the standard library is compiled once.
    let _guard = store.lock(&format!("migrate-{}", source.triple))?;
    if let Some(compiled) = cached(&key) {
        return Ok(compiled);
    }
    check_rust(tools, source)?;
    if is_particular {
        ui.warning(format!(
            "migrate for {} is not compiled from rust-src and linked by zig {}: another machine \
             may make other bytes of it",
            source.triple, source.zig
        ));
    }
    let compiled = compile(store, tools, source, &cross, ui)?;
    store.put_record("compile", &key, &compiled)?;
    Ok(compiled)
}

/// Brings the crates that `migrate` is made of into cargo's own cache, and those of the standard
/// library, if it is to be compiled.
pub fn download_crates(
    tools: &Toolchains,
    source: &WorkspaceSource,
    ui: &Ui,
) -> Result<(), CompileError> {
    let cross = Cross::find(tools, source, || sysroot(tools, source))?;
    let stage = Stage::new(tools, source, &cross)?;
    let mut arguments: Vec<OsString> =
        ["fetch", "--locked", "--target", &source.triple].map(OsString::from).into();
    arguments.extend(build_std(&cross));
    let program = tools.find("cargo")?;
    let command = stage.invocation(tools, &cross, program, arguments);
    ui.command(command.to_string());
    let what = "migrate: its crates are missing".to_owned();
    command.run(&tools.log("cargo-fetch")?).map_err(tools.failed(what))
}

/// The folder of the toolchain.
fn sysroot(tools: &Toolchains, source: &WorkspaceSource) -> Result<PathBuf, CompileError> {
    let ask = ask(tools, "rustc", &["--print", "sysroot"])?;
    let what = format!("migrate: there is no Rust {}", source.rust);
    let answer = ask.output().map_err(|source| CompileError::Process { what, source })?;
    Ok(answer.trim().into())
}

fn check_rust(tools: &Toolchains, source: &WorkspaceSource) -> Result<(), CompileError> {
    let ask = ask(tools, "rustc", &["--version"])?;
    let what = "migrate: there is no Rust compiler".to_owned();
    let version = ask.output().map_err(|source| CompileError::Process { what, source })?;
    let received = version.split_whitespace().nth(1).unwrap_or_default();
    if received == source.rust {
        return Ok(());
    }
    Err(CompileError::WrongRust { expected: source.rust.clone(), received: received.to_owned() })
}

fn ask(
    tools: &Toolchains,
    program: &'static str,
    arguments: &[&str],
) -> Result<Invocation, CompileError> {
    Ok(Invocation {
        program: tools.find(program)?,
        arguments: arguments.iter().map(OsString::from).collect(),
        folder: tools.work.clone(),
        passed_on: tools.environment.clone(),
        environment: BTreeMap::new(),
    })
}

fn compile(
    store: &Store,
    tools: &Toolchains,
    source: &WorkspaceSource,
    cross: &Cross,
    ui: &Ui,
) -> Result<Compiled, CompileError> {
    let stage = Stage::new(tools, source, cross)?;
    let mut arguments = arguments(source, cross);
    if tools.network == Network::Forbidden {
        arguments.push("--offline".into());
    }
    let (program, subcommand) = match &cross.linker {
        Linker::Zig { cargo_zigbuild, .. } => (cargo_zigbuild.clone(), "zigbuild"),
        Linker::Cc(_) => (tools.find("cargo")?, "build"),
    };
    arguments.insert(0, subcommand.into());
    let command = stage.invocation(tools, cross, program, arguments);
    ui.command(command.to_string());
    let what = format!("migrate for {}", source.triple);
    let log = tools.log(&format!("migrate-{}", source.triple))?;
    command.run(&log).map_err(tools.failed(what.clone()))?;
    let compiled = keep(store, "migrate", &stage.program(source))?;
    ui.status("Compiled", format!("{what} {}", crate::ui::size(compiled.size)));
    Ok(compiled)
}

fn arguments(source: &WorkspaceSource, cross: &Cross) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["--locked", "--profile=image", "--package=migrate"].map(OsString::from).into();
    arguments.push(format!("--target={}", source.triple).into());
    arguments.extend(build_std(cross));
    arguments
}

/// The same by buildx: `scripts/cross` brings into the builder what it brings to a host.
fn compile_in(
    buildx: &Buildx,
    store: &Store,
    tools: &Toolchains,
    source: &WorkspaceSource,
    ui: &Ui,
) -> Result<Compiled, CompileError> {
    let home = format!("{CACHE}/cargo");
    let inside = Toolchains {
        root: ROOT.into(),
        work: CACHE.into(),
        environment: BTreeMap::from([("CARGO_HOME".to_owned(), home.clone().into())]),
        ..tools.clone()
    };
    let (cross, cargo_zigbuild) = Cross::of_builder(source);
    let stage = Stage::at(&inside, source);
    let call = |program: PathBuf, arguments| {
        let mut invocation = stage.invocation(&inside, &cross, program, arguments);
        invocation.environment.insert("CARGO_HOME".to_owned(), home.clone().into());
        invocation
    };
    let mut crates: Vec<OsString> =
        ["fetch", "--locked", "--target", &source.triple].map(OsString::from).into();
    crates.extend(build_std(&cross));
    let tooling = ["scripts/cross", "scripts/debian-package", "versions.yaml"];
    let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let fetch = [
        Step::Variable("PATH", format!("{CACHE}/rust/bin:$PATH")),
        Step::Variable("RUSTUP_HOME", format!("{CACHE}/rustup")),
        Step::Copy(owned(&tooling)),
        Step::Comment("The compiler where the image has none, its library's sources, and zig."),
        Step::Shell(format!("ETCDIMG_CACHE={CACHE} {ROOT}/scripts/cross --rust")),
        Step::Copy(owned(INPUTS)),
        Step::Shell(stage.script(source)),
        Step::Comment("The crates of migrate, which Cargo.lock pins."),
        Step::Compiler(call("cargo".into(), crates)),
    ];
    let mut arguments = arguments(source, &cross);
    arguments.insert(0, "zigbuild".into());
    arguments.push("--offline".into());
    // One step, because the build folder is a cache that may be gone in the next one.
    let call_of_zig = call(cargo_zigbuild, arguments);
    let program = stage.program(source);
    let compile = [Step::Shell(format!(
        "{call_of_zig} && \\\n    mkdir -p /out && cp {} /out/migrate",
        program.display()
    ))];
    let what = format!("migrate for {}", source.triple);
    let target = stage.target.display().to_string();
    let id = format!("etcdimg-migrate-{}", source.triple);
    let inputs = [owned(&tooling), owned(INPUTS)].concat();
    let build = Build {
        what: "migrate".to_owned(),
        platform: platform(&source.triple).to_owned(),
        log: format!("buildx-migrate-{}", source.triple),
        dockerfile: dockerfile(&what, &buildx.image, &[(&id, &target)], &fetch, &compile),
        inputs: &inputs,
    };
    let scratch = tools.scratch()?;
    let out = buildx.run(tools, &build, scratch.path(), ui)?;
    let compiled = keep(store, "migrate", &out.join("migrate"))?;
    ui.status("Compiled", format!("{what} {}", crate::ui::size(compiled.size)));
    Ok(compiled)
}

/// For buildx, which is told what the result is for; the compiler goes by the triple.
fn platform(triple: &str) -> &'static str {
    match triple.split('-').next().unwrap_or_default() {
        "aarch64" => "linux/arm64",
        "armv7" => "linux/arm/v7",
        "powerpc64le" => "linux/ppc64le",
        "riscv64gc" => "linux/riscv64",
        "s390x" => "linux/s390x",
        _ if triple.contains("-windows-") => "windows/amd64",
        _ => "linux/amd64",
    }
}

/// The standard library along with the program, without what unwinds, as the profile wants it.
fn build_std(cross: &Cross) -> Option<OsString> {
    matches!(cross.library, Library::Sources(_)).then(|| "-Zbuild-std=std,panic_abort".into())
}

/// A folder in which everything that is compiled stands at the same place relative to the
/// workspace, because cargo mixes that place into the names of symbols, and these into the order
/// of functions: links to the repository, and to the sources of the standard library.
struct Stage {
    root: PathBuf,
    target: PathBuf,
}

impl Stage {
    fn at(tools: &Toolchains, source: &WorkspaceSource) -> Self {
        // Another recipe begins with an empty folder: cargo does not notice that the wrapper is
        // another one, and would mix what both have made.
        let recipe = RECIPE.replace(' ', "-");
        let folder = tools.work.join("migrate").join(recipe).join(&source.triple);
        Self { root: folder.join("stage"), target: folder.join("target") }
    }

    fn program(&self, source: &WorkspaceSource) -> PathBuf {
        let suffix = if source.triple.contains("-windows-") { ".exe" } else { "" };
        self.target.join(&source.triple).join(format!("image/migrate{suffix}"))
    }

    /// `new` as a line of shell. The tool's own sources are not there: cargo only wants every
    /// target of the workspace to exist.
    fn script(&self, source: &WorkspaceSource) -> String {
        let root = self.root.display();
        format!(
            "mkdir -p {root}/src {root}/tests/it && \\\n    \
             touch {root}/src/lib.rs {root}/src/main.rs {root}/tests/it/main.rs && \\\n    \
             ln -s {ROOT}/Cargo.lock {ROOT}/Cargo.toml {ROOT}/crates {root}/ && \\\n    \
             ln -s {CACHE}/parts/rust-{}/library {root}/library && \\\n    \
             printf '%s' '{}' > {root}/rustc && chmod +x {root}/rustc",
            source.rust,
            self.wrapper(
                Path::new(&format!("{CACHE}/rustup")),
                Path::new(&format!("{CACHE}/cargo"))
            )
            .replace('\n', "'\"\\n\"'")
        )
    }

    fn new(
        tools: &Toolchains,
        source: &WorkspaceSource,
        cross: &Cross,
    ) -> Result<Self, CompileError> {
        let stage = Self::at(tools, source);
        fs::create_dir_all(&stage.root).map_err(CompileError::io(&stage.root))?;
        for name in ["Cargo.lock", "Cargo.toml", "crates", "src", "tests"] {
            stage.link(name, &tools.root.join(name))?;
        }
        if let Library::Sources(library) = &cross.library {
            stage.link("library", library)?;
        }
        let home = |name: &str, fallback: &str| -> PathBuf {
            let home = tools.environment.get("HOME").map(PathBuf::from).unwrap_or_default();
            tools.environment.get(name).map_or_else(|| home.join(fallback), PathBuf::from)
        };
        let text = stage.wrapper(&home("RUSTUP_HOME", ".rustup"), &home("CARGO_HOME", ".cargo"));
        let path = stage.root.join("rustc");
        // Not when it is the same: another compile may be starting it.
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(&path, text).map_err(CompileError::io(&path))?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(CompileError::io(&path))?;
        }
        Ok(stage)
    }

    /// A compiler that leaves this machine out of what it writes: its folders, and what cargo
    /// makes of them. Cargo mixes flags and the path of the linker into the number by which crates
    /// of one name are told apart, and that number goes into the names and the order of functions;
    /// name and version tell them apart as well.
    fn wrapper(&self, rustup: &Path, cargo: &Path) -> String {
        let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
        WRAPPER
            .replace("@rustup@", &remap(rustup, "/rustup"))
            .replace("@cargo@", &remap(cargo, "/cargo"))
            .replace("@target@", &remap(&self.target, "/target"))
            .replace("@root@", &remap(&self.root, "/etcdimg"))
    }

    fn link(&self, name: &str, to: &Path) -> Result<(), CompileError> {
        let link = self.root.join(name);
        if fs::read_link(&link).is_ok_and(|known| known == to) {
            return Ok(());
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CompileError::io(&link)(error));
            }
            _ => {}
        }
        std::os::unix::fs::symlink(to, &link).map_err(CompileError::io(&link))
    }

    fn invocation(
        &self,
        tools: &Toolchains,
        cross: &Cross,
        program: PathBuf,
        arguments: Vec<OsString>,
    ) -> Invocation {
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: OsString| environment.insert(name.to_owned(), value);
        set("CARGO_ENCODED_RUSTFLAGS", flags(cross).join("\u{1f}").into());
        set("RUSTC_WRAPPER", self.root.join("rustc").into());
        set("CARGO_BUILD_JOBS", tools.jobs.to_string().into());
        set("CARGO_TARGET_DIR", self.target.clone().into());
        if matches!(cross.library, Library::Sources(_)) {
            // Stable Rust compiles its own standard library only when told that it may.
            set("RUSTC_BOOTSTRAP", "1".into());
            // Where cargo finds the sources; its only other place is inside of the toolchain.
            set("__CARGO_TESTS_ONLY_SRC_ROOT", self.root.join("library").into());
        }
        if let Linker::Zig { zig, .. } = &cross.linker {
            set("CARGO_ZIGBUILD_ZIG_PATH", zig.clone().into());
            set("CARGO_ZIGBUILD_CACHE_DIR", tools.work.join("zig").into());
            set("ZIG_GLOBAL_CACHE_DIR", tools.work.join("zig/global").into());
            set("ZIG_LOCAL_CACHE_DIR", tools.work.join("zig/local").into());
        }
        let folder = self.root.clone();
        Invocation { program, arguments, folder, passed_on: tools.environment.clone(), environment }
    }
}

/// Static, and the same on every machine.
fn flags(cross: &Cross) -> Vec<String> {
    let linker = match &cross.linker {
        // The C library is zig's, not the one that Rust brings for some platforms.
        Linker::Zig { .. } => "-Clink-self-contained=no".to_owned(),
        Linker::Cc(path) => format!("-Clinker={}", path.display()),
    };
    vec!["-Ctarget-feature=+crt-static".to_owned(), linker]
}

/// Everything that decides the bytes of `migrate`: its sources, and the releases of the compiler,
/// its standard library and the linker, or what there is instead.
fn key(
    tools: &Toolchains,
    source: &WorkspaceSource,
    instead: &str,
) -> Result<Digest, CompileError> {
    let WorkspaceSource { rust, zig, triple } = source;
    let mut text = format!("{RECIPE}\n{rust} {zig} {triple}\n{instead}");
    for input in INPUTS {
        add(&mut text, &tools.root, Path::new(input))?;
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
