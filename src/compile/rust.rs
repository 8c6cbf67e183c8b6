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
const RECIPE: &str = "rust 5";

/// What `migrate` is made of, below the root of the repository.
const INPUTS: &[&str] = &["Cargo.lock", "Cargo.toml", "crates/etcd-version", "crates/migrate"];

/// What buildx copies for cargo, which reads the manifests of all crates of the workspace.
const WORKSPACE: &[&str] = &["Cargo.lock", "Cargo.toml", "crates"];

/// What cargo starts instead of rustc.
const WRAPPER_NAME: &str = "rustc";
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
set -- "$@" "@rustup@" "@cargo@" "@target@" "@root@"
case $CARGO_MANIFEST_DIR in
  */registry/src/*) set -- "$@" "--remap-path-prefix=${CARGO_MANIFEST_DIR%/*}=/crates" ;;
esac
exec "$@"
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
    let clean = stage.invocation(tools, cross, tools.find("cargo")?, clean(source));
    clean.run(&log).map_err(tools.failed(what.clone()))?;
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

/// Throws away what cargo compiled of our own crates: it takes them for fresh when the files are
/// older, and those of another checkout may be.
fn clean(source: &WorkspaceSource) -> Vec<OsString> {
    let target = format!("--target={}", source.triple);
    let fixed = ["clean", "--offline", "--profile=image", "--package=migrate"];
    fixed.iter().chain(&["--package=etcd-version", &target]).map(OsString::from).collect()
}

/// The same by buildx.
fn compile_in(
    buildx: &Buildx,
    store: &Store,
    tools: &Toolchains,
    source: &WorkspaceSource,
    ui: &Ui,
) -> Result<Compiled, CompileError> {
    let build = build(tools, buildx, source);
    let scratch = tools.scratch()?;
    let out = buildx.run(tools, &build, scratch.path(), ui)?;
    let compiled = keep(store, "migrate", &out.join("migrate"))?;
    let what = format!("migrate for {}", source.triple);
    ui.status("Compiled", format!("{what} {}", crate::ui::size(compiled.size)));
    Ok(compiled)
}

/// What buildx is told: `scripts/builder-toolchain` brings into the builder what `cargo xtask cross`
/// brings to a host.
fn build(tools: &Toolchains, buildx: &Buildx, source: &WorkspaceSource) -> Build {
    let home = format!("{CACHE}/cargo");
    let inside = Toolchains {
        root: ROOT.into(),
        work: CACHE.into(),
        environment: BTreeMap::new(),
        ..tools.clone()
    };
    let (cross, cargo_zigbuild) = Cross::of_builder(source);
    let stage = Stage::at(&inside, source);
    let call = |program: PathBuf, arguments| {
        let mut invocation = stage.invocation(&inside, &cross, program, arguments);
        invocation.environment.insert("CARGO_HOME".to_owned(), home.clone().into());
        if buildx.has_own_cores() {
            invocation.environment.remove("CARGO_BUILD_JOBS");
        }
        invocation
    };
    let mut crates: Vec<OsString> =
        ["fetch", "--locked", "--target", &source.triple].map(OsString::from).into();
    crates.extend(build_std(&cross));
    let tooling = ["scripts/builder-toolchain", "crates/xtask/zig.txt", "versions.yaml"];
    let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let fetch = [
        Step::Variable("PATH", format!("{CACHE}/rust/bin:$PATH")),
        Step::Variable("RUSTUP_HOME", format!("{CACHE}/rustup")),
        Step::Copy(owned(&tooling)),
        Step::Comment("The compiler where the image has none, its library's sources, and zig."),
        Step::Shell(format!("{ROOT}/scripts/builder-toolchain {CACHE}")),
        Step::Copy([owned(WORKSPACE), owned(&[WRAPPER_NAME])].concat()),
        Step::Shell(stage.script(source)),
        Step::Comment("The crates of migrate, which Cargo.lock pins."),
        Step::Compiler(call("cargo".into(), crates)),
    ];
    let mut arguments = arguments(source, &cross);
    arguments.insert(0, "zigbuild".into());
    arguments.push("--offline".into());
    // One step, because the build folder is a cache that may be gone in the next one.
    let (clean, zigbuild) = (call("cargo".into(), clean(source)), call(cargo_zigbuild, arguments));
    let program = stage.program(source);
    let compile = [Step::Shell(format!(
        "({clean}) && \\\n    {zigbuild} && \\\n    mkdir -p /out && cp {} /out/migrate",
        program.display()
    ))];
    let what = format!("migrate for {}", source.triple);
    let target = stage.target.display().to_string();
    let id = format!("etcdimg-migrate-{}-{}", recipe(), source.triple);
    let wrapper = stage.wrapper(&Path::new(CACHE).join("rustup"), Path::new(&home));
    Build {
        what: "migrate".to_owned(),
        platform: source.platform.to_string(),
        log: format!("buildx-migrate-{}", source.triple),
        dockerfile: dockerfile(
            &what,
            &buildx.image,
            &[(&id, &target), ("etcdimg-zig", "/opt/etcdimg/zig")],
            &fetch,
            &compile,
        ),
        inputs: [owned(&tooling), owned(WORKSPACE)].concat(),
        written: Some((WRAPPER_NAME, wrapper)),
    }
}

/// Part of the names of build folders. Another recipe begins with an empty one: cargo does not
/// notice that the wrapper is another one, and would mix what both have made.
fn recipe() -> String {
    RECIPE.replace(' ', "-")
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
        let folder = tools.work.join("migrate").join(recipe()).join(&source.triple);
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
             cp {ROOT}/{WRAPPER_NAME} {root}/{WRAPPER_NAME} && chmod 0755 {root}/{WRAPPER_NAME}",
            source.rust,
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
        let path = stage.root.join(WRAPPER_NAME);
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
    /// name and version tell them apart as well. Crates stand in a folder that is named after the
    /// registry, which may be a mirror.
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
        set("RUSTC_WRAPPER", self.root.join(WRAPPER_NAME).into());
        set("CARGO_BUILD_JOBS", tools.jobs.to_string().into());
        set("CARGO_TARGET_DIR", self.target.clone().into());
        // zig's linker writes the time into programs for Windows.
        set("SOURCE_DATE_EPOCH", "0".into());
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
    let WorkspaceSource { rust, zig, triple, .. } = source;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Builder;

    fn tools() -> Toolchains {
        Toolchains {
            root: "/repository".into(),
            work: std::env::temp_dir(),
            environment: BTreeMap::new(),
            network: Network::Allowed,
            jobs: 2,
            at_once: None,
            builder: Builder::Host,
        }
    }

    fn source() -> WorkspaceSource {
        WorkspaceSource {
            rust: "1.95.0".to_owned(),
            zig: "0.17.0".to_owned(),
            triple: "s390x-unknown-linux-musl".to_owned(),
            platform: "linux/s390x".parse().unwrap(),
        }
    }

    /// What rustc is started with when cargo starts the wrapper with these.
    #[track_caller]
    fn check(package: &str, arguments: &[&str], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(WRAPPER_NAME);
        let text = Stage::at(&tools(), &source()).wrapper("/rust up".as_ref(), "/cargo".as_ref());
        fs::write(&path, text).unwrap();
        let (name, version) = package.split_once(' ').unwrap();
        let variable = |name: &str, value: &str| (name.to_owned(), value.into());
        let started = Invocation {
            program: "/bin/sh".into(),
            arguments: [path.to_str().unwrap(), "printf", "<%s>"]
                .iter()
                .chain(arguments)
                .map(OsString::from)
                .collect(),
            folder: folder.path().to_owned(),
            passed_on: BTreeMap::new(),
            environment: BTreeMap::from([
                variable("CARGO_PKG_NAME", name),
                variable("CARGO_PKG_VERSION", version),
                variable("CARGO_MANIFEST_DIR", "/a b/registry/src/mirror-0123/semver-1.0.0"),
            ]),
        };
        let said = started.output().unwrap();
        let expected = format!("{expected}<--remap-path-prefix=/rust up=/rustup>");
        assert!(said.starts_with(&expected), "{said}");
        let expected =
            "/stage=/etcdimg><--remap-path-prefix=/a b/registry/src/mirror-0123=/crates>";
        assert!(said.ends_with(expected), "{said}");
    }

    #[test]
    fn a_crate_is_told_apart_by_its_name_and_version() {
        check(
            "semver 1.0.0",
            &["-C", "metadata=0123", "a b", "", "*", "$HOME", "it's"],
            "<-C><metadata=semver-1.0.0><a b><><*><$HOME><it's>",
        );
        // One that the standard library has, too.
        check(
            "libc 0.2.0",
            &["--cfg", "feature=\"rustc-dep-of-std\"", "-C", "metadata=0123"],
            "<--cfg><feature=\"rustc-dep-of-std\"><-C><metadata=libc-0.2.0-std>",
        );
    }
}
