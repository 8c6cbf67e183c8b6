//! `migrate restore`: makes a data directory of a snapshot, and takes it to the target version.
//!
//! The restored data is complete and durable before it becomes `member`. From then on it is a
//! migration like any other: a run that is interrupted is finished by `restore` or by a plain run.

use std::fs;
use std::path::Path;
use std::process::Command;

use etcd_version::{Bundled, EtcdVersion};

use super::downgrade::ClusterIdentity;
use super::migration;
use super::runner::{self, GOES_ON};
use super::signal::StopSignal;
use super::step_context;
use super::subprocess;
use crate::cli::options::{Options, RestoreOptions};
use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::{ownership, tree};
use crate::inspect::current_version::{self, CurrentVersion, Trust};
use crate::inspect::data_dir::{self, DataDir, DataDirContents};
use crate::inspect::disk_space;
use crate::inspect::member::Member;
use crate::inspect::snapshot::{self, Snapshot};
use crate::inspect::version_pair::VersionPair;
use crate::plan::steps::Step;
use crate::plan::{bundled, space, tools};
use crate::platform;
use crate::report::Report;
use crate::report::event::EventLog;
use crate::report::format::OutputFormat;
use crate::report::plan_text::{PlanReport, RestorePlan};
use crate::state::journal::{self, Journal};
use crate::state::swap::Swap;
use crate::state::version_file;

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
        steps: &restore.steps,
        backup: Path::new(""),
        restore: Some(RestorePlan { snapshot: &request.snapshot, tool: &restore.tool }),
    };
    Ok(report.print(format))
}

/// An error if the snapshot cannot be restored into the data directory. Changes nothing.
pub fn check(options: &Options, request: &RestoreOptions) -> Result<(), MigrateError> {
    Restore::prepare(options, request)?.check_place().map(drop)
}

/// Restores the snapshot, and migrates the data if needed.
pub fn run(options: &Options, request: &RestoreOptions, log: EventLog) -> Result<(), MigrateError> {
    let restore = Restore::prepare(options, request)?;
    let stop = migration::begin(options, log)?;
    if restore.check_place()? == RestorePlace::Done {
        log.info("restored", "this snapshot was restored before; nothing is changed");
        return migration::arrive(options, log);
    }
    let _lock = migration::take_over(options, &stop, log)?;
    if restore.check_place()? == RestorePlace::Empty {
        restore.make_data(&stop, log)?;
    } else {
        log.info("resume", "the snapshot is restored already; going on from there");
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
    /// The data of this snapshot, which has reached it.
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
        let found =
            DataDir { contents: DataDirContents::Etcd3(Box::new(data)), file: None, is_ours: true };
        let origin = current_version::current_version(&found, Trust::Data).map_err(|_| {
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

    /// How the journal names the snapshot: by its path for people, by the rest for the next run.
    fn id(&self) -> String {
        let index = self.snapshot.data.consistent_index.unwrap_or(0);
        let (path, bytes) = (self.request.snapshot.display(), self.snapshot.size_bytes);
        format!("{path} of {bytes} bytes, up to entry {index}")
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

    /// Makes `member` of the snapshot.
    fn make_data(&self, stop: &StopSignal, log: EventLog) -> Result<(), MigrateError> {
        let data_dir = &self.options.data_dir;
        let swap = Swap::of(&self.options.layout);
        for path in swap.targets() {
            tree::remove(path).map_err(|error| MigrateError::file("remove", path, &error))?;
        }
        disk_space::check(
            data_dir,
            space::bytes_restored(self.snapshot.size_bytes),
            "the restored data",
        )
        .map_err(|failure| failure.hint("nothing was changed"))?;
        let program = tools::restorer(&self.tool);
        log.info(
            "restore",
            format_args!(
                "restoring {} by {program} {}, {} MiB",
                self.request.snapshot.display(),
                self.tool,
                self.snapshot.size_bytes >> 20
            ),
        );
        let mut journal = Journal {
            target: self.options.target.to_string(),
            step: format!("restore by {}", self.tool),
            snapshot: self.id(),
            outcome: "running".to_owned(),
            ..Journal::default()
        };
        journal.write(data_dir)?;
        let made = swap
            .prepare()
            .and_then(|()| self.run_tool(&swap, stop, log))
            .and_then(|()| self.put_into_place(&swap));
        made.inspect_err(|failure| {
            // Half a restore is useless and fills the disk. What is being moved into place is
            // whole.
            if !swap.is_pending() {
                let _ = swap.targets().try_for_each(tree::remove);
            }
            journal.outcome.clone_from(&failure.cause);
            let _ = journal.write(data_dir);
        })
    }

    fn run_tool(&self, swap: &Swap, stop: &StopSignal, log: EventLog) -> Result<(), MigrateError> {
        let name = tools::restorer(&self.tool);
        let mut command = Command::new(bundled::program(&self.options.bin_dir, name, &self.tool)?);
        command.args(["snapshot", "restore"]).arg(&self.request.snapshot);
        command.arg("--data-dir").arg(&swap.restored);
        command.args(ClusterIdentity::given(&self.options.member).flags());
        if !self.snapshot.has_sum {
            command.arg("--skip-hash-check");
        }
        if let Some(count) = self.request.bump_revision {
            command.args(["--bump-revision", &count.to_string(), "--mark-compacted"]);
        }
        let error = subprocess::run(command, step_context::watch(name, stop, log))?;
        error.map_or(Ok(()), |error| {
            let what = format_args!(
                "the tools of etcd {} could not restore {}: {error}",
                self.tool,
                self.request.snapshot.display()
            );
            Err(MigrateError::new(MigrateErrorKind::NotMigratable, what))
        })
    }

    /// Makes the data durable, and `member` of it.
    fn put_into_place(&self, swap: &Swap) -> Result<(), MigrateError> {
        let data_dir = &self.options.data_dir;
        ownership::restore_file(&swap.restored, data_dir)
            .and_then(|()| tree::sync(&swap.restored))
            .map_err(|error| MigrateError::file("make durable", &swap.restored, &error))?;
        // Without data an old `version.txt` means nothing, and with this data it would be wrong.
        match fs::remove_file(data_dir.join("version.txt")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(MigrateError::file("remove", &data_dir.join("version.txt"), &error));
            }
            _ => platform::sync_directory(data_dir)
                .map_err(|error| MigrateError::file("write", data_dir, &error))?,
        }
        swap.finish()?;
        swap.clear()?;
        if let CurrentVersion::Etcd3(known) = &self.origin
            && known.series == self.tool.series()
        {
            version_file::write(data_dir, &VersionPair::etcd3(self.tool.clone()))?;
        }
        Ok(())
    }
}
