//! What every step needs: the options, and ways to run servers and tools.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use etcd_version::EtcdVersion;

use super::command::Purpose;
use super::peers::Peers;
use super::poll::Poll;
use super::server::{Server, ServerContext, Stopped};
use super::signal::StopSignal;
use super::subprocess;
use crate::cli::options::Options;
use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::log;
use crate::inspect::member_data::Member;
use crate::plan::bundled;
use crate::report::event::EventLog;
use etcd_version::Series;

/// How long a server runs before it is asked to stop: at first not longer than its work takes, then
/// longer, up to more time than a server keeps anything out of its database.
const PAUSES_BEFORE_STOP: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(2)];

/// What is done while a tool runs: a person is told of it from time to time, and a signal ends it.
pub fn watch(
    program: &str,
    stop: &StopSignal,
    log: EventLog,
) -> impl FnMut() -> Result<(), MigrateError> {
    let mut poll = Poll::start();
    move || {
        if let Some(waited) = poll.reminder() {
            log.info("waiting", format_args!("waiting for {program}, {waited} s so far"));
        }
        stop.check()
    }
}

/// The options and the cluster, the same for all steps of a run.
#[derive(Clone, Copy, Debug)]
pub struct StepContext<'a> {
    pub options: &'a Options,
    pub server: ServerContext<'a>,
    /// The members of the cluster, as the data names them.
    pub members: &'a [Member],
    /// The minor version of the data before the first step; `None` if there is no data.
    pub from: Option<Series>,
}

impl StepContext<'_> {
    /// Lets the version upgrade the data and start a new raft log, and waits for both.
    pub fn upgrade(&self, version: &EtcdVersion) -> Result<(), MigrateError> {
        let layout = &self.options.layout;
        let before = log::newest_snapshot(&layout.wal, &layout.snap, version.series());
        // A member that stays at its minor version needs only the consent of the others, which run
        // already. On the way to another minor version the others may be migrating, too, and are
        // waited for.
        let stays = self.from == Some(version.series());
        let is_alone = self.members.len() <= 1;
        let peers = Peers::of(self.members, &self.options.member.name);
        self.serve(version, |server| {
            if is_alone {
                server.wait_until_upgraded()?;
                return server.wait_for_snapshot(layout, before);
            }
            if stays {
                server.wait_for_quorum(&peers)?;
                server.wait_until_upgraded()?;
            } else {
                server.wait_until_upgraded_with(&peers)?;
            }
            // It may have nothing new to apply, and then writes no snapshot.
            server.wait_for_replayable_log(layout, &peers)?;
            if stays { Ok(()) } else { server.linger() }
        })
    }

    /// Starts the server of a single member for requests, and makes them when its cluster is at its
    /// version.
    pub fn request(
        &self,
        version: &EtcdVersion,
        mut work: impl FnMut(&mut Server<'_>) -> Result<(), MigrateError>,
    ) -> Result<(), MigrateError> {
        let server = ServerContext { purpose: Purpose::Requests, ..self.server };
        StepContext { server, ..*self }.serve(version, |server| {
            server.wait_until_upgraded()?;
            work(server)
        })
    }

    /// Starts a server, does some work with it, and stops it, also after an error. Repeats all of
    /// it with a longer pause if the server was asked to stop before it listened for signals.
    pub fn serve(
        &self,
        version: &EtcdVersion,
        mut work: impl FnMut(&mut Server<'_>) -> Result<(), MigrateError>,
    ) -> Result<(), MigrateError> {
        let log = self.server.log;
        let program = self.program("etcd", version)?;
        for pause in PAUSES_BEFORE_STOP {
            let layout = &self.options.layout;
            let mut server = Server::start(&program, version, layout, &self.server)?;
            let listens = format_args!("etcd {version} listens on 127.0.0.1:{} only", server.port);
            log.server("started", version, listens);
            work(&mut server)?;
            thread::sleep(pause);
            match server.stop()? {
                Stopped::InOrder => break,
                Stopped::TooEarly => log.warn(
                    "stopped-early",
                    format_args!("etcd {version} got the signal to stop before it listened for it"),
                ),
            }
        }
        log.server("stopped", version, format_args!("etcd {version} has stopped"));
        Ok(())
    }

    /// Runs a tool; `what` begins the error if the tool fails.
    pub fn run_tool(&self, command: Command, what: &str) -> Result<(), MigrateError> {
        let program = command.get_program().display().to_string();
        match subprocess::run(command, watch(&program, self.server.stop, self.server.log))? {
            None => Ok(()),
            Some(error) => Err(MigrateError::new(
                MigrateErrorKind::StepFailed,
                format_args!("{what}: {error}"),
            )),
        }
    }

    /// The path of a bundled program, such as `etcdctl` of a version.
    pub fn program(&self, name: &str, version: &EtcdVersion) -> Result<PathBuf, MigrateError> {
        bundled::program(&self.options.bin_dir, name, version)
    }
}
