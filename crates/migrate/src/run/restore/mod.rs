//! `migrate restore`: makes a data directory of a snapshot, and takes it to the target version.
//!
//! The restored data is complete and durable before it becomes `member`. From then on it is a
//! migration like any other: a run that is interrupted is finished by `restore` or by a plain run.

mod data;

use std::path::Path;

use etcd_version::{Bundled, EtcdVersion};

use super::migration;
use super::runner::{self, GOES_ON};
use super::signal::StopSignal;
use crate::cli::options::{AfterRestore, Options, RestoreOptions};
use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::current_version::CurrentVersion;
use crate::inspect::data_dir::{self, DataDirContents};
use crate::inspect::member::Member;
use crate::inspect::snapshot::{self, Checksum, Snapshot};
use crate::plan::steps::Step;
use crate::plan::{bundled, tools};
use crate::report::Report;
use crate::report::event::EventLog;
use crate::report::format::OutputFormat;
use crate::report::plan_text::{PlanReport, RestorePlan};
use crate::state::journal::{self, RESTORED};
use crate::state::swap::Swap;

/// A snapshot, and how it becomes data at the target version.
struct Restore<'a> {
    options: &'a Options,
    request: &'a RestoreOptions,
    snapshot: Snapshot,
    origin: CurrentVersion,
    /// The version whose tool restores it.
    tool: EtcdVersion,
    bundled: Bundled,
    /// From the restored data on.
    steps: Vec<Step>,
}

/// The output of `restore --plan`. Changes nothing.
pub fn plan(
    options: &Options,
    request: &RestoreOptions,
    format: OutputFormat,
) -> Result<String, MigrateError> {
    let restore = Restore::prepare(options, request)?;
    restore.check_place()?;
    let report = PlanReport {
        data_dir: &options.data_dir,
        target: &options.target,
        origin: &restore.origin,
        steps: match request.then {
            AfterRestore::Migrate => &restore.steps,
            AfterRestore::Stay => &[],
        },
        backup: Path::new(""),
        restore: Some(RestorePlan {
            snapshot: &request.snapshot,
            tool: &restore.tool,
            goes_on: request.then == AfterRestore::Migrate,
        }),
    };
    Ok(report.print(format))
}

/// An error if the snapshot cannot be restored into the data directory. Changes nothing.
pub fn check(options: &Options, request: &RestoreOptions) -> Result<(), MigrateError> {
    let restore = Restore::prepare(options, request)?;
    restore.check_place()?;
    // The tool that restores looks at it itself.
    match restore.snapshot.checksum(&request.snapshot)? {
        Checksum::Wrong => Err(snapshot::wrong_checksum(&request.snapshot)),
        Checksum::Missing | Checksum::Valid => Ok(()),
    }
}

/// Restores the snapshot, and migrates the data if that is asked for and needed.
pub fn run(options: &Options, request: &RestoreOptions, log: EventLog) -> Result<(), MigrateError> {
    let restore = Restore::prepare(options, request)?;
    let stop = migration::begin(options, log)?;
    let place = restore.check_place()?;
    let stays = request.then == AfterRestore::Stay;
    if place == RestorePlace::Done || (place == RestorePlace::Restored && stays) {
        log.info("restored", "this snapshot was restored before; nothing is changed");
        return if stays { Ok(()) } else { migration::arrive(options, log) };
    }
    let _lock = migration::take_over(options, &stop, log)?;
    let made = restore.make(&stop, log);
    runner::restore_ownership(&options.layout, log);
    made?;
    if stays {
        return Ok(());
    }
    // The tool may be of a newer version than the data.
    let migration = migration::prepare(options, &restore.bundled)?.without_backup();
    migration::take_steps(options, &migration, &stop, log)?;
    migration::arrive(options, log).map_err(|failure| failure.in_step().hint(GOES_ON))
}

/// What is in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RestorePlace {
    Empty,
    /// The data of this snapshot, on its way to the target version.
    Begun,
    /// The data of this snapshot, which stays at its version until a plain run.
    Restored,
    /// The data of this snapshot, which has reached the target version.
    Done,
}

