//! Compiles through `docker buildx build`: in a builder image that is pinned by its digest,
//! by the engine here, or by whatever builder `--buildx-builder` names.
//!
//! The compilers are called with the same arguments and environment as on the host, only at
//! other paths, so both give the same bytes.

mod dockerfile;
mod progress;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::tool::{CompileError, Network, Toolchains};
use crate::process::Invocation;
use crate::ui::Ui;

pub(super) use dockerfile::{Step, dockerfile};

/// The builder of a build: what compiles.
#[derive(Clone, Debug, Default)]
pub enum Builder {
    /// The toolchains of this machine.
    #[default]
    Host,
    Buildx(Buildx),
    /// buildx where it is usable, which is found out when something has to be compiled.
    Auto(Buildx, Arc<OnceLock<bool>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buildx {
    /// `golang:1.26-bookworm@sha256:…`
    pub image: String,
    /// Instead of the one that `docker buildx use` chose.
    pub name: Option<String>,
    pub cache_to: Vec<String>,
    pub cache_from: Vec<String>,
    /// What Docker's client reads of the environment.
    pub environment: BTreeMap<String, OsString>,
}

/// Names of the environment that reach Docker's client.
pub const DOCKER_PASSED_ON: &[&str] = &[
    "BUILDX_BUILDER",
    "BUILDX_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
];

impl Toolchains {
    /// What compiles, if it is not this machine itself.
    pub(super) fn buildx(&self, ui: &Ui) -> Option<&Buildx> {
        match &self.builder {
            Builder::Host => None,
            Builder::Buildx(buildx) => Some(buildx),
            Builder::Auto(buildx, is_usable) => {
                let is_usable = *is_usable.get_or_init(|| {
                    let is_usable = buildx.is_usable(self);
                    let who = if is_usable { "docker buildx" } else { "this machine's toolchains" };
                    ui.note(format!("compiling with {who}; `--builder` chooses"));
                    is_usable
                });
                is_usable.then_some(buildx)
            }
        }
    }
}

/// Where the repository and the caches are inside of a builder.
pub(super) const ROOT: &str = "/etcdimg";
pub(super) const CACHE: &str = "/opt/etcdimg";

/// One build: what goes in, and where its files come out.
pub(super) struct Build {
    /// `etcd 3.7.1`, for people.
    pub what: String,
    pub platform: String,
    pub log: String,
    pub dockerfile: String,
    /// Paths below the repository that the Dockerfile copies.
    pub inputs: Vec<String>,
    /// Name and text of a file that the Dockerfile copies and the repository does not have.
    pub written: Option<(&'static str, String)>,
}

impl Buildx {
    /// Whether its compilers share no cores with others of ours: a builder that has a name may be
    /// elsewhere, while the engine's own one is here.
    pub(super) fn has_own_cores(&self) -> bool {
        self.name.is_some()
    }

    /// Runs the build; the programs are then in the returned folder's `out`.
    pub(super) fn run(
        &self,
        tools: &Toolchains,
        build: &Build,
        scratch: &Path,
        ui: &Ui,
    ) -> Result<PathBuf, CompileError> {
        let what = format!("{} for {}", build.what, build.platform);
        if tools.network == Network::Forbidden {
            return Err(CompileError::OfflineBuildx { what });
        }
        let context = scratch.join("context");
        for input in &build.inputs {
            copy(&tools.root.join(input), &context.join(input))?;
        }
        if let Some((name, text)) = &build.written {
            let path = context.join(name);
            fs::write(&path, text).map_err(CompileError::io(&path))?;
        }
        let file = scratch.join("Dockerfile");
        fs::write(&file, &build.dockerfile).map_err(CompileError::io(&file))?;
        let out = scratch.join("out");
        let command = self.invocation(tools, build, &file, &context, &out)?;
        ui.command(command.to_string());
        let log = tools.log(&build.log)?;
        let mut progress = progress::Progress::new(&log, &what, ui);
        let ran = command.run_lines(&log, |line| progress.line(line));
        progress.finish()?;
        ran.map_err(|error| tools.failed(what)(error.with_tail_of_log()))?;
        Ok(out)
    }

    fn invocation(
        &self,
        tools: &Toolchains,
        build: &Build,
        file: &Path,
        context: &Path,
        out: &Path,
    ) -> Result<Invocation, CompileError> {
        let mut arguments: Vec<OsString> =
            ["buildx", "build", "--provenance=false", "--sbom=false", "--progress=rawjson"]
                .map(OsString::from)
                .into();
        let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}").into());
        self.name.iter().for_each(|name| flag("builder", name));
        self.cache_from.iter().for_each(|cache| flag("cache-from", cache));
        self.cache_to.iter().for_each(|cache| flag("cache-to", cache));
        flag("platform", &build.platform);
        flag("file", &file.to_string_lossy());
        flag("output", &format!("type=local,dest={}", out.display()));
        arguments.push(context.into());
        Ok(Invocation {
            program: tools.find("docker")?,
            arguments,
            folder: tools.work.clone(),
            passed_on: self.passed_on(tools),
            environment: BTreeMap::new(),
        })
    }

    /// What compilers get of our environment, and Docker's client besides.
    fn passed_on(&self, tools: &Toolchains) -> BTreeMap<String, OsString> {
        tools.environment.clone().into_iter().chain(self.environment.clone()).collect()
    }

    /// Whether an engine or builder answers, and has the builder image or gets it.
    fn is_usable(&self, tools: &Toolchains) -> bool {
        let ask = |arguments: &[&str]| -> bool {
            let Ok(program) = tools.find("docker") else { return false };
            let ask = Invocation {
                program,
                arguments: arguments.iter().map(OsString::from).collect(),
                folder: tools.root.clone(),
                passed_on: self.passed_on(tools),
                environment: BTreeMap::new(),
            };
            ask.output().is_ok()
        };
        let builder = match &self.name {
            Some(name) => ask(&["buildx", "inspect", name]),
            None => ask(&["version"]) && ask(&["buildx", "version"]),
        };
        builder
            && (ask(&["image", "inspect", &self.image])
                || ask(&["buildx", "imagetools", "inspect", "--raw", &self.image]))
    }
}

/// A file or a folder; links are followed, times do not matter.
fn copy(from: &Path, to: &Path) -> Result<(), CompileError> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(CompileError::io(parent))?;
    if from.is_dir() {
        fs::create_dir_all(to).map_err(CompileError::io(to))?;
        for entry in fs::read_dir(from).map_err(CompileError::io(from))? {
            let name = entry.map_err(CompileError::io(from))?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(CompileError::io(from))
}
