//! Takes the steps of a plan, one after the other, and writes down how far it came.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use etcd_version::EtcdVersion;

use crate::cli::options::Options;
use crate::failure::{Failure, Kind};
use crate::files::durable;
use crate::inspect::data_dir::{self, DataDirContents};
use crate::inspect::disk_space;
use crate::inspect::series::Series;
use crate::inspect::version_pair::VersionPair;
use crate::inspect::wal;
use crate::plan::bundled;
use crate::plan::steps::{DowngradeMethod, Step};
use crate::report::event::EventLog;
use crate::run::backup;
use crate::run::downgrade;
use crate::run::server::{Server, ServerContext, Stopped, newest_snapshot};
use crate::run::signal::StopSignal;
use crate::state::backup_store::BackupStore;
use crate::state::journal::Journal;

/// The last ones are longer than a server keeps anything from its database.
const PAUSES_BEFORE_STOP: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(2)];

/// After a failure in a step.
pub const GOES_ON: &str = "run migrate again: it goes on where it stopped";

pub struct Runner<'a> {
    pub options: &'a Options,
    pub store: &'a BackupStore,
    pub context: ServerContext<'a>,
    pub journal: Journal,
    /// A step of this run may have changed the data.
    pub has_begun: bool,
    pub members: usize,
    pub stop: &'a StopSignal,
    pub log: EventLog,
}

/// Every program that the steps will start, so that a missing one is missed before the first step.
pub fn check_programs(steps: &[Step], options: &Options) -> Result<(), Failure> {
    for step in steps {
        let needed = match step {
            Step::Backup | Step::Record(_) => vec![],
            Step::CancelDowngrade(version) => {
                vec![("etcd", version), ("etcdctl", &options.target.version)]
            }
            Step::Serve(version) => vec![("etcd", version)],
            Step::Downgrade { from, to, method: DowngradeMethod::InPlace } => {
                vec![("etcd", from), ("etcdctl", from), ("etcd", to)]
            }
            Step::Downgrade { from, to, method: DowngradeMethod::Snapshot } => {
                let tool = (downgrade::restorer(to), to);
                let schema = downgrade::has_schema(from).then_some(("etcdutl", from));
                [("etcd", from), ("etcd", to), tool].into_iter().chain(schema).collect()
            }
        };
        for (name, version) in needed {
            bundled::program(&options.bin_dir, name, version)?;
        }
    }
    Ok(())
}