impl<'a> Restore<'a> {
    /// Reads the snapshot and makes the plan. Touches nothing.
    fn prepare(options: &'a Options, request: &'a RestoreOptions) -> Result<Self, MigrateError> {
        migration::refuse_arguments(options)?;
        let members = Member::of_initial_cluster(&options.member.initial_cluster);
        if !members.iter().any(|member| member.name == options.member.name) {
            return Err(MigrateError::usage(format_args!(
                "--initial-cluster {} does not have this member, --name {}",
                options.member.initial_cluster, options.member.name
            )));
        }
        let bundled = bundled::bundled(options.bundled.as_ref(), &options.bin_dir)?;
        let snapshot = snapshot::read(&request.snapshot)?;
        let mut data = snapshot.data.clone();
        data.members = members;
        let origin = snapshot::version(data).map_err(|_| {
            let what =
                format_args!("{} does not say which etcd wrote it", request.snapshot.display());
            MigrateError::new(MigrateErrorKind::NotMigratable, what)
                .hint("only etcd before 3.4 writes such snapshots; restore it with its own tools")
        })?;
        let mut steps = migration::steps_from(&origin, options, &bundled)?;
        steps.retain(|step| *step != Step::Backup);
        runner::check_programs(&steps, options)?;
        let tool = Self::tool(&origin, options, &bundled)?;
        Ok(Self { options, request, snapshot, origin, tool, bundled, steps })
    }

    fn tool(
        origin: &CurrentVersion,
        options: &Options,
        bundled: &Bundled,
    ) -> Result<EtcdVersion, MigrateError> {
        let series = match origin {
            CurrentVersion::Etcd3(known) => Some(known.series),
            CurrentVersion::Fresh | CurrentVersion::Etcd2 => None,
        };
        let version = series.and_then(|series| tools::snapshot_restorer(series, bundled));
        let version = version.ok_or_else(|| {
            MigrateError::new(
                MigrateErrorKind::NotMigratable,
                "the snapshot is newer than every etcd that this image bundles",
            )
            .hint("use an image that bundles its version")
        })?;
        bundled::program(&options.bin_dir, tools::restorer(version), version)?;
        Ok(version.clone())
    }

    /// Makes the data, unless it is there, and notes whether that was all.
    fn make(&self, stop: &StopSignal, log: EventLog) -> Result<(), MigrateError> {
        let data_dir = &self.options.data_dir;
        let place = self.check_place()?;
        if place == RestorePlace::Empty {
            self.make_data(stop, log)?;
        } else {
            log.info("resume", "the snapshot is restored already; going on from there");
        }
        let mut journal = journal::read(data_dir)?.unwrap_or_default();
        match self.request.then {
            AfterRestore::Migrate if place == RestorePlace::Restored => {
                journal.step = self.step();
                journal.write(data_dir)
            }
            AfterRestore::Migrate => Ok(()),
            AfterRestore::Stay => {
                // Else a run without this flag has begun to migrate it, and a plain one goes on
                // with that.
                if journal.step == self.step() {
                    self.record_version()?;
                    journal.step.clear();
                    RESTORED.clone_into(&mut journal.outcome);
                    journal.write(data_dir)?;
                }
                let (place, target) = (data_dir.display(), &self.options.target);
                let what = format_args!(
                    "{place} is restored; a plain `migrate` of all members takes it to {target}"
                );
                log.info("restored", what);
                Ok(())
            }
        }
    }

    /// How the journal names the restore itself.
    fn step(&self) -> String {
        format!("restore by {}", self.tool)
    }

    /// How the journal names the snapshot: by its path for people, by the rest for the next run.
    fn id(&self) -> String {
        let index = self.snapshot.data.consistent_index.unwrap_or(0);
        let (path, bytes) = (self.request.snapshot.display(), self.snapshot.size_bytes);
        let raised =
            self.request.bump_revision.map(|count| format!(", revision raised by {count}"));
        format!("{path} of {bytes} bytes, up to entry {index}{}", raised.unwrap_or_default())
    }

    /// An error if the directory holds data that is not of this snapshot.
    fn check_place(&self) -> Result<RestorePlace, MigrateError> {
        let data_dir = &self.options.data_dir;
        let journal = journal::read(data_dir)?;
        let is_ours = journal.as_ref().is_some_and(|journal| journal.snapshot == self.id());
        let is_being_moved = Swap::of(&self.options.layout).is_pending();
        if !is_being_moved
            && data_dir::read(&self.options.layout)?.contents == DataDirContents::Empty
        {
            return Ok(RestorePlace::Empty);
        }
        match journal {
            Some(journal) if is_ours && journal.outcome == RESTORED => Ok(RestorePlace::Restored),
            Some(journal) if is_ours && journal.is_restoring() => Ok(RestorePlace::Begun),
            Some(journal) if is_ours && journal.target == self.options.target.to_string() => {
                Ok(RestorePlace::Done)
            }
            _ => {
                let what = format_args!("{} holds data already", data_dir.display());
                Err(MigrateError::new(MigrateErrorKind::NotMigratable, what).hint(
                    "move `member` and `version.txt` away, or give another directory; a restore \
                     overwrites nothing",
                ))
            }
        }
    }
}
