//! The programs that tests and benchmarks use: where they are, or how they are installed.
//!
//! A program that a variable names or that is on `PATH` is used. docker.io, skopeo, umoci, podman,
//! qemu and wine are installed by apt, the others stay in the cache; buildkitd is built from its Go
//! module.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::apt;
use crate::command::{Cmd, find, find_in, is_executable, path_with};
use crate::debian_package::{self, DebianSuite};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::workspace::{self, say};
use crate::{go, part};

const BUILDKIT: &str = "v0.26.3";
const CRANE: &str = "github.com/google/go-containerregistry/cmd/crane@v0.20.7";

/// Variables with the programs that they name.
const PROGRAMS: [(&str, &str); 7] = [
    ("CRANE", "crane"),
    ("SKOPEO", "skopeo"),
    ("UMOCI", "umoci"),
    ("DOCKER_REGISTRY", "docker-registry"),
    ("BUILDX", "docker-buildx"),
    ("BUILDKITD", "buildkitd"),
    ("WINE", "wine"),
];

/// Where Docker keeps its plugins.
const PLUGINS: [&str; 4] = [
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
];

/// Every program by its variable; `None` for one that this system does not have.
#[derive(Debug)]
pub struct Tools(Vec<(&'static str, Option<PathBuf>)>);

impl Tools {
    fn locate() -> Result<Self> {
        let all = PROGRAMS.iter().map(|(name, _)| Ok((*name, locate(name)?)));
        Ok(Self(all.collect::<Result<_>>()?))
    }

    /// The path of a program; an error if it is missing.
    pub fn get(&self, name: &str) -> Result<&Path> {
        self.find(name).ok_or_else(|| TaskError::new(format!("there is no {name}")))
    }

    pub fn find(&self, name: &str) -> Option<&Path> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.and_then(|(_, path)| path.as_deref())
    }

    /// As environment variables; the value is empty if a part is missing.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let value = |path: &Option<PathBuf>| path.clone().unwrap_or_default().into_os_string();
        self.0.iter().map(|(name, path)| (*name, value(path))).collect()
    }

    /// As lines that a shell can read.
    pub fn lines(&self) -> String {
        let line = |(name, value): (&str, OsString)| {
            format!("{name}={}\n", quoted(&value.to_string_lossy()))
        };
        self.variables().into_iter().map(line).collect()
    }
}

fn quoted(text: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_./+@:,".contains(it);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// From the variable, `PATH`, Docker's plugin folders or our own cache.
fn locate(name: &str) -> Result<Option<PathBuf>> {
    if let Some(path) = std::env::var_os(name).filter(|value| !value.is_empty()) {
        return Ok(Some(path.into()));
    }
    let program = PROGRAMS.iter().find(|(known, _)| *known == name).map_or(name, |it| it.1);
    let own = std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker/cli-plugins"));
    let parts = workspace::parts()?.join("bin");
    let folders: Vec<_> =
        own.into_iter().chain(PLUGINS.map(PathBuf::from)).chain([parts]).collect();
    Ok(find_in(program, &folders))
}

/// How a missing program is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InstallMethod {
    /// By apt.
    Install,
    /// Unpacked from the package of this machine's suite, not installed: docker-registry's package
    /// starts a service that listens on every address.
    Unpack,
    /// Unpacked from the first suite that has it; its programs need only a libc, and bookworm's is
    /// new enough.
    UnpackNewer,
    /// Built from source, because Ubuntu has no such package.
    Build,
}

fn install_method(distribution: &str, package: &str) -> InstallMethod {
    match (distribution, package) {
        (_, "docker-registry") => InstallMethod::Unpack,
        ("debian", "crane" | "docker-buildx") => InstallMethod::UnpackNewer,
        (_, "crane") => InstallMethod::Build,
        _ => InstallMethod::Install,
    }
}

/// Installs everything that is missing.
pub fn install() -> Result<Tools> {
    let missing = missing()?;
    if !missing.is_empty() && !apt::is_here() {
        return Err(no_apt(&missing));
    }
    let packages = by_way(&missing, InstallMethod::Install);
    let here = by_way(&missing, InstallMethod::Unpack);
    let newer = by_way(&missing, InstallMethod::UnpackNewer);
    if !here.is_empty() {
        unpack(&apt::suite()?, &here)?;
    }
    if !newer.is_empty() {
        unpack("forky", &newer)?;
    }
    if !by_way(&missing, InstallMethod::Build).is_empty() {
        build_crane()?;
    }
    if !packages.is_empty() {
        apt::install(&packages)?;
    }
    if locate("BUILDKITD")?.is_none() && build_buildkit().is_err() {
        crate::interrupt::check()?;
        say("there is no BuildKit");
    }
    // Since trixie the client is a package of its own.
    if find("docker").is_none() {
        apt::install(&["docker-cli"])?;
    }
    Tools::locate()
}

fn by_way<'a>(packages: &[&'a str], wanted: InstallMethod) -> Vec<&'a str> {
    let distribution = apt::os_release("ID").unwrap_or_default();
    packages.iter().copied().filter(|it| install_method(&distribution, it) == wanted).collect()
}