impl Runner<'_> {
    pub fn take(&mut self, steps: &[Step]) -> Result<(), Failure> {
        for (index, step) in steps.iter().enumerate() {
            self.stop.check()?;
            self.log.info("step", format_args!("step {} of {}: {step}", index + 1, steps.len()));
            if !matches!(step, Step::Record(_)) {
                self.journal.step = step.to_string();
                self.note()?;
            }
            self.has_begun |= step.changes_data();
            self.take_one(step, steps)?;
        }
        self.journal.step.clear();
        Ok(())
    }

    /// What a failure is to an operator: whether the data was touched, and what is safe next.
    pub fn explain(&self, failure: Failure) -> Failure {
        if !self.has_begun {
            return failure;
        }
        let is_interrupted = matches!(failure.kind, Kind::Interrupted(_));
        let failure = failure.in_step();
        // An interruption has said so already.
        let failure = if is_interrupted { failure } else { failure.hint(GOES_ON) };
        match &self.journal.backup {
            Some(copy) => failure
                .hint(format_args!("a copy from before the first step is in {}", copy.display())),
            None => failure,
        }
    }

    fn take_one(&mut self, step: &Step, steps: &[Step]) -> Result<(), Failure> {
        match step {
            Step::Backup => self.back_up(steps),
            Step::CancelDowngrade(version) => self.cancel_downgrade(version),
            Step::Serve(version) => self.upgrade(version).and_then(|()| self.confirm(version)),
            Step::Downgrade { from, to, method: DowngradeMethod::InPlace } => {
                self.downgrade_in_place(from, to).and_then(|()| self.confirm(to))
            }
            Step::Downgrade { from, to, method: DowngradeMethod::Snapshot } => {
                self.downgrade_by_snapshot(from, to).and_then(|()| self.confirm(to))
            }
            Step::Record(version) => {
                let pair = VersionPair::etcd3(version.clone());
                durable::record(&self.options.data_dir, &pair)
            }
        }
    }

    /// Whether the data says too that it is at a version. A server that dies while it stops leaves
    /// what its cluster had agreed on in the log, where the next minor version looks too late.
    fn confirm(&self, version: &EtcdVersion) -> Result<(), Failure> {
        let wanted = Series::of(version);
        let DataDirContents::Etcd3(data) = data_dir::read(&self.options.data_dir)?.contents else {
            return Ok(());
        };
        match data.series() {
            Some(series) if series != wanted => Err(Failure::new(
                Kind::StepFailed,
                format_args!("etcd {version} has stopped, but left the data at {series}"),
            )
            .hint("--show-server-log tells what the server has to say")),
            _ => Ok(()),
        }
    }

    /// Has the data reach a version, and its raft log start there.
    pub fn upgrade(&self, version: &EtcdVersion) -> Result<(), Failure> {
        let data_dir = &self.options.data_dir;
        let before = newest_snapshot(data_dir);
        // A member among others may have nothing new to apply, and then writes none; but it must
        // when the next one could not replay the log.
        let needs_snapshot = self.members <= 1
            || wal::replays_v2_requests(&data_dir.join("member"))
                .map_err(|error| Failure::file("read the log in", data_dir, &error))?;
        self.serve(version, |server| {
            server.wait_until_upgraded()?;
            if needs_snapshot {
                server.wait_for_snapshot(data_dir, before.as_deref())?;
            }
            Ok(())
        })
    }

    fn back_up(&mut self, steps: &[Step]) -> Result<(), Failure> {
        let data_dir = &self.options.data_dir;
        let member = data_dir.join("member");
        let db = member.join("snap").join("db");
        let db_bytes = fs::metadata(&db).map_err(|error| Failure::file("read", &db, &error))?.len();
        let room_bytes = crate::plan::space::bytes_written(steps, db_bytes)
            .saturating_sub(disk_space::allocated_log_bytes(&member));
        if !self.options.backups.enabled {
            disk_space::check(data_dir, room_bytes, "what the steps write")
                .map_err(|failure| failure.hint("nothing was changed"))?;
            self.log.info("no-backup", "no copy is made, as --no-backup asks");
            return Ok(());
        }
        // The copy from before an unfinished journey is the one worth keeping.
        let first = self.journal.backup.clone().filter(|path| path.is_dir());
        let copy = match backup::make(data_dir, self.store, room_bytes, (self.log, self.stop)) {
            Ok(copy) => copy,
            Err(failure) if failure.kind == Kind::System && first.is_some() => {
                self.log.warn(
                    "backup",
                    format_args!("{}; the copy from before this journey is kept", failure.cause),
                );
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let keep = first.unwrap_or_else(|| copy.clone());
        backup::retain(self.store, self.options.backups.retain, &keep, self.log);
        self.journal.backup = Some(keep);
        self.note()
    }

    /// Runs a server, does something with it, and stops it, whether that worked or not. Starts it
    /// again, and takes its time, when the stop came too early to be one.
    pub fn serve(
        &self,
        version: &EtcdVersion,
        mut work: impl FnMut(&mut Server<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let program = self.program("etcd", version)?;
        for pause in PAUSES_BEFORE_STOP {
            let mut server =
                Server::start(&program, version, &self.options.data_dir, &self.context)?;
            self.log.info(
                "started",
                format_args!("etcd {version} listens on 127.0.0.1:{} only", server.port),
            );
            work(&mut server)?;
            thread::sleep(pause);
            match server.stop()? {
                Stopped::InOrder => break,
                Stopped::TooEarly => self.log.warn(
                    "stopped-early",
                    format_args!("etcd {version} did not hear that it was to stop"),
                ),
            }
        }
        self.log.info("stopped", format_args!("etcd {version} did its part and stopped"));
        Ok(())
    }

    pub fn program(&self, name: &str, version: &EtcdVersion) -> Result<PathBuf, Failure> {
        bundled::program(&self.options.bin_dir, name, version)
    }

    pub fn note(&self) -> Result<(), Failure> {
        self.journal.write(&self.options.data_dir)
    }
}
