//! One run of the program: reads the data, makes the plan, and prints it or takes its steps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use etcd_version::Bundled;

use crate::cli::options::{Options, PlainBinaries, ServerOptions};
use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::current_version::{self, CurrentVersion, UnclearVersion};
use crate::inspect::data_dir::{self, DataDir, DataDirContents};
use crate::inspect::layout::DataLayout;
use crate::plan::bundled;
use crate::plan::steps::{self, Step};
use crate::platform;
use crate::report::Report;
use crate::report::event::EventLog;
use crate::report::format::OutputFormat;
use crate::report::plan_text::{PlanReport, describe};
use crate::report::status;
use crate::run::binaries;
use crate::run::command::Purpose;
use crate::run::fitted_flags;
use crate::run::orphan;
use crate::run::runner::{self, GOES_ON, Runner};
use crate::run::sameness::{Sameness, last_entry};
use crate::run::server::ServerContext;
use crate::run::signal::StopSignal;
use crate::run::step_context::StepContext;
use crate::state::backup_store::BackupStore;
use crate::state::journal::{self, DONE, Journal};
use crate::state::lock::{self, DataDirLock};
use crate::state::swap::Swap;

/// The data and the steps to the target version.
pub(super) struct Migration {
    pub(super) found: DataDir,
    journal: Option<Journal>,
    pub(super) origin: CurrentVersion,
    pub(super) steps: Vec<Step>,
}

/// The output of `--plan`. Changes nothing.
pub fn plan(options: &Options, format: OutputFormat) -> Result<String, MigrateError> {
    refuse_arguments(options)?;
    refuse_backups_within_member(options)?;
    let bundled = bundled::bundled(options.bundled.as_ref(), &options.bin_dir)?;
    let migration = peek(options, &bundled)?;
    let backup = store(options).directory;
    let report = PlanReport {
        data_dir: &options.data_dir,
        target: &options.target,
        origin: &migration.origin,
        steps: &migration.steps,
        backup: &backup,
        restore: None,
    };
    Ok(report.print(format))
}

/// The output of `status`. Changes nothing.
pub fn status(
    layout: &DataLayout,
    backups: Option<&Path>,
    format: OutputFormat,
) -> Result<String, MigrateError> {
    let data_dir = &layout.data_dir;
    if !data_dir.exists() {
        let error = io::Error::from(io::ErrorKind::NotFound);
        return Err(MigrateError::file("read the data directory", data_dir, &error));
    }
    Ok(status::look(layout, &BackupStore::of(data_dir, backups))?.print(format))
}

/// Migrates the data if needed.
pub fn run(options: &Options, log: EventLog) -> Result<(), MigrateError> {
    refuse_arguments(options)?;
    refuse_backups_within_member(options)?;
    let stop = begin(options, log)?;
    let bundled = bundled::bundled(options.bundled.as_ref(), &options.bin_dir)?;
    if !Swap::of(&options.layout).is_pending() {
        // First without the lock: data that cannot be migrated is then not touched at all, and data
        // that is at the target may be on a read-only file system.
        let migration = peek(options, &bundled)?;
        runner::check_programs(&migration.steps, options)?;
        if migration.is_arrived(options) {
            return arrive(options, log);
        }
    }
    let _lock = take_over(options, &stop, log)?;
    let migration = prepare(options, &bundled)?;
    let from = describe(&migration.origin);
    log.info("found", format_args!("{}: {from}", options.data_dir.display()));
    for (path, shape) in options.layout.unusual() {
        log.info("layout", format_args!("{} {shape}", path.display()));
    }
    take_steps(options, &migration, &stop, log)?;
    // The data was changed, so a failure must not say that nothing was.
    arrive(options, log).map_err(|failure| failure.in_step().hint(GOES_ON))
}

/// Makes the directory this run's own: locks it, finishes what an earlier run was moving, and ends
/// what that has left running.
pub(super) fn take_over(
    options: &Options,
    stop: &StopSignal,
    log: EventLog,
) -> Result<DataDirLock, MigrateError> {
    create(options, log)?;
    let lock = DataDirLock::take(&options.data_dir)?;
    set_mode(options)?;
    let swap = Swap::of(&options.layout);
    if swap.is_pending() {
        log.info("resume", "moving the restored data into place, where the last run had stopped");
        swap.finish().map_err(|failure| failure.in_step().hint(GOES_ON))?;
    }
    orphan::end_all(options, stop, log)?;
    swap.clear()?;
    Ok(lock)
}

/// Begins to listen for signals, and says what has no effect.
pub(super) fn begin(options: &Options, log: EventLog) -> Result<StopSignal, MigrateError> {
    let stop = StopSignal::listen().map_err(|error| {
        MigrateError::new(
            MigrateErrorKind::System,
            format_args!("cannot listen for signals: {error}"),
        )
    })?;
    for flag in &options.ignored {
        log.info("ignored", format_args!("--{flag} has no effect here"));
    }
    Ok(stop)
}

