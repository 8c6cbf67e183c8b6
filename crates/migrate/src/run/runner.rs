//! Takes the steps of a plan, one after the other, and notes in the journal how far it came.

use std::fs;
use std::io;

use etcd_version::EtcdVersion;

use super::backup::Backup;
use super::defrag;
use super::downgrade;
use super::sameness::Sameness;
use super::server::ServerContext;
use super::space_check::SpaceCheck;
use super::step_context::StepContext;
use super::v2_content;
use crate::cli::options::Options;
use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::ownership;
use crate::inspect::data_dir::{self, DataDirContents, STATE_DIR};
use crate::inspect::layout::DataLayout;
use crate::inspect::member_data::MemberData;
use crate::inspect::member_files::MemberFiles;
use crate::inspect::version_pair::VersionPair;
use crate::plan::steps::{DowngradeMethod, Step};
use crate::plan::{bundled, space, tools};
use crate::report::event::EventLog;
use crate::state::backup_store::BackupStore;
use crate::state::journal::Journal;
use crate::state::version_file;

/// What this program writes beside `member`.
const OWN_ENTRIES: &[&str] = &["version.txt", STATE_DIR];

/// The hint after a failure in a step.
pub const GOES_ON: &str = "run migrate again: it goes on where it stopped";

/// One run through the steps.
#[derive(Debug)]
pub struct Runner<'a> {
    pub context: StepContext<'a>,
    pub store: &'a BackupStore,
    pub journal: Journal,
    pub sameness: Sameness,
    /// A step of this run may have changed the data.
    pub has_begun: bool,
    /// No other etcd has written to the data since the newest backup.
    pub has_current_backup: bool,
}

/// An error if a program is missing that the steps will start.
pub fn check_programs(steps: &[Step], options: &Options) -> Result<(), MigrateError> {
    for step in steps {
        for (name, version) in tools::needed(step, &options.target.version) {
            bundled::program(&options.bin_dir, name, version)?;
        }
    }
    Ok(())
}

