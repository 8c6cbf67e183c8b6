//! How cargo is called: the same arguments and environment on every machine and in a builder, but
//! for the folders.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::super::options::Network;
use super::super::recipe::{Recipe, Site};
use super::compile_folder::CompileFolder;
use super::cross::{Cross, Library, Linker};
use crate::plan::WorkspaceSource;
use crate::process::Invocation;

/// Cargo for one triple, at one site.
pub(super) struct Cargo<'a> {
    pub program: PathBuf,
    pub site: Site,
    pub cross: Cross,
    pub folder: CompileFolder,
    pub source: &'a WorkspaceSource,
}

impl Cargo<'_> {
    /// Downloads the crates.
    pub(super) fn fetch(&self) -> Invocation {
        let mut arguments: Vec<OsString> =
            ["fetch", "--locked", "--target", &self.source.triple].map(OsString::from).into();
        arguments.extend(self.build_std());
        self.call(self.program.clone(), arguments)
    }

    /// Compiles `migrate` without a network.
    pub(super) fn recipe(&self) -> Recipe {
        let triple = &self.source.triple;
        Recipe {
            program: "migrate",
            what: format!("migrate for {triple}"),
            log: format!("migrate-{triple}"),
            calls: vec![self.clean(), self.build()],
            output: self.folder.program(self.source),
        }
    }

    /// Removes what cargo compiled of our own crates. Cargo takes a compiled crate for fresh if
    /// its sources are older, and those of another checkout may be older and different.
    fn clean(&self) -> Invocation {
        let target = format!("--target={}", self.source.triple);
        let packages = ["--package=migrate", "--package=etcd-version"];
        let arguments = [&["clean", "--offline", "--profile=image"], &packages[..], &[&target]];
        let arguments = arguments.concat().iter().map(OsString::from).collect();
        self.call(self.program.clone(), arguments)
    }

    fn build(&self) -> Invocation {
        let (program, subcommand) = match &self.cross.linker {
            Linker::Zig { cargo_zigbuild, .. } => (cargo_zigbuild.clone(), "zigbuild"),
            Linker::Cc(_) => (self.program.clone(), "build"),
        };
        let target = format!("--target={}", self.source.triple);
        let fixed = [subcommand, "--locked", "--profile=image", "--package=migrate", &target];
        let mut arguments: Vec<OsString> = fixed.map(OsString::from).into();
        arguments.extend(self.build_std());
        if self.site.network == Network::Forbidden {
            arguments.push("--offline".into());
        }
        self.call(program, arguments)
    }

    /// Compiles the standard library along with the program; without unwinding, as the profile
    /// has it.
    fn build_std(&self) -> Option<OsString> {
        self.cross.compiles_library().then(|| "-Zbuild-std=std,panic_abort".into())
    }

    fn call(&self, program: PathBuf, arguments: Vec<OsString>) -> Invocation {
        Invocation {
            program,
            arguments,
            folder: self.folder.root.clone(),
            passed_on: self.site.inherited.clone(),
            environment: self.environment(),
        }
    }

    fn environment(&self) -> BTreeMap<String, OsString> {
        let Self { site, cross, folder, .. } = self;
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: OsString| environment.insert(name.to_owned(), value);
        set("CARGO_ENCODED_RUSTFLAGS", flags(cross).join("\u{1f}").into());
        set("RUSTC_WRAPPER", folder.wrapper().into());
        if let Some(jobs) = site.jobs {
            set("CARGO_BUILD_JOBS", jobs.to_string().into());
        }
        set("CARGO_TARGET_DIR", folder.target.clone().into());
        if let Some(home) = &folder.cargo_home {
            set("CARGO_HOME", home.into());
        }
        // zig's linker writes the time into programs for Windows.
        set("SOURCE_DATE_EPOCH", "0".into());
        if let Library::Sources(_) = &cross.library {
            // Stable Rust compiles its own standard library only with this variable.
            set("RUSTC_BOOTSTRAP", "1".into());
            // Where cargo finds the sources; its only other place is inside of the toolchain.
            set("__CARGO_TESTS_ONLY_SRC_ROOT", folder.root.join("library").into());
        }
        if let Linker::Zig { zig, .. } = &cross.linker {
            set("CARGO_ZIGBUILD_ZIG_PATH", zig.clone().into());
            set("CARGO_ZIGBUILD_CACHE_DIR", site.work.join("zig").into());
            set("ZIG_GLOBAL_CACHE_DIR", site.work.join("zig/global").into());
            set("ZIG_LOCAL_CACHE_DIR", site.work.join("zig/local").into());
        }
        environment
    }
}

/// Static, and the same on every machine.
fn flags(cross: &Cross) -> [String; 2] {
    let linker = match &cross.linker {
        // The C library is zig's, not the one that Rust has for some platforms.
        Linker::Zig { .. } => "-Clink-self-contained=no".to_owned(),
        Linker::Cc(path) => format!("-Clinker={}", path.display()),
    };
    ["-Ctarget-feature=+crt-static".to_owned(), linker]
}