/// Takes the steps, and notes in the journal how that ended.
pub(super) fn take_steps(
    options: &Options,
    migration: &Migration,
    stop: &StopSignal,
    log: EventLog,
) -> Result<(), MigrateError> {
    runner::check_programs(&migration.steps, options)?;
    let before = migration.journal.clone();
    let has_work = migration.steps.iter().any(Step::changes_data);
    let kept = before.as_ref().filter(|journal| journal.is_unfinished());
    let server_options = server_options(options, &migration.found);
    let mut runner = Runner {
        context: StepContext {
            options,
            server: ServerContext {
                purpose: Purpose::Upgrade,
                options: &server_options,
                timeouts: &options.timeouts,
                server_log: options.server_log,
                stop,
                log,
            },
            members: match &migration.found.contents {
                DataDirContents::Etcd3(data) => &data.members,
                DataDirContents::Empty | DataDirContents::Etcd2 => &[],
            },
            from: match &migration.origin {
                CurrentVersion::Etcd3(known) => Some(known.series),
                CurrentVersion::Fresh | CurrentVersion::Etcd2 => None,
            },
        },
        store: &store(options),
        journal: Journal {
            target: options.target.to_string(),
            step: kept.map(|journal| journal.step.clone()).unwrap_or_default(),
            backup: kept.and_then(|journal| journal.backup.clone()),
            snapshot: kept.map(|journal| journal.snapshot.clone()).unwrap_or_default(),
            baseline: kept.and_then(|journal| journal.baseline.clone()),
            outcome: "running".to_owned(),
            data: kept.map(|journal| journal.data.clone()).unwrap_or_default(),
        },
        sameness: Sameness::after(kept, kept.and_then(|_| last_entry(&options.layout))),
        has_begun: false,
        has_current_backup: false,
    };
    let outcome = runner.take(&migration.steps).map_err(|failure| runner.explain(failure));
    runner.remember_data();
    match &outcome {
        Ok(()) => DONE.clone_into(&mut runner.journal.outcome),
        Err(failure) => {
            runner.journal.outcome.clone_from(&failure.cause);
            runner.sameness.leave(&options.layout, &mut runner.journal);
        }
    }
    // A plan that only records needs no journal, unless there is one to close.
    if has_work || before.is_some() {
        let noted = runner.note();
        return outcome.and_then(|()| noted.map_err(|failure| runner.explain(failure)));
    }
    outcome
}

/// How servers are started. A server publishes its name and its URLs, so for a single member they
/// are those in the data. One of several members must use its own port, which the others know.
fn server_options(options: &Options, found: &DataDir) -> ServerOptions {
    let member = options.member.clone();
    let DataDirContents::Etcd3(data) = &found.contents else { return member };
    // Nobody connects to the only member of a cluster.
    let is_alone = data.members.len() <= 1;
    let peer_port = is_alone.then(|| member.peer_port.unwrap_or(0));
    let Some(known) = data.only_member() else { return ServerOptions { peer_port, ..member } };
    let urls = known.peer_urls.iter().map(|url| format!("{}={url}", known.name));
    ServerOptions {
        name: known.name.clone(),
        initial_cluster: urls.collect::<Vec<_>>().join(","),
        initial_advertise_peer_urls: known.peer_urls.join(","),
        peer_port,
        ..member
    }
}

pub(super) fn arrive(options: &Options, log: EventLog) -> Result<(), MigrateError> {
    if options.plain_binaries == PlainBinaries::Replace {
        binaries::place(&options.bin_dir, &options.target.version, log)?;
    }
    let (data_dir, target) = (options.data_dir.display(), &options.target);
    log.info(
        "done",
        format_args!("{data_dir} is at {target}: etcd {} may start now", target.version),
    );
    Ok(())
}

impl Migration {
    /// The same without a copy before the first step.
    pub(super) fn without_backup(mut self) -> Self {
        self.steps.retain(|step| *step != Step::Backup);
        self
    }

    fn with_steps(self, options: &Options, bundled: &Bundled) -> Result<Self, MigrateError> {
        let steps = steps_from(&self.origin, options, bundled)?;
        let is_swap = |step: &Step| step.restores_data();
        if steps.iter().any(is_swap) {
            options.layout.refuse_to_replace()?;
        }
        Ok(Self { steps, ..self })
    }

    /// Whether there is nothing to do and nothing to clean up.
    fn is_arrived(&self, options: &Options) -> bool {
        self.steps.len() == 1
            && self.found.file.as_ref() == Some(&options.target)
            && options.data_dir_mode.is_none()
            && !self.journal.as_ref().is_some_and(Journal::is_unfinished)
    }
}

/// The migration, planned without the lock. While another process writes to the data, it may look
/// damaged; that is no error unless it stays so.
pub(super) fn peek(options: &Options, bundled: &Bundled) -> Result<Migration, MigrateError> {
    let seen = look(options).or_else(|_| match lock::in_use(&options.data_dir) {
        Some(in_use) => Err(in_use),
        None => look(options),
    });
    seen?.with_steps(options, bundled)
}

/// The migration, planned with the lock.
pub(super) fn prepare(options: &Options, bundled: &Bundled) -> Result<Migration, MigrateError> {
    look(options)?.with_steps(options, bundled)
}