/// The packages of the programs that are missing.
fn missing() -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    if !engine_is_here() {
        missing.extend(["docker.io", "iptables", "iproute2"]);
    }
    for (name, packages) in [
        ("BUILDX", &["docker-buildx"][..]),
        ("CRANE", &["crane"]),
        ("DOCKER_REGISTRY", &["docker-registry"]),
        ("SKOPEO", &["skopeo"]),
        ("UMOCI", &["umoci"]),
        ("WINE", &["wine", "wine64"]),
    ] {
        if locate(name)?.is_none() {
            missing.extend(packages);
        }
    }
    // The tests use podman as the kubelet; it needs an init program for its pods.
    if find("podman").is_none() {
        missing.extend(["podman", "catatonit"]);
    }
    if find("qemu-s390x-static").is_none() {
        missing.push("qemu-user-static");
    }
    Ok(missing)
}

fn no_apt(missing: &[&str]) -> TaskError {
    let names = missing.join(" ");
    TaskError::new(format!("this system has no apt, and these are missing: {names}"))
        .hint(
            "install them by your own means: they are found on PATH, or by the names CRANE, \
             SKOPEO, UMOCI, DOCKER_REGISTRY, BUILDX",
        )
        .hint(
            "docker.io: any Docker engine, docker-buildx: github.com/docker/buildx, \
             docker-registry: github.com/distribution/distribution",
        )
        .hint(
            "crane: github.com/google/go-containerregistry, skopeo: github.com/containers/skopeo, \
             umoci: github.com/opencontainers/umoci",
        )
}

fn engine_is_here() -> bool {
    find("docker").is_some() && (super::engine::answers(None) || find("dockerd").is_some())
}

/// Unpacks packages into the cache and links their programs into its `bin`.
fn unpack(suite: &str, packages: &[&str]) -> Result<()> {
    let parts = workspace::parts()?;
    let bin = parts.join("bin");
    fs::create_dir_all(&bin)?;
    let architecture = apt::architecture()?;
    for package in
        debian_package::files(DebianSuite { suite, architecture: &architecture }, packages)?
    {
        let name = package.file_stem().unwrap_or_default();
        let folder = parts.join("unpacked").join(name);
        if !folder.is_dir() {
            say(format_args!("unpacking {} into {}", package.display(), folder.display()));
            let work = part::temporary(&parts)?;
            let made = work.path().join("new");
            debian_package::unpack(&package, &made)?;
            part::finish(&made, &folder)?;
        }
        for programs in ["usr/bin", "usr/libexec/docker/cli-plugins"] {
            for program in part::entries(&folder.join(programs))? {
                if is_executable(&program) {
                    link(&program, &bin)?;
                }
            }
        }
    }
    Ok(())
}

/// Replaces the link by a rename, so that the folder always has it.
fn link(program: &Path, bin: &Path) -> Result<()> {
    let work = part::temporary(bin)?;
    let made = work.path().join("new");
    symlink(program, &made)?;
    let place = bin.join(program.file_name().unwrap_or_default());
    fs::rename(&made, &place).context(place.display())
}

fn go() -> Result<Cmd> {
    let path = path_with(go::provide()?.as_deref())?;
    Ok(Cmd::new("env").env("PATH", path).arg("go"))
}

/// Go checks the module against its checksum database.
fn build_crane() -> Result<()> {
    let bin = workspace::parts()?.join("bin");
    say(format_args!("building crane into {}", bin.display()));
    go()?.args(["install", CRANE]).env("GOBIN", bin).run()
}

/// A Go module of its own, because `go install` refuses modules with exclude directives. Go checks
/// all of them against its checksum database.
fn build_buildkit() -> Result<()> {
    let bin = workspace::parts()?.join("bin");
    say(format_args!("building BuildKit {BUILDKIT} into {}", bin.display()));
    let work = part::temporary(&bin)?;
    let module = format!("github.com/moby/buildkit/cmd/buildkitd@{BUILDKIT}");
    let flags = format!("-X github.com/moby/buildkit/version.Version={BUILDKIT}");
    let program = "github.com/moby/buildkit/cmd/buildkitd";
    for arguments in [
        &["mod", "init", "parts"][..],
        &["get", &module],
        &["build", "-trimpath", "-ldflags", &flags, "-o", "buildkitd", program],
    ] {
        go()?.args(arguments).dir(work.path()).text()?;
    }
    fs::rename(work.path().join("buildkitd"), bin.join("buildkitd")).context(bin.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_has_one_way_here() {
        assert_eq!(install_method("ubuntu", "docker-registry"), InstallMethod::Unpack);
        assert_eq!(install_method("debian", "crane"), InstallMethod::UnpackNewer);
        assert_eq!(install_method("ubuntu", "crane"), InstallMethod::Build);
        assert_eq!(install_method("ubuntu", "docker-buildx"), InstallMethod::Install);
        assert_eq!(install_method("debian", "skopeo"), InstallMethod::Install);
    }

    #[test]
    fn lines_are_read_by_a_shell() {
        let tools = Tools(vec![("CRANE", Some("/a b/it's".into())), ("WINE", None)]);
        assert_eq!(tools.lines(), "CRANE='/a b/it'\\''s'\nWINE=''\n");
        let script = format!("{}printf %s \"$CRANE\"", tools.lines());
        assert_eq!(Cmd::new("sh").args(["-c", &script]).text().unwrap(), "/a b/it's");
    }
}