impl Runner<'_> {
    /// Takes all steps. After an error the journal names the step that failed.
    pub fn take(&mut self, steps: &[Step]) -> Result<(), MigrateError> {
        self.sameness.begin(&self.context, &mut self.journal, steps)?;
        // Before the last version is recorded, so that a run that fails there is not taken for one
        // that has come to its end.
        let last = steps.len() - usize::from(matches!(steps.last(), Some(Step::Record(_))));
        for (index, step) in steps.iter().enumerate() {
            self.context.server.stop.check()?;
            if index == last {
                self.compare()?;
            }
            self.context
                .server
                .log
                .info("step", format_args!("step {} of {}: {step}", index + 1, steps.len()));
            if !matches!(step, Step::Record(_)) {
                self.journal.step = step.to_string();
                Sameness::step(&self.context, &mut self.journal, step);
                if step.changes_data() {
                    self.journal.data.clear();
                }
                self.note()?;
            }
            self.has_begun |= step.changes_data();
            let taken = self.take_one(step, steps);
            self.restore_ownership();
            taken?;
        }
        if last == steps.len() {
            self.compare()?;
        }
        self.journal.step.clear();
        self.journal.baseline = None;
        Ok(())
    }

    /// Compares the data with what it was before the first step.
    fn compare(&mut self) -> Result<(), MigrateError> {
        let Some(baseline) = self.journal.baseline.clone() else { return Ok(()) };
        "compare".clone_into(&mut self.journal.step);
        self.note()?;
        self.sameness.end(&self.context, &baseline).inspect_err(|failure| {
            if let Some(baseline) = &mut self.journal.baseline {
                baseline.difference = Some(failure.cause.clone());
            }
        })
    }

    /// Adds to a failure whether the data may have changed, and what to do next.
    pub fn explain(&self, failure: MigrateError) -> MigrateError {
        if !self.has_begun || failure.kind == MigrateErrorKind::NotTheSame {
            return failure;
        }
        let is_interrupted = matches!(failure.kind, MigrateErrorKind::Interrupted(_));
        let failure = failure.in_step();
        // The failure of an interruption has this hint already.
        let failure = if is_interrupted { failure } else { failure.hint(GOES_ON) };
        match &self.journal.backup {
            Some(copy) => failure
                .hint(format_args!("a copy from before the first step is in {}", copy.display())),
            None => failure,
        }
    }

    fn take_one(&mut self, step: &Step, steps: &[Step]) -> Result<(), MigrateError> {
        match step {
            Step::Backup => self.back_up(steps),
            Step::CancelDowngrade(version) => downgrade::cancel_earlier(&self.context, version),
            Step::Serve(version) => {
                self.context.upgrade(version)?;
                self.confirm(version).and_then(|data| confirm_log(version, &data))
            }
            Step::DropV2 { version, removal } => {
                v2_content::drop_all(&self.context, version, *removal)?;
                self.confirm_no_v2(version)
            }
            Step::ConvertV2 { version, removal, .. } => {
                v2_content::convert(&self.context, version, *removal)?;
                self.confirm_no_v2(version)
            }
            Step::Downgrade { from, to, method: DowngradeMethod::InPlace } => {
                downgrade::in_place(&self.context, from, to)?;
                self.confirm(to).map(drop)
            }
            Step::Downgrade { from, to, method: DowngradeMethod::Snapshot } => {
                downgrade::by_snapshot(&self.context, from, to)?;
                self.confirm(to).map(drop)
            }
            Step::Defrag(version) => defrag::run(&self.context, version),
            Step::Record(version) => {
                let pair = VersionPair::etcd3(version.clone());
                version_file::write(&self.context.options.data_dir, &pair)
            }
        }
    }

    /// The data after a step. An error if its database says that it is at another version: a server
    /// that dies while it stops leaves in the log what its cluster has agreed on, and the next
    /// minor version checks the database before it reads the log.
    fn confirm(&self, version: &EtcdVersion) -> Result<MemberData, MigrateError> {
        let DataDirContents::Etcd3(data) = data_dir::read(&self.context.options.layout)?.contents
        else {
            return Err(MigrateError::new(
                MigrateErrorKind::StepFailed,
                "the data has disappeared",
            ));
        };
        match data.db_series() {
            Some(series) if series != version.series() => Err(MigrateError::new(
                MigrateErrorKind::StepFailed,
                format_args!("etcd {version} has stopped, but left the data at {series}"),
            )
            .hint("run it again with --show-server-log to see the log of the server")),
            _ => Ok(*data),
        }
    }

    /// An error if content of the v2 API is left, or the log cannot be replayed.
    fn confirm_no_v2(&self, version: &EtcdVersion) -> Result<(), MigrateError> {
        let data = self.confirm(version)?;
        let left = &data.v2;
        if left.is_empty() {
            return confirm_log(version, &data);
        }
        Err(MigrateError::new(
            MigrateErrorKind::StepFailed,
            format_args!("content of the v2 API is still there, or there again: {left}"),
        )
        .hint("stop what still writes by the v2 API"))
    }

    fn back_up(&mut self, steps: &[Step]) -> Result<(), MigrateError> {
        let options = self.context.options;
        let ServerContext { log, stop, .. } = self.context.server;
        let db = options.layout.db();
        let db_bytes =
            fs::metadata(&db).map_err(|error| MigrateError::file("read", &db, &error))?.len();
        let layout = &options.layout;
        let space = SpaceCheck { layout, steps: space::bytes_written(steps, db_bytes) };
        if !options.backups.enabled {
            // Half a copy of an earlier run would only take room.
            let _ = self.store.discard_left();
            space.check(None).map_err(|failure| failure.hint("nothing was changed"))?;
            log.info("no-backup", "no copy is made, as --no-backup asks");
            return Ok(());
        }
        // The backup from before an unfinished migration is the only one with unchanged data.
        let first = self.journal.backup.clone().filter(|path| path.is_dir());
        if let Some(first) = first.as_ref().filter(|_| self.is_unchanged()) {
            space.check(None).map_err(|failure| failure.hint("nothing was changed"))?;
            let what = "no other etcd has written to the data since the last run";
            log.info("backup-kept", format_args!("{} is the copy: {what}", first.display()));
            self.sameness.copied(&mut self.journal, first);
            self.has_current_backup = true;
            return Ok(());
        }
        let backup = Backup { space, store: self.store, log, stop };
        let copy = match backup.make() {
            Ok(copy) => copy,
            Err(failure) if failure.kind == MigrateErrorKind::System && first.is_some() => {
                let cause = failure.cause;
                log.warn("backup", format_args!("{cause}; the copy of the earlier run is kept"));
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        self.sameness.copied(&mut self.journal, &copy);
        let keep = first.unwrap_or(copy);
        backup.retain(options.backups.retain, &keep);
        self.journal.backup = Some(keep);
        self.has_current_backup = true;
        self.remember_data();
        self.note()
    }

    /// Notes what the data is now, if all that was written to it since the newest backup is by this
    /// program.
    pub fn remember_data(&mut self) {
        if self.has_current_backup {
            self.journal.data = self.fingerprint().unwrap_or_default();
        }
    }

    /// Whether the data is what this program has left.
    fn is_unchanged(&self) -> bool {
        let left = &self.journal.data;
        !left.is_empty() && self.fingerprint().is_ok_and(|data| data == *left)
    }

    fn fingerprint(&self) -> io::Result<String> {
        Ok(MemberFiles::of(&self.context.options.layout)?.fingerprint())
    }

    /// Gives what root has written to the owner of the data.
    fn restore_ownership(&self) {
        restore_ownership(&self.context.options.layout, self.context.server.log);
    }

    /// Writes the journal.
    pub fn note(&self) -> Result<(), MigrateError> {
        let written = self.journal.write(&self.context.options.data_dir);
        self.restore_ownership();
        written
    }
}

/// Gives what root has written to the owner of the data.
pub fn restore_ownership(layout: &DataLayout, log: EventLog) {
    let data = if layout.member.exists() { &layout.member } else { &layout.data_dir };
    let own = OWN_ENTRIES.iter().map(|name| layout.data_dir.join(name));
    let paths: Vec<_> = own.chain(layout.written_by_etcd()).collect();
    if let Err(error) = ownership::restore(data, &paths) {
        let what = format_args!("cannot give the files to the owner of the data: {error}");
        log.warn("ownership", what);
    }
}

/// An error if the next minor version cannot replay the log that a server left: the target would
/// not start.
fn confirm_log(version: &EtcdVersion, data: &MemberData) -> Result<(), MigrateError> {
    let own = version.series();
    match data.log.replayed_until {
        Some(until) if until <= own => Err(MigrateError::new(
            MigrateErrorKind::StepFailed,
            format_args!(
                "etcd {version} has stopped, but left requests in the log that etcd {} cannot replay",
                own.next()
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
