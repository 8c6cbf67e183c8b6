//! What `migrate` is compiled with for a platform: a standard library and a linker.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::super::error::CompileError;
use super::super::options::CompileOptions;
use super::super::recipe::Site;
use crate::digest::Digest;
use crate::plan::WorkspaceSource;
use crate::process::Invocation;

/// How one triple is compiled and linked on this machine.
#[derive(Clone, Debug)]
pub(super) struct Cross {
    pub library: Library,
    pub linker: Linker,
}

/// Where Rust's standard library comes from.
#[derive(Clone, Debug)]
pub(super) enum Library {
    /// The folder of its sources, which are compiled along with the program.
    Sources(PathBuf),
    /// The toolchain has it for this triple, compiled by the Rust project.
    Installed,
}

/// What links the program, and where its C library is from.
#[derive(Clone, Debug)]
pub(super) enum Linker {
    /// `cargo-zigbuild`, which lets zig link.
    Zig { zig: PathBuf, cargo_zigbuild: PathBuf, version: String },
    /// A C compiler, by its path.
    Cc(PathBuf),
}

impl Cross {
    /// The best combination on this machine. Sources and the zig of versions.yaml come first,
    /// because only with them the bytes do not depend on the machine.
    pub(super) fn find(
        options: &CompileOptions,
        source: &WorkspaceSource,
        sysroot: impl Fn() -> Result<PathBuf, CompileError>,
    ) -> Result<Self, CompileError> {
        let no_cross = || CompileError::NoCross {
            triple: source.triple.clone(),
            rust: source.rust.clone(),
            zig: source.zig.clone(),
        };
        let sources = sources(options, source, &sysroot)?.map(Library::Sources);
        let installed = || {
            let folder = sysroot()?.join("lib/rustlib").join(&source.triple).join("lib");
            folder.is_dir().then_some(Library::Installed).ok_or_else(no_cross)
        };
        let (library, linker) = match (sources, zig(options, source)?) {
            (Some(sources), Some(zig)) => (sources, zig),
            (None, Some(zig)) => (installed()?, zig),
            // Without zig the sources lack a C library and an unwinder, which an installed
            // library contains.
            (_, None) => (installed()?, cc(options, &source.triple).ok_or_else(no_cross)?),
        };
        Ok(Self { library, linker })
    }

    /// What `scripts/builder-toolchain` installs in a builder image.
    pub(super) fn of_builder(site: &Site, source: &WorkspaceSource) -> Self {
        let library = Library::Sources(site.part(format!("rust-{}/library", source.rust)));
        let folder = site.part(format!("zig-{}", source.zig));
        let linker = Linker::Zig {
            zig: folder.join("zig"),
            cargo_zigbuild: folder.join("cargo-zigbuild"),
            version: source.zig.clone(),
        };
        Self { library, linker }
    }

    /// Whether the standard library is compiled along with the program.
    pub(super) fn compiles_library(&self) -> bool {
        matches!(self.library, Library::Sources(_))
    }

    /// Whether another machine may make other bytes from the same inputs.
    pub(super) fn is_particular(&self, source: &WorkspaceSource) -> bool {
        !matches!(
            self,
            Self { library: Library::Sources(_), linker: Linker::Zig { version, .. } }
                if *version == source.zig
        )
    }

    /// Part of the key of a compile whose result depends on this machine.
    pub(super) fn identity(&self) -> Result<String, CompileError> {
        let library = match &self.library {
            Library::Sources(_) => "sources",
            Library::Installed => "installed",
        };
        let linker = match &self.linker {
            Linker::Zig { version, .. } => format!("zig {version}"),
            Linker::Cc(path) => {
                let bytes = fs::read(path).map_err(CompileError::io(path))?;
                format!("{} {}", path.display(), Digest::of(bytes))
            }
        };
        Ok(format!("library {library}\nlinker {linker}\n"))
    }
}

/// The sources of the standard library: where `cargo xtask cross` puts them, or in the toolchain.
fn sources(
    options: &CompileOptions,
    source: &WorkspaceSource,
    sysroot: impl Fn() -> Result<PathBuf, CompileError>,
) -> Result<Option<PathBuf>, CompileError> {
    let is_whole = |folder: &PathBuf| folder.join("Cargo.lock").is_file();
    let part = Site::host(options).part(format!("rust-{}/library", source.rust));
    if is_whole(&part) {
        return Ok(Some(part));
    }
    Ok(Some(sysroot()?.join("lib/rustlib/src/rust/library")).filter(is_whole))
}

/// zig: where `cargo xtask cross` puts it, or on `PATH`.
fn zig(options: &CompileOptions, source: &WorkspaceSource) -> Result<Option<Linker>, CompileError> {
    let part = Site::host(options).part(format!("zig-{}", source.zig));
    let [zig, cargo_zigbuild] = ["zig", "cargo-zigbuild"].map(|name| part.join(name));
    if zig.is_file() && cargo_zigbuild.is_file() {
        return Ok(Some(Linker::Zig { zig, cargo_zigbuild, version: source.zig.clone() }));
    }
    let (Ok(zig), Ok(cargo_zigbuild)) = (options.find("zig"), options.find("cargo-zigbuild"))
    else {
        return Ok(None);
    };
    let command = Invocation {
        program: zig.clone(),
        arguments: vec!["version".into()],
        folder: options.work.clone(),
        passed_on: options.environment.clone(),
        environment: BTreeMap::new(),
    };
    let what = "migrate: `zig version` failed";
    let version = command.output().map_err(CompileError::process(what))?;
    Ok(Some(Linker::Zig { zig, cargo_zigbuild, version: version.trim().to_owned() }))
}

/// A C compiler for a triple, by the names that distributions give it.
fn cc(options: &CompileOptions, triple: &str) -> Option<Linker> {
    let names: &[&str] = match triple {
        "aarch64-unknown-linux-musl" => &["aarch64-linux-musl-gcc", "aarch64-linux-gnu-gcc"],
        "armv7-unknown-linux-musleabihf" => {
            &["arm-linux-musleabihf-gcc", "arm-linux-gnueabihf-gcc"]
        }
        "powerpc64le-unknown-linux-musl" => {
            &["powerpc64le-linux-musl-gcc", "powerpc64le-linux-gnu-gcc"]
        }
        "riscv64gc-unknown-linux-musl" => &["riscv64-linux-musl-gcc", "riscv64-linux-gnu-gcc"],
        "s390x-unknown-linux-musl" => &["s390x-linux-musl-gcc", "s390x-linux-gnu-gcc"],
        "x86_64-pc-windows-gnu" => &["x86_64-w64-mingw32-gcc"],
        "x86_64-unknown-linux-musl" => &["x86_64-linux-musl-gcc", "x86_64-linux-gnu-gcc"],
        _ => &[],
    };
    names.iter().find_map(|name| options.find(name).ok()).map(Linker::Cc)
}
