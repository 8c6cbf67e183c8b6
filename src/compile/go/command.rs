//! How `go` is called: the same arguments and environment on every machine and in a builder, but
//! for the folders of the caches.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::error::CompileError;
use super::super::options::{BuildxOptions, CompileOptions, Network};
use super::super::recipe::{Recipe, Site};
use super::{folder, linker_flags};
use crate::plan::ModulesSource;
use crate::process::Invocation;

/// `go` for one version and platform of etcd, at one site.
pub(super) struct Go<'a> {
    program: PathBuf,
    site: Site,
    source: &'a ModulesSource,
}

impl<'a> Go<'a> {
    /// The `go` of this machine.
    pub(super) fn here(
        options: &CompileOptions,
        source: &'a ModulesSource,
    ) -> Result<Self, CompileError> {
        let program = options.find("go")?;
        let mut site = Site::host(options);
        site.inherited.extend(module_variables(options, &program)?);
        Ok(Self { program, site, source })
    }

    /// The `go` of a builder image.
    pub(super) fn in_builder(
        options: &CompileOptions,
        buildx: &BuildxOptions,
        source: &'a ModulesSource,
    ) -> Self {
        Self { program: "go".into(), site: Site::builder(options, buildx), source }
    }

    pub(super) fn source(&self) -> &ModulesSource {
        self.source
    }

    /// The platform, as OCI names it: `linux/arm/v7`.
    pub(super) fn platform(&self) -> String {
        let ModulesSource { goos, goarch, goarm, .. } = self.source;
        match goarm {
            Some(goarm) => format!("{goos}/{goarch}/v{goarm}"),
            None => format!("{goos}/{goarch}"),
        }
    }

    /// A call of `go` in the folder of the module.
    pub(super) fn call(&self, arguments: Vec<OsString>) -> Invocation {
        self.call_with(arguments, self.site.network)
    }

    /// `go mod download`, for a stage of a builder that may use the network.
    pub(super) fn download_with_network(&self) -> Invocation {
        self.call_with(vec!["mod".into(), "download".into()], Network::Allowed)
    }

    /// `go mod download`
    pub(super) fn download(&self) -> Invocation {
        self.call(vec!["mod".into(), "download".into()])
    }

    /// Compiles one program into the file `output`.
    pub(super) fn recipe(&self, program: &'static str, package: &str, output: &Path) -> Recipe {
        let ModulesSource { version, goos, goarch, .. } = self.source;
        Recipe {
            program,
            what: format!("{program} {version} for {}", self.platform()),
            log: format!("{program}-{version}-{goos}-{goarch}"),
            calls: vec![self.call(self.build(package, output))],
            output: output.to_owned(),
        }
    }

    fn build(&self, package: &str, output: &Path) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("build")];
        if let Some(jobs) = self.site.jobs {
            arguments.push(format!("-p={jobs}").into());
        }
        if knows_vcs(self.source) {
            // The git repository around the module is ours, not etcd's.
            arguments.push("-buildvcs=false".into());
        }
        let flags = format!("-ldflags={}", linker_flags(self.source));
        arguments.extend(["-trimpath", "-installsuffix=cgo", &flags, "-o"].map(OsString::from));
        arguments.extend([output.into(), package.into()]);
        arguments
    }

    fn call_with(&self, arguments: Vec<OsString>, network: Network) -> Invocation {
        Invocation {
            program: self.program.clone(),
            arguments,
            folder: folder(&self.site.root, self.source),
            passed_on: self.site.inherited.clone(),
            environment: environment(&self.site.work, network, self.source),
        }
    }
}

/// Since 1.18 Go writes the commit of the repository into programs, and has a flag against it.
fn knows_vcs(source: &ModulesSource) -> bool {
    let minor = source.go.split('.').nth(1).and_then(|minor| minor.parse().ok());
    minor.is_some_and(|minor: u32| minor >= 18)
}

/// The same on every machine, but for where the caches are.
fn environment(
    work: &Path,
    network: Network,
    source: &ModulesSource,
) -> BTreeMap<String, OsString> {
    let mut environment = BTreeMap::new();
    let mut set = |name: &str, value: OsString| environment.insert(name.to_owned(), value);
    for (name, folder) in [("GOMODCACHE", "go-mod"), ("GOCACHE", "go-build")] {
        set(name, work.join(folder).into());
    }
    for (name, value) in [
        ("GOFLAGS", "-mod=readonly"),
        ("CGO_ENABLED", "0"),
        ("GOWORK", "off"),
        ("GOENV", "off"),
        ("GOAMD64", "v1"),
        ("GOARM64", "v8.0"),
        ("GOPPC64", "power8"),
        ("GORISCV64", "rva20u64"),
    ] {
        set(name, value.into());
    }
    set("GOTOOLCHAIN", format!("go{}", source.go).into());
    set("GOOS", source.goos.clone().into());
    set("GOARCH", source.goarch.clone().into());
    if let Some(goarm) = &source.goarm {
        set("GOARM", goarm.into());
    }
    if network == Network::Forbidden {
        set("GOPROXY", "off".into());
    }
    environment
}

/// The user's variables that say where modules come from, also those that `go env -w` wrote.
/// Programs are compiled without the file of `go env -w` (`GOENV=off`), since it could decide
/// bytes; where modules come from does not, because go.sum pins them.
fn module_variables(
    options: &CompileOptions,
    program: &Path,
) -> Result<BTreeMap<String, OsString>, CompileError> {
    const NAMES: [&str; 6] =
        ["GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOINSECURE"];
    let command = Invocation {
        program: program.to_owned(),
        arguments: ["env"].iter().chain(&NAMES).map(OsString::from).collect(),
        folder: options.work.clone(),
        passed_on: options.environment.clone(),
        environment: BTreeMap::from([("GOTOOLCHAIN".to_owned(), "local".into())]),
    };
    let printed = command.output().map_err(CompileError::process("etcd: `go env` failed"))?;
    let values = NAMES.iter().zip(printed.lines()).filter(|(_, value)| !value.is_empty());
    Ok(values.map(|(name, value)| ((*name).to_owned(), value.into())).collect())
}
