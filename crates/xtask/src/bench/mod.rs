//! Benchmarks: builds beside crane and buildx, pushes beside crane and Docker, and `migrate` on a
//! large data directory. docs/performance.md tells what the numbers mean.

mod builds;
mod content;
mod link;
mod long_link;
mod migrate;
mod peers;
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

use crate::cli::{BenchArgs, BenchPart, MigrateArgs, PushArgs};
use crate::command::Cmd;
use crate::failure::{Failure, Result};
use crate::workspace::{self, say};

/// Names a program that is built already.
const PROGRAM: &str = "ETCDIMG";

pub fn run(arguments: &BenchArgs) -> Result<()> {
    if cfg!(debug_assertions) {
        return Err(Failure::new("a benchmark must be compiled for release")
            .hint("run it as scripts/bench"));
    }
    match &arguments.part {
        None => all(arguments.runs, arguments.json.as_deref()),
        Some(BenchPart::Push(PushArgs { runs, delay })) => push(&program()?, *runs, *delay),
        Some(BenchPart::Migrate(MigrateArgs { runs, mib })) => {
            migrate::run(&migrate::Options { runs: *runs, mib: *mib })
        }
    }
}

fn all(runs: usize, json: Option<&Path>) -> Result<()> {
    let program = builds::run(&builds::Options { runs, json })?;
    say("pushes beside crane and docker");
    push(&program, runs, PushArgs::DELAY)?;
    say("migrate on a large data directory");
    migrate::run(&migrate::Options { runs, mib: MigrateArgs::MIB })
}

fn push(program: &Path, runs: usize, delay: u64) -> Result<()> {
    push::run(&push::Options { runs, delay: Duration::from_millis(delay), program })
}

fn program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(PROGRAM).filter(|value| !value.is_empty()) {
        return Ok(std::path::absolute(program)?);
    }
    Cmd::cargo().args(["build", "--release", "--locked", "--quiet", "--bin=etcdimg"]).run()?;
    workspace::built("release", "etcdimg")
}
