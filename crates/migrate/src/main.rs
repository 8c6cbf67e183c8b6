//! Takes an etcd data directory from any old version to any bundled one.
//!
//! `options` says what is wanted, `found` what is there, `origin` which version that is, `plan`
//! computes the steps, `walk` takes them.

mod arguments;
mod backup;
mod binaries;
mod bolt;
mod carried;
mod command;
mod comparison;
mod downgrade;
mod durable;
mod event;
mod failure;
mod found;
mod http;
mod journal;
mod json;
mod keys;
mod lock;
mod migration;
mod options;
mod origin;
mod orphan;
mod peers;
mod plan;
mod platform;
mod protobuf;
mod report;
mod room;
#[cfg(test)]
mod scratch;
mod series;
mod server;
mod shelf;
mod status;
mod status_report;
mod stop;
mod tool;
mod version_pair;
mod wait;
mod wal;
mod walk;
mod words;

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use arguments::Arguments;
use event::Log;
use failure::Failure;
use options::{Format, Lookup};

/// In one piece, because `etcdimg` looks for it in the finished program.
const VERSION_LINE: &str = concat!("etcdimg-migrate ", env!("CARGO_PKG_VERSION"), "\n");

fn main() -> ExitCode {
    let environment = |name: &str| env::var(name).ok();
    let arguments = match Arguments::parse(env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => return end(Log::new(Format::Text), &Failure::usage(error)),
    };
    let lookup = Lookup { arguments: &arguments, environment: &environment };
    let log = match lookup.log_format() {
        Ok(format) => Log::new(format),
        Err(failure) => return end(Log::new(Format::Text), &failure),
    };
    match run(&lookup, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(log, &failure),
    }
}

fn run(lookup: &Lookup<'_>, log: Log) -> Result<(), Failure> {
    let arguments = lookup.arguments;
    if arguments.has("help") {
        return tell(include_str!("help.txt"));
    }
    if arguments.has("version") {
        return tell(VERSION_LINE);
    }
    match arguments.words.as_slice() {
        [] if arguments.has("plan") => {
            let format = lookup.plan_format()?;
            tell(&migration::plan(&lookup.options()?, format)?)
        }
        [] if arguments.has("json") => Err(Failure::usage("--json goes with `status` or --plan")),
        [] => migration::run(&lookup.options()?, log),
        [word] if word == "status" => {
            let backups = arguments.value("backup-dir").map(Path::new);
            let format = if arguments.has("json") { Format::Json } else { Format::Text };
            tell(&migration::status(&lookup.data_dir()?, backups, format)?)
        }
        [word, ..] => Err(Failure::usage(format_args!("unknown command: {word}"))),
    }
}

/// What was asked for, in full or not with exit code 0.
fn tell(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::file("write to", Path::new("standard output"), &error))
}

fn end(log: Log, failure: &Failure) -> ExitCode {
    log.error(&failure.cause, &failure.hints);
    failure.exit_code()
}
