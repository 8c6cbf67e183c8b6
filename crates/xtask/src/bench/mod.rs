//! Benchmarks: builds beside crane and buildx, pushes beside crane and Docker, and `migrate` on a
//! large data directory. docs/performance.md explains the results.

mod builds;
mod compared_tools;
mod content;
mod link;
mod long_link;
mod migrate;
mod push;
mod push_images;
mod rates;
mod report;
mod servers;
mod statistics;
mod timing;
mod xfs;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{BenchArgs, BenchMigrateArgs, BenchPart, BenchPushArgs};
use crate::command::Cmd;
use crate::error::{Result, TaskError};
use crate::workspace::say;

/// The variable with the path of an etcdimg that is already built.
const PROGRAM: &str = "ETCDIMG";

pub fn run(arguments: &BenchArgs) -> Result<()> {
    if cfg!(debug_assertions) {
        return Err(TaskError::new("a benchmark must be compiled for release")
            .hint("run it as scripts/bench"));
    }
    match &arguments.part {
        None => all(arguments.runs, arguments.json.as_deref()),
        Some(BenchPart::Push(BenchPushArgs { runs, delay })) => push(&program()?, *runs, *delay),
        Some(BenchPart::Migrate(BenchMigrateArgs { runs, mib })) => {
            migrate::run(&migrate::MigrateBenchOptions { runs: *runs, mib: *mib })
        }
    }
}

fn all(runs: usize, json: Option<&Path>) -> Result<()> {
    let program = builds::run(&builds::BuildBenchOptions { runs, json })?;
    say("pushes beside crane and docker");
    push(&program, runs, BenchPushArgs::DELAY)?;
    say("migrate on a large data directory");
    migrate::run(&migrate::MigrateBenchOptions { runs, mib: BenchMigrateArgs::MIB })
}

fn push(program: &Path, runs: usize, delay: u64) -> Result<()> {
    push::run(&push::PushBenchOptions { runs, delay: Duration::from_millis(delay), program })
}

fn program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(PROGRAM).filter(|value| !value.is_empty()) {
        return Ok(std::path::absolute(program)?);
    }
    Cmd::cargo().args(["build", "--release", "--locked", "--quiet", "--bin=etcdimg"]).run()?;
    crate::built::path("release", "etcdimg")
}
