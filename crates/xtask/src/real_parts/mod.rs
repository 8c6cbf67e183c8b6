//! Runs a command beside the real Docker engine, registry and image tools that tests use.
//!
//! The command gets the variables of [`tools`], `ETCDIMG_REAL=1`, `DOCKER_HOST`, `DOCKER_CONFIG`
//! (an empty one that knows buildx), `ETCDIMG_TEST_REGISTRY=127.0.0.1:PORT` and
//! `ETCDIMG_TEST_REGISTRY_LOG` (its access log), `ETCDIMG_TEST_EMULATED` (the platforms of other
//! machines whose containers run here, by qemu), and `ETCDIMG_TEST_BUILDER` (a buildx builder with
//! its own BuildKit, which keeps its cache). Afterwards every process, mount, bridge and firewall
//! rule of ours is removed.

mod emulators;
mod engine;
mod network;
pub mod tools;

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use emulators::Emulators;
use engine::Engine;
use tools::Tools;

use crate::buildkit;
use crate::command::{Cmd, code, path_with};
use crate::daemon::{self, Daemon};
use crate::error::{Result, TaskError};
use crate::interrupt;
use crate::registry::{self, RegistryDaemon};
use crate::work::Work;
use crate::workspace::{self, say};

const BUILDER: &str = "etcdimg-test";

/// Everything that runs beside the command. It ends in the order of the fields.
struct TestEnvironment {
    builder: Option<Daemon>,
    registry: RegistryDaemon,
    emulators: Emulators,
    engine: Engine,
    tools: Tools,
    work: Work,
}

/// Runs a command beside the engine, the registry and the builder.
pub fn run(command: &[String]) -> Result<()> {
    let environment = TestEnvironment::open()?;
    let child = environment.command(command)?;
    let status = await_child(child)?;
    if status.success() {
        return Ok(());
    }
    Err(TaskError::new(format!("`{}` failed with {status}", command.join(" ")))
        .with_code(code(status)))
}

impl TestEnvironment {
    fn open() -> Result<Self> {
        let work = Work::new(&std::env::temp_dir(), "etcdimg-real.")?;
        let tools = tools::install()?;
        let plugins = work.path().join("docker-config/cli-plugins");
        fs::create_dir_all(&plugins)?;
        symlink(tools.get("BUILDX")?, plugins.join("docker-buildx"))?;
        let engine = engine::provide(work.path())?;
        let emulators = Emulators::provide();
        let registry = registry::start(&registry::RegistryDaemonOptions {
            program: tools.get("DOCKER_REGISTRY")?,
            work: work.path(),
            data: &work.path().join("registry"),
            prefix: &[],
            allows_delete: true,
        })?;
        let mut environment = Self { builder: None, registry, emulators, engine, tools, work };
        environment.builder = environment.start_builder()?;
        Ok(environment)
    }

    /// A BuildKit beside the engine, whose own may be too old for what etcdimg asks of it. It
    /// keeps its caches from run to run. If it does not start, tests run without it.
    fn start_builder(&self) -> Result<Option<Daemon>> {
        let Some(program) = self.tools.find("BUILDKITD") else { return Ok(None) };
        let work = self.work.path();
        let root = workspace::parts()?.join("buildkit");
        let started = buildkit::start(&buildkit::BuildkitOptions { program, work, root: &root })?;
        let create = ["buildx", "create", "--name", BUILDER, "--driver", "remote"];
        let client = self.docker().args(create).arg(buildkit::address(work));
        if started.is_some() && client.succeeds() {
            return Ok(started);
        }
        interrupt::check()?;
        let log = fs::read_to_string(buildkit::log(work)).unwrap_or_default();
        say(format_args!("BuildKit does not start here\n{}", last_lines(&log)));
        Ok(None)
    }

    fn docker(&self) -> Cmd {
        let config = self.work.path().join("docker-config");
        Cmd::new("docker").env("DOCKER_HOST", &self.engine.host).env("DOCKER_CONFIG", config)
    }

    fn command(&self, words: &[String]) -> Result<std::process::Child> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(TaskError::new("there is no command to run"));
        };
        let command = Cmd::new(program)
            .args(arguments)
            .without_cargo_run()
            .our_locale()
            .our_input()
            .envs(self.tools.variables())
            .env("PATH", path_with(None)?)
            .env("ETCDIMG_REAL", "1")
            .env("DOCKER_HOST", &self.engine.host)
            .env("DOCKER_CONFIG", self.work.path().join("docker-config"))
            .env("ETCDIMG_TEST_REGISTRY", &self.registry.address)
            .env("ETCDIMG_TEST_REGISTRY_LOG", &self.registry.access_log)
            .env("ETCDIMG_TEST_EMULATED", self.emulators.platforms.join(" "));
        let has_builder = self.builder.is_some();
        if has_builder { command.env("ETCDIMG_TEST_BUILDER", BUILDER) } else { command }.start()
    }
}

/// Waits for the command. On a signal it is ended, with all processes that it has started.
fn await_child(mut child: std::process::Child) -> Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Err(failure) = interrupt::check() {
            interrupt::shielded(|| daemon::end_all(&daemon::family(child.id())));
            let _ = child.wait();
            return Err(failure);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log() {
        assert_eq!(last_lines("1\n2\n3\n4\n5\n6\n"), "2\n3\n4\n5\n6");
        assert_eq!(last_lines(""), "");
    }

    #[test]
    fn a_command_ends_with_its_status() {
        let child = Cmd::new("sh").args(["-c", "exit 3"]).start().unwrap();
        assert_eq!(await_child(child).unwrap().code(), Some(3));
    }
}
