//! What compiles `migrate` for another platform: a standard library and a linker.

use std::fs;
use std::path::{Path, PathBuf};

use super::buildx::CACHE;
use super::tool::{CompileError, Toolchains};
use crate::digest::Digest;
use crate::plan::WorkspaceSource;
use crate::process::Invocation;

/// How one triple is compiled and linked on this machine.
#[derive(Clone, Debug)]
pub(super) struct Cross {
    pub library: Library,
    pub linker: Linker,
}

/// Where the standard library comes from.
#[derive(Clone, Debug)]
pub(super) enum Library {
    /// Its sources, which are compiled along: the same bytes wherever they come from.
    Sources(PathBuf),
    /// Compiled by the Rust project.
    Installed,
}

#[derive(Clone, Debug)]
pub(super) enum Linker {
    Zig {
        zig: PathBuf,
        cargo_zigbuild: PathBuf,
        version: String,
    },
    /// A C compiler, by its path.
    Cc(PathBuf),
}

impl Cross {
    /// The best that is here. Sources and the zig of versions.yaml come first, because only
    /// with them the bytes do not depend on the machine.
    pub(super) fn find(
        tools: &Toolchains,
        source: &WorkspaceSource,
        sysroot: impl Fn() -> Result<PathBuf, CompileError>,
    ) -> Result<Self, CompileError> {
        let no_cross = || CompileError::NoCross {
            triple: source.triple.clone(),
            rust: source.rust.clone(),
            zig: source.zig.clone(),
        };
        let sources = sources(tools, source, &sysroot)?.map(Library::Sources);
        let installed = || {
            let folder = sysroot()?.join("lib/rustlib").join(&source.triple).join("lib");
            folder.is_dir().then_some(Library::Installed).ok_or_else(no_cross)
        };
        let (library, linker) = match (sources, zig(tools, source)?) {
            (Some(sources), Some(zig)) => (sources, zig),
            (None, Some(zig)) => (installed()?, zig),
            // The sources alone lack a C library and an unwinder, which an installed one brings.
            (_, None) => (installed()?, cc(tools, &source.triple).ok_or_else(no_cross)?),
        };
        Ok(Self { library, linker })
    }

    /// What `scripts/builder-toolchain` brings into a builder image, and where cargo-zigbuild is.
    pub(super) fn of_builder(source: &WorkspaceSource) -> (Self, PathBuf) {
        let parts = Path::new(CACHE).join("parts");
        let folder = parts.join(format!("zig-{}", source.zig));
        let cargo_zigbuild = folder.join("cargo-zigbuild");
        let library = Library::Sources(parts.join(format!("rust-{}/library", source.rust)));
        let linker = Linker::Zig {
            zig: folder.join("zig"),
            cargo_zigbuild: cargo_zigbuild.clone(),
            version: source.zig.clone(),
        };
        (Self { library, linker }, cargo_zigbuild)
    }

    /// Whether another machine may make other bytes of the same inputs.
    pub(super) fn is_particular(&self, source: &WorkspaceSource) -> bool {
        !matches!(
            self,
            Self { library: Library::Sources(_), linker: Linker::Zig { version, .. } }
                if *version == source.zig
        )
    }

    /// Part of the key of a compile that is particular to this machine.
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

/// Where `cargo xtask cross` puts them, or in the toolchain, which has to be asked where it is.
fn sources(
    tools: &Toolchains,
    source: &WorkspaceSource,
    sysroot: impl Fn() -> Result<PathBuf, CompileError>,
) -> Result<Option<PathBuf>, CompileError> {
    let is_whole = |folder: &PathBuf| folder.join("Cargo.lock").is_file();
    let part = tools.work.join(format!("parts/rust-{}/library", source.rust));
    if is_whole(&part) {
        return Ok(Some(part));
    }
    Ok(Some(sysroot()?.join("lib/rustlib/src/rust/library")).filter(is_whole))
}

/// Where `cargo xtask cross` puts it, or on `PATH`.
fn zig(tools: &Toolchains, source: &WorkspaceSource) -> Result<Option<Linker>, CompileError> {
    let part = tools.work.join(format!("parts/zig-{}", source.zig));
    let [zig, cargo_zigbuild] = ["zig", "cargo-zigbuild"].map(|name| part.join(name));
    if zig.is_file() && cargo_zigbuild.is_file() {
        return Ok(Some(Linker::Zig { zig, cargo_zigbuild, version: source.zig.clone() }));
    }
    let (Ok(zig), Ok(cargo_zigbuild)) = (tools.find("zig"), tools.find("cargo-zigbuild")) else {
        return Ok(None);
    };
    let ask = Invocation {
        program: zig.clone(),
        arguments: vec!["version".into()],
        folder: tools.work.clone(),
        passed_on: tools.environment.clone(),
        environment: std::collections::BTreeMap::new(),
    };
    let what = "migrate: zig does not answer".to_owned();
    let version = ask.output().map_err(|source| CompileError::Process { what, source })?;
    Ok(Some(Linker::Zig { zig, cargo_zigbuild, version: version.trim().to_owned() }))
}

/// A C compiler for a triple, by the names that distributions give it.
fn cc(tools: &Toolchains, triple: &str) -> Option<Linker> {
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
    names.iter().find_map(|name| tools.find(name).ok()).map(Linker::Cc)
}