/// Reads the data; the steps are still empty.
fn look(options: &Options) -> Result<Migration, MigrateError> {
    if Swap::of(&options.layout).is_pending() {
        return Err(MigrateError::new(
            MigrateErrorKind::NotMigratable,
            "a downgrade was interrupted while it moved the restored data into place",
        )
        .hint("run migrate without --plan to finish it"));
    }
    let found = data_dir::read(&options.layout)?;
    let journal = journal::read(&options.data_dir)?;
    if let Some(journal) = journal.as_ref().filter(|journal| journal.is_restoring())
        && found.contents == DataDirContents::Empty
    {
        return Err(half_restored(options, journal));
    }
    let is_under_way = journal.as_ref().is_some_and(Journal::is_unfinished);
    let trust = options.trust.while_under_way(is_under_way);
    let mut origin =
        current_version::current_version(&found, trust).map_err(|unclear| explain(&unclear))?;
    if let (CurrentVersion::Etcd3(known), DataDirContents::Etcd3(data)) =
        (&mut origin, &found.contents)
    {
        let to = options.target.version.series();
        // One that this program has enabled goes on or is cancelled, one of an operator is neither.
        let open = &mut known.cluster.open_downgrade;
        *open = open.filter(|_| !is_under_way);
        known.abandons_downgrade =
            is_under_way && data.members.len() <= 1 && data.downgrade_to.is_some_and(|it| to > it);
    }
    Ok(Migration { found, journal, origin, steps: Vec::new() })
}

fn half_restored(options: &Options, journal: &Journal) -> MigrateError {
    let what = format_args!(
        "the restore of {} was interrupted before there was any data: an etcd would start as a new, \
         empty cluster",
        journal.snapshot
    );
    let state = lock::state_dir(&options.data_dir);
    MigrateError::new(MigrateErrorKind::NotMigratable, what)
        .hint("run `migrate restore` again with the same snapshot")
        .hint(format_args!("or remove {} to start with no data", state.display()))
}

/// The steps to the target version.
pub(super) fn steps_from(
    origin: &CurrentVersion,
    options: &Options,
    bundled: &Bundled,
) -> Result<Vec<Step>, MigrateError> {
    steps::steps(origin, &options.target, bundled, options.allowed).map_err(|no_path| {
        let failure = MigrateError::new(MigrateErrorKind::NotMigratable, &no_path).id(no_path.id());
        no_path.hint().into_iter().fold(failure, MigrateError::hint)
    })
}

/// An error if the extra arguments move data or change the cluster.
pub(super) fn refuse_arguments(options: &Options) -> Result<(), MigrateError> {
    match fitted_flags::refused(&options.member.extra_arguments) {
        None => Ok(()),
        Some((name, reason)) => Err(MigrateError::usage(format_args!(
            "--{name} among the extra arguments is not supported: {reason}"
        ))),
    }
}

/// An error if the backups would be made inside of what they are copies of.
pub(super) fn refuse_backups_within_member(options: &Options) -> Result<(), MigrateError> {
    let Some(backups) = options.backups.directory.as_deref() else { return Ok(()) };
    // The part of the path that exists; the rest is only names.
    let Some(existing) = backups.ancestors().find_map(|path| path.canonicalize().ok()) else {
        return Ok(());
    };
    let DataLayout { member, snap, wal, .. } = &options.layout;
    let is_around =
        |part: &&PathBuf| part.canonicalize().is_ok_and(|part| existing.starts_with(part));
    let Some(part) = [member, snap, wal].into_iter().find(is_around) else { return Ok(()) };
    let what = format_args!("--backup-dir {} is inside of {}", backups.display(), part.display());
    Err(MigrateError::usage(what).hint("a backup would be a copy of itself; use another directory"))
}

/// The failure with its hints.
pub(super) fn explain(unclear: &UnclearVersion) -> MigrateError {
    let failure = MigrateError::new(MigrateErrorKind::NotMigratable, unclear);
    match unclear {
        UnclearVersion::Contradiction { .. } => failure
            .hint("use `--trust data` if the data is right, `--trust file` if version.txt is")
            .hint("an etcd that is started without migrate does not update version.txt"),
        UnclearVersion::NoEvidence => {
            failure.hint("write `<version>/etcd3` into version.txt if you know which etcd it was")
        }
    }
}

/// Creates the data directory if it is missing.
fn create(options: &Options, log: EventLog) -> Result<(), MigrateError> {
    let path = &options.data_dir;
    if !path.exists() {
        log.info("create", format_args!("{} does not exist, creating it", path.display()));
        fs::create_dir_all(path).map_err(|error| MigrateError::file("create", path, &error))?;
    }
    Ok(())
}

/// Sets the mode of the data directory, if one is asked for.
fn set_mode(options: &Options) -> Result<(), MigrateError> {
    let path = &options.data_dir;
    let Some(mode) = options.data_dir_mode else { return Ok(()) };
    platform::set_mode(path, mode)
        .map_err(|error| MigrateError::file("set the mode of", path, &error))
}

fn store(options: &Options) -> BackupStore {
    BackupStore::of(&options.data_dir, options.backups.directory.as_deref())
}
