//! Takes the steps of a plan, one after the other, and writes down how far it came.

use std::fs;
use std::path::{Path, PathBuf};
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
use crate::run::peers::Peers;
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
    /// The members of the cluster, as the data names them.
    pub members: &'a [data_dir::Member],
    /// The minor version that the data is at before the first step.
    pub from: Option<Series>,
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

/// The last minor version that can replay the log in a data directory, or `None` if every later one
/// can.
pub fn replayed_until(data_dir: &Path) -> Result<Option<Series>, Failure> {
    let member = data_dir.join("member");
    wal::replayed_until(&member).map_err(|error| Failure::file("read the log in", &member, &error))
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
            Step::Serve(version) => self
                .upgrade(version)
                .and_then(|()| self.confirm(version))
                .and_then(|()| self.confirm_log(version)),
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

    /// Whether the next minor version can replay the log that a server left: a promise that the
    /// target starts is worth nothing without it.
    fn confirm_log(&self, version: &EtcdVersion) -> Result<(), Failure> {
        let own = Series::of(version);
        match replayed_until(&self.options.data_dir)? {
            Some(until) if until <= own => Err(Failure::new(
                Kind::StepFailed,
                format_args!(
                    "etcd {version} has stopped, but left requests in the log that etcd {} cannot \
                     replay",
                    own.next()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Has the data reach a version, and its raft log start there.
    pub fn upgrade(&self, version: &EtcdVersion) -> Result<(), Failure> {
        let data_dir = &self.options.data_dir;
        let before = newest_snapshot(data_dir);
        let is_alone = self.members.len() <= 1;
        // A member that serves the minor version that it is at wants nothing from the others but
        // their consent, and they have been there. On the way to another minor version they may be
        // on their way, too, and are waited for.
        let stays = self.from == Some(Series::of(version));
        let peers = Peers::of(self.members, &self.options.member.name);
        let peers = (stays && !is_alone).then_some(&peers);
        self.serve(version, |server| {
            if let Some(peers) = peers {
                server.wait_for_quorum(peers)?;
            }
            server.wait_until_upgraded()?;
            if is_alone {
                server.wait_for_snapshot(data_dir, before.as_deref())
            } else {
                // It may have nothing new to apply, and then it writes no snapshot.
                server.wait_for_replayable_log(data_dir)
            }
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
            self.log.server(
                "started",
                version,
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
        self.log.server(
            "stopped",
            version,
            format_args!("etcd {version} did its part and stopped"),
        );
        Ok(())
    }

    pub fn program(&self, name: &str, version: &EtcdVersion) -> Result<PathBuf, Failure> {
        bundled::program(&self.options.bin_dir, name, version)
    }

    pub fn note(&self) -> Result<(), Failure> {
        self.journal.write(&self.options.data_dir)
    }
}
