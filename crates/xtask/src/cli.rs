//! The command line: one subcommand for each task.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The test environment of etcdimg: real programs for its tests, fixtures and benchmarks.
///
/// Everything that is fetched or compiled stays in the cache: `ETCDIMG_CACHE`, else
/// `$XDG_CACHE_HOME/etcdimg`, else `~/.cache/etcdimg`.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
pub struct XtaskCli {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Debug, Subcommand)]
pub enum Task {
    /// Make sure that `migrate` can be compiled for every platform
    Cross,
    /// Print the folder of a Go that can compile etcd; nothing if PATH has one
    Go,
    /// Print the paths of Debian package files of any suite and architecture
    DebianPackage(DebianPackageArgs),
    /// Make a base image of the distribution's busybox; print its digest
    BusyboxBase(BusyboxBaseArgs),
    /// Make every base image where registries cannot be reached; print the arguments for etcdimg
    Bases {
        /// Where the layouts go
        directory: PathBuf,
    },
    /// Make a base that stands in for Windows Nano Server; print its digest
    NanoserverStandIn {
        /// For example 10.0.20348.5499
        os_version: String,
        /// Where the layout goes
        directory: PathBuf,
    },
    /// Make an image in which docker buildx compiles; print its digest
    BuilderImage(BuilderImageArgs),
    /// Print a folder with etcd servers of every version
    RealEtcd {
        /// Also install those of Debian's suites
        #[arg(long)]
        debian: bool,
    },
    /// Print a folder with etcd servers and `migrate` for Windows
    WindowsPrograms,
    /// Run the unit tests of `migrate` on a big-endian machine
    TestForeign {
        /// What to compile for
        #[arg(default_value = "s390x-unknown-linux-musl")]
        triple: String,
        /// The emulator [default: qemu-ARCH-static]
        qemu: Option<String>,
    },
    /// The real Docker engine, registry and image tools that tests use
    RealParts {
        #[command(subcommand)]
        what: RealParts,
    },
    /// Measure builds, pushes and `migrate` (use scripts/bench, which compiles for release)
    Bench(BenchArgs),
}

#[derive(Debug, Subcommand)]
pub enum RealParts {
    /// Make the tools available and print where they are, as NAME=path lines
    Install,
    /// Run a command beside a private registry and Docker engine
    Run {
        /// The command with its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// Without a part, everything: builds, pushes and `migrate`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    /// How many times everything is measured
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    pub runs: usize,
    /// File for the results of every single run of the builds
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(subcommand)]
    pub part: Option<BenchPart>,
}

#[derive(Debug, Subcommand)]
pub enum BenchPart {
    /// Pushes beside crane and Docker
    Push(BenchPushArgs),
    /// `migrate` on a large data directory, beside the servers alone
    Migrate(BenchMigrateArgs),
}

#[derive(Debug, Args)]
pub struct BenchPushArgs {
    /// How many times everything is measured
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    pub runs: usize,
    /// Delay of the long link, there and back
    #[arg(long, value_name = "MILLISECONDS", default_value_t = Self::DELAY)]
    pub delay: u64,
}

impl BenchPushArgs {
    pub const DELAY: u64 = 20;
}

#[derive(Debug, Args)]
pub struct BenchMigrateArgs {
    /// How many times everything is measured
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    pub runs: usize,
    /// The size of the data directory
    #[arg(long, default_value_t = Self::MIB)]
    pub mib: u64,
}

impl BenchMigrateArgs {
    pub const MIB: u64 = 1024;
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

#[derive(Debug, Args)]
pub struct DebianPackageArgs {
    /// For example bookworm
    pub suite: String,
    /// As Debian calls it, for example arm64
    pub architecture: String,
    /// NAME, or NAME=VERSION if the suite has several versions
    #[arg(required = true)]
    pub packages: Vec<String>,
}

#[derive(Debug, Args)]
pub struct BusyboxBaseArgs {
    /// The suite of the package [default: the one that this machine runs]
    #[arg(long)]
    pub suite: Option<String>,
    /// OS/ARCH[/VARIANT]
    pub platform: String,
    /// Where the tar goes [default: into the cache, and the argument for --base is printed]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BuilderImageArgs {
    /// The folder with versions.yaml [default: the repository]
    #[arg(short = 'C', long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Leave out Rust and zig, so that only etcd can be compiled in it
    #[arg(long)]
    pub without_rust: bool,
    /// Where the layout goes
    pub out: PathBuf,
    /// HOST:PORT/NAME of a repository to which crane pushes it
    pub repository: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <XtaskCli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let words = ["xtask", "real-parts", "run", "cargo", "test", "--test", "it", "--", "-q"];
        let Task::RealParts { what: RealParts::Run { command } } = XtaskCli::parse_from(words).task
        else {
            panic!("another task");
        };
        assert_eq!(command, words[3..]);
    }

    #[test]
    fn a_bench_runs_at_least_once() {
        assert!(XtaskCli::try_parse_from(["xtask", "bench", "--runs", "0"]).is_err());
        assert!(XtaskCli::try_parse_from(["xtask", "bench", "push", "--runs", "1"]).is_ok());
        assert!(XtaskCli::try_parse_from(["xtask", "bench", "--json", "it.json"]).is_ok());
    }
}
