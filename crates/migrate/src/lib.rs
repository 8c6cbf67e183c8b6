//! Takes an etcd data directory from any old version to any bundled one.
//!
//! `inspect` reads what is there, `plan` computes the steps, `run` takes them. `state` is what one
//! run leaves for the next, `report` writes results for people and programs, `cli` reads the
//! arguments. A module uses only those above it in this list: `platform` and `error`, `files`,
//! `inspect`, `plan`, `state`, `report`, `cli`, `run`.

mod cli;
mod error;
mod files;
pub mod inspect;
mod plan;
mod platform;
mod report;
mod run;
#[cfg(test)]
mod scratch;
mod state;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use cli::arguments::Arguments;
use cli::reader::OptionReader;
use error::MigrateError;
use report::event::EventLog;
use report::format::OutputFormat;
use run::migration;

/// What `--version` prints. In one piece, because `etcdimg verify` searches the finished program
/// for it.
const VERSION_LINE: &str = concat!("etcdimg-migrate ", env!("CARGO_PKG_VERSION"), "\n");

/// Runs the program. `arguments` come without the program's own name, and `environment` gives the
/// value of a variable if it is set.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> ExitCode {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return end(EventLog::new(OutputFormat::Text), &MigrateError::usage(error)),
    };
    let reader = OptionReader { arguments: &arguments, environment };
    let log = match reader.log_format() {
        Ok(format) => EventLog::new(format),
        Err(failure) => return end(EventLog::new(OutputFormat::Text), &failure),
    };
    match run_command(&reader, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(log, &failure),
    }
}

fn run_command(reader: &OptionReader<'_>, log: EventLog) -> Result<(), MigrateError> {
    let arguments = reader.arguments;
    if arguments.has("help") {
        return print(include_str!("cli/help.txt"));
    }
    if arguments.has("version") {
        return print(VERSION_LINE);
    }
    match arguments.words.as_slice() {
        [] if arguments.has("plan") => {
            let format = reader.plan_format()?;
            print(&migration::plan(&reader.options()?, format)?)
        }
        [] if arguments.has("json") => {
            Err(MigrateError::usage("--json goes with `status` or --plan"))
        }
        [] => migration::run(&reader.options()?, log),
        [word] if word == "status" => {
            let backups = arguments.value("backup-dir").map(Path::new);
            let format =
                if arguments.has("json") { OutputFormat::Json } else { OutputFormat::Text };
            print(&migration::status(&reader.layout()?, backups, format)?)
        }
        [word, ..] => Err(MigrateError::usage(format_args!("unknown command: {}", word.display()))),
    }
}

/// Prints to stdout. Exit code 0 must mean that all of it arrived there.
fn print(text: &str) -> Result<(), MigrateError> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| MigrateError::file("write to", Path::new("standard output"), &error))
}

fn end(log: EventLog, failure: &MigrateError) -> ExitCode {
    log.error(&failure.cause, &failure.hints);
    failure.exit_code()
}
