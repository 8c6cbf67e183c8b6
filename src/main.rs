//! The program: parses the command line, runs the command and ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use etcdimg::cli::Cli;
use etcdimg::ui::{ProgressMode, Ui, Verbosity};

fn main() -> ExitCode {
    match etcdimg::commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            Ui::new(Verbosity::Normal, ProgressMode::None).error(failure.to_string());
            failure.exit_code()
        }
    }
}
