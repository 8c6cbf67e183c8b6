//! One run of the program: look, plan, and either print the plan or walk it.

use std::fs;
use std::path::{Path, PathBuf};

use etcd_version::Bundled;

use crate::binaries;
use crate::carried;
use crate::durable::{self, beside};
use crate::event::Log;
use crate::failure::{Failure, Kind};
use crate::found::{self, Found};
use crate::lock::{self, Lock};
use crate::options::{Format, Options, PlainBinaries};
use crate::origin::{self, Origin, Unclear};
use crate::plan::{self, Step};
use crate::platform;
use crate::report::{Report, describe};
use crate::version_pair::VersionPair;

struct Journey {
    found: Found,
    origin: Origin,
    steps: Vec<Step>,
}

/// Prints what would be done. Reads only.
pub fn plan(options: &Options, format: Format) -> Result<String, Failure> {
    let bundled = carried::bundled(options.bundled.as_ref(), &options.bin_dir)?;
    let journey = journey(options, &bundled)?;
    let backup = backup_dir(options);
    let report =
        Report { options, origin: &journey.origin, steps: &journey.steps, backup: &backup };
    Ok(report.print(format))
}

pub fn run(options: &Options, log: Log) -> Result<(), Failure> {
    for flag in &options.ignored {
        log.info("ignored", format_args!("--{flag} has no effect here"));
    }
    let bundled = carried::bundled(options.bundled.as_ref(), &options.bin_dir)?;
    // Once without the lock, so that what cannot be migrated is not touched at all.
    journey(options, &bundled)?;
    create(options, log)?;
    let _lock = Lock::take(&options.data_dir)?;
    let journey = journey(options, &bundled)?;
    log.info(
        "found",
        format_args!("{}: {}", options.data_dir.display(), describe(&journey.origin)),
    );
    if let Some(step) = journey.steps.iter().find(|step| !matches!(step, Step::Record(_))) {
        return Err(Failure::new(
            Kind::NotMigratable,
            format_args!("the plan begins with `{step}`, which this build cannot do"),
        ));
    }
    refuse_while_served(options)?;
    for step in &journey.steps {
        if let Step::Record(version) = step {
            durable::record(&options.data_dir, &VersionPair::etcd3(version.clone()))
                .map_err(Failure::in_step)?;
        }
    }
    if options.plain_binaries == PlainBinaries::Replace {
        binaries::place(&options.bin_dir, &options.target.version, log)?;
    }
    log.info(
        "done",
        format_args!(
            "{} is at {}: etcd {} may start now",
            options.data_dir.display(),
            options.target,
            options.target.version
        ),
    );
    Ok(())
}

fn journey(options: &Options, bundled: &Bundled) -> Result<Journey, Failure> {
    refuse_outside_wal(options)?;
    let found = found::look(&options.data_dir)?;
    let origin = origin::origin(&found, options.trust).map_err(|unclear| explain(&unclear))?;
    let steps =
        plan::steps(&origin, &options.target, bundled, options.downgrades).map_err(|no_path| {
            let failure = Failure::new(Kind::NotMigratable, &no_path);
            no_path.hint().into_iter().fold(failure, Failure::hint)
        })?;
    Ok(Journey { found, origin, steps })
}

/// Only what lies in the data directory is read, copied and moved.
fn refuse_outside_wal(options: &Options) -> Result<(), Failure> {
    let named = |argument: &String| {
        // Go takes one dash for two.
        let flag = argument.split('=').next().unwrap_or_default().trim_start_matches('-');
        argument.starts_with('-') && ["wal-dir", "data-dir", "config-file"].contains(&flag)
    };
    match options.member.extra_arguments.iter().find(|argument| named(argument)) {
        None => Ok(()),
        Some(argument) => Err(Failure::new(
            Kind::Usage,
            format_args!("`{argument}` among the extra arguments is not supported"),
        )
        .hint("data outside --data-dir would neither be backed up nor migrated")),
    }
}

fn explain(unclear: &Unclear) -> Failure {
    let failure = Failure::new(Kind::NotMigratable, unclear);
    match unclear {
        Unclear::Contradiction { .. } => failure
            .hint("`--trust data` goes by the data, `--trust file` by version.txt")
            .hint("an etcd that was started without migrate leaves version.txt behind"),
        Unclear::NoWitness => {
            failure.hint("write `<version>/etcd3` into version.txt if you know which etcd it was")
        }
    }
}

/// Creates the data directory if it is missing, and sets its mode if one is asked for.
fn create(options: &Options, log: Log) -> Result<(), Failure> {
    let path = &options.data_dir;
    if !path.exists() {
        log.info("create", format_args!("{} does not exist, creating it", path.display()));
        fs::create_dir_all(path).map_err(|error| Failure::file("create", path, &error))?;
    }
    let Some(mode) = options.data_dir_mode else { return Ok(()) };
    platform::set_mode(path, mode).map_err(|error| Failure::file("set the mode of", path, &error))
}

fn refuse_while_served(options: &Options) -> Result<(), Failure> {
    if !lock::is_served(&options.data_dir.join("member").join("snap").join("db")) {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Locked,
        format_args!("an etcd server is running on {}", options.data_dir.display()),
    )
    .hint("stop it first; this changed nothing"))
}

/// Beside the data directory; inside it when that is a file system of its own, since what lies
/// beside a mount point is somewhere else, in a container gone with the container.
fn backup_dir(options: &Options) -> PathBuf {
    if let Some(directory) = &options.backups.directory {
        return directory.clone();
    }
    let path: &Path = &options.data_dir;
    let is_mount = matches!(platform::is_same_file_system(path, durable::parent(path)), Ok(false));
    if is_mount { lock::state_dir(path).join("backup") } else { beside(path, ".bak") }
}
