//! Takes an etcd data directory from any old version to any bundled one.
//!
//! `inspect` reads what is there, `plan` computes the steps, `run` takes them. `state` is what one
//! run leaves for the next, `report` writes results for people and programs, `cli` reads the
//! arguments. A module uses only those above it in this list: `platform`, `printable` and `error`,
//! `files`, `inspect`, `plan`, `settings`, `state`, `report`, `cli`, `run`.

mod cli;
mod error;
mod files;
pub mod inspect;
mod plan;
mod platform;
mod printable;
mod report;
mod run;
#[cfg(test)]
mod scratch;
mod settings;
mod state;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cli::arguments::Arguments;
use cli::reader::OptionReader;
use error::{MigrateError, MigrateErrorKind};
use inspect::snapshot::{self, Checksum};
use plan::bundled;
use printable::printable_lines;
use report::Report;
use report::event::EventLog;
use report::findings::Findings;
use report::format::OutputFormat;
use report::outcome::{self, RunOutcome};
use report::snapshot_status;
use run::{check, migration, rehearsal, restore};

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
    let started = Instant::now();
    let outcome = run_command(&reader, log);
    let reported = report_outcome(&reader, &outcome, started.elapsed());
    if let Err(failure) = reported {
        log.warn("not-reported", failure.cause);
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(log, &failure),
    }
}

/// Tells those who do not read the log how a run ended.
fn report_outcome(
    reader: &OptionReader<'_>,
    outcome: &Result<(), MigrateError>,
    duration: Duration,
) -> Result<(), MigrateError> {
    if let (Err(failure), Some(path)) = (outcome, reader.termination_log()) {
        outcome::write_termination(path, failure)?;
    }
    let (Some(path), Ok(options)) = (reader.metrics_file(), reader.options()) else {
        return Ok(());
    };
    let exit_code = outcome.as_ref().err().map_or(0, |failure| failure.kind.code());
    let target = &options.target.version.to_string();
    outcome::write_metrics(
        path,
        &RunOutcome { data_dir: &options.data_dir, target, exit_code, duration },
    )
}

fn run_command(reader: &OptionReader<'_>, log: EventLog) -> Result<(), MigrateError> {
    let arguments = reader.arguments;
    if arguments.has("help") {
        return print(include_str!("cli/help.txt"));
    }
    if arguments.has("version") {
        return print(VERSION_LINE);
    }
    bundled::load_facts(&reader.bin_dir())?;
    if arguments.has("restore-only") && arguments.words != ["restore"] {
        return Err(MigrateError::usage("--restore-only goes with `restore`"));
    }
    match arguments.words.as_slice() {
        [] if arguments.has("plan") => {
            let format = reader.plan_format()?;
            print(&migration::plan(&reader.options()?, format)?)
        }
        [] if arguments.has("json") => {
            Err(MigrateError::usage("--json goes with `status`, `check` or --plan"))
        }
        [] => migration::run(&reader.options()?, log),
        [word] if word == "check" => run_check(reader),
        [word] if word == "rehearse" => run_rehearsal(reader, log),
        [word] if word == "restore" => {
            let (options, request) = (reader.options()?, reader.restore_options()?);
            if arguments.has("plan") {
                return print(&restore::plan(&options, &request, reader.plan_format()?)?);
            }
            restore::run(&options, &request, log)
        }
        [word] if word == "status" => run_status(reader),
        [word, ..] => Err(MigrateError::usage(format_args!("unknown command: {}", word.display()))),
    }
}

/// Prints the plan, and takes it on a copy.
fn run_rehearsal(reader: &OptionReader<'_>, log: EventLog) -> Result<(), MigrateError> {
    let options = reader.options()?;
    let snapshot = reader.arguments.value("snapshot").map(|_| reader.restore_options());
    let snapshot = snapshot.transpose()?;
    print(&rehearsal::plan(&options, snapshot.as_ref(), reader.plan_format()?)?)?;
    let scratch = reader.arguments.value("scratch-dir").map(Path::new);
    rehearsal::run(&options, snapshot.as_ref(), scratch, log)
}

/// Prints the state of a data directory or of a snapshot.
fn run_status(reader: &OptionReader<'_>) -> Result<(), MigrateError> {
    let arguments = reader.arguments;
    let format = if arguments.has("json") { OutputFormat::Json } else { OutputFormat::Text };
    if arguments.value("snapshot").is_none() {
        let backups = arguments.value("backup-dir").map(Path::new);
        return print(&migration::status(&reader.layout()?, backups, format)?);
    }
    let path = reader.snapshot()?;
    let status = snapshot_status::look(&path)?;
    print(&status.print(format))?;
    match status.checksum {
        Checksum::Wrong => Err(snapshot::wrong_checksum(&path)),
        Checksum::Missing | Checksum::Valid => Ok(()),
    }
}

/// Prints what `check` finds. An error if something of it is one.
fn run_check(reader: &OptionReader<'_>) -> Result<(), MigrateError> {
    let arguments = reader.arguments;
    let format = if arguments.has("json") { OutputFormat::Json } else { OutputFormat::Text };
    let target = reader.target_version()?;
    if let Some(text) = reader.settings_text()? {
        let (findings, fixed) = check::settings(&text, &target)?;
        if arguments.has("fix") {
            eprint(&findings.print(format));
            return print(&fixed);
        }
        return report_findings(&findings, format);
    }
    if arguments.has("fix") {
        return Err(MigrateError::usage("--fix goes with --manifest or --args"));
    }
    let options = reader.options()?;
    if arguments.value("snapshot").is_some() {
        let request = reader.restore_options()?;
        return report_findings(&check::snapshot(&options, &request), format);
    }
    report_findings(&check::data_directory(&options), format)
}

fn report_findings(findings: &Findings<'_>, format: OutputFormat) -> Result<(), MigrateError> {
    print(&findings.print(format))?;
    if !findings.has_errors() {
        return Ok(());
    }
    let what = format_args!("{} cannot go to {}", findings.subject.1.display(), findings.target);
    Err(MigrateError::new(MigrateErrorKind::NotMigratable, what).id("findings"))
}

/// Prints to stderr, where it does not mix with what stdout is for.
fn eprint(text: &str) {
    let _ = io::stderr().write_all(printable_lines(text).as_bytes());
}

/// Prints to stdout. Exit code 0 must mean that all of it arrived there.
fn print(text: &str) -> Result<(), MigrateError> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(printable_lines(text).as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| MigrateError::file("write to", Path::new("standard output"), &error))
}

fn end(log: EventLog, failure: &MigrateError) -> ExitCode {
    log.error(failure);
    failure.exit_code()
}
