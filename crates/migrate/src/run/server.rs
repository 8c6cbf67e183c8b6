//! An etcd server that does a step: starts it on loopback, watches it, asks it, stops it.
//!
//! Needs no credentials and writes no key: `/health` and `/version` answer everyone.

use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use etcd_version::EtcdVersion;
use serde_json::Value;

use crate::cli::options::{ServerLog, ServerOptions, Timeouts};
use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::raft_snapshot::SnapshotName;
use crate::inspect::{log, raft_snapshot};
use crate::platform;
use crate::report::event::EventLog;
use crate::run::command::{self, Launch, Purpose};
use crate::run::http::{self, HttpRequest};
use crate::run::peers::Peers;
use crate::run::poll::Poll;
use crate::run::ports::{free_port, peer_urls};
use crate::run::server_log::LogTail;
use crate::run::signal::StopSignal;
use etcd_version::Series;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a server that waits for a raft snapshot asks for another entry of the log.
const ENTRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long other members may take until they listen: as long as their containers may take to start
/// when all members are restarted at the same time.
const QUORUM_TIMEOUT: Duration = Duration::from_mins(1);

/// How servers are started and watched, the same for all servers of a run.
#[derive(Clone, Copy, Debug)]
pub struct ServerContext<'a> {
    pub purpose: Purpose,
    pub options: &'a ServerOptions,
    pub timeouts: &'a Timeouts,
    pub server_log: ServerLog,
    pub stop: &'a StopSignal,
    pub log: EventLog,
}

/// A running server. It is stopped when the value is dropped.
#[derive(Debug)]
pub struct Server<'a> {
    context: &'a ServerContext<'a>,
    version: EtcdVersion,
    child: Child,
    /// The port for clients, on 127.0.0.1.
    pub port: u16,
    tail: Arc<LogTail>,
    /// The thread that reads the log.
    reader: Option<JoinHandle<()>>,
    /// Killed by this program, because it did not stop.
    is_killed: bool,
}

/// How a server has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that its cluster has agreed on is in its database.
    InOrder,
    /// The signal killed it: a server answers a moment before it listens for signals.
    TooEarly,
}

impl<'a> Server<'a> {
    /// Starts a server; it need not be healthy yet.
    pub fn start(
        program: &Path,
        version: &EtcdVersion,
        data_dir: &Path,
        context: &'a ServerContext<'a>,
    ) -> Result<Self, MigrateError> {
        let data_dir = data_dir.to_str().ok_or_else(|| {
            MigrateError::new(
                MigrateErrorKind::System,
                format_args!("{} is not UTF-8", data_dir.display()),
            )
        })?;
        let port = free_port(context.options.port)?;
        let listen_peer_urls = &peer_urls(context.options)?;
        let launch = Launch { purpose: context.purpose, data_dir, port, listen_peer_urls };
        let environment = env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let fitted = command::command(version, context.options, &launch, environment);
        for flag in &fitted.left_out {
            context.log.warn(
                "left-out",
                format_args!("etcd {version} runs without --{}: {}", flag.name, flag.reason),
            );
        }
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.to_str().is_none_or(command::is_hidden) {
                command.env_remove(name);
            }
        }
        if let Some(arch) = command::unsupported_arch(version, env::consts::ARCH) {
            command.env("ETCD_UNSUPPORTED_ARCH", arch);
        }
        command.envs(fitted.variables);
        command
            .args(&fitted.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| MigrateError::file("start", program, &error))?;
        let stderr = child.stderr.take();
        // From here on the server is stopped when this value is dropped, also after an error.
        let version = version.clone();
        let mut server = Self {
            context,
            version,
            child,
            port,
            tail: Arc::default(),
            reader: None,
            is_killed: false,
        };
        server.reader = stderr.map(|stderr| server.follow(stderr)).transpose()?;
        Ok(server)
    }

    /// Starts a thread that reads the log.
    fn follow(&self, stderr: ChildStderr) -> Result<JoinHandle<()>, MigrateError> {
        let tail = Arc::clone(&self.tail);
        let (server_log, log) = (self.context.server_log, self.context.log);
        let follow = move || tail.follow(stderr, server_log, log);
        thread::Builder::new().spawn(follow).map_err(|error| {
            MigrateError::new(
                MigrateErrorKind::System,
                format_args!("cannot start a thread: {error}"),
            )
        })
    }

    /// Waits until the server is healthy and the whole cluster is at its minor version.
    pub fn wait_until_upgraded(&mut self) -> Result<(), MigrateError> {
        let wanted = self.version.series();
        let mut was_healthy = false;
        // The two need not be true at the same time: in a cluster whose other members also migrate,
        // the quorum may be lost a moment later.
        self.wait_for(&format!("the cluster to be healthy and at {wanted}"), |server| {
            was_healthy = was_healthy || server.is_healthy();
            was_healthy && server.reported("etcdcluster") >= Some(wanted)
        })
    }

    /// Waits until the server is healthy. An error if too few other members can be reached for a
    /// quorum.
    pub fn wait_for_quorum(&mut self, peers: &Peers) -> Result<(), MigrateError> {
        let limit = QUORUM_TIMEOUT.min(self.context.timeouts.start);
        let poll = Poll::start();
        while !self.is_healthy() {
            self.check()?;
            if poll.is_longer_than(limit) {
                let reachable = peers.reachable();
                if reachable < peers.needed {
                    return Err(self.without_quorum(reachable, peers));
                }
                // Enough members run, so the server is waited for as in any other step.
                break;
            }
            poll.pause();
        }
        Ok(())
    }

    fn without_quorum(&self, reachable: usize, peers: &Peers) -> MigrateError {
        let series = self.version.series();
        let next = series.next();
        MigrateError::new(
            MigrateErrorKind::NoQuorum,
            format_args!(
                "the log of this member holds requests that etcd {next} cannot replay, and etcd \
                 {series} cannot put that right without a quorum: {reachable} other members can be \
                 reached, and {} must be",
                peers.needed
            ),
        )
        .hint("start the other members with the version that they were at, then run migrate again")
        .hint(format_args!(
            "or restart this member once on {series} in its running cluster, and migrate it then"
        ))
    }

    /// Waits until every later minor version can replay the log: until there is a raft snapshot after
    /// the last request that they do not understand.
    pub fn wait_for_replayable_log(&mut self, data_dir: &Path) -> Result<(), MigrateError> {
        let own = self.version.series();
        let member = data_dir.join("member");
        let mut newest = None;
        let mut is_replayable = None;
        let mut asked = Poll::start();
        self.wait_for("a raft snapshot behind the last request of the v2 API", |server| {
            if asked.is_longer_than(ENTRY_INTERVAL) {
                server.add_entry();
                asked = Poll::start();
            }
            // The log may be long, and only a new snapshot changes which part of it is replayed.
            let snapshot = raft_snapshot::newest(data_dir);
            if is_replayable.is_none() || snapshot != newest {
                // An error may mean that the server has removed a file meanwhile.
                is_replayable = log::replayed_until(&member)
                    .ok()
                    .map(|until| until.is_none_or(|until| until > own));
                newest = snapshot;
            }
            is_replayable == Some(true)
        })
    }

    /// Adds an entry to the log that changes nothing. A server writes a raft snapshot only with the
    /// second entry after the last one, and a cluster that nobody uses makes none. With authentication
    /// enabled etcd refuses it, and what is waited for may still come.
    fn add_entry(&self) {
        let (path, body) = ("/v3/lease/revoke", r#"{"ID":"0"}"#);
        let request = HttpRequest { method: "POST", path, body };
        let _ = http::send(self.address(), request, RESPONSE_TIMEOUT);
    }

    /// Waits until there is a raft snapshot newer than `before`, so that the next server does not
    /// replay entries that it does not understand.
    pub fn wait_for_snapshot(
        &mut self,
        data_dir: &Path,
        before: Option<SnapshotName>,
    ) -> Result<(), MigrateError> {
        self.wait_for("a raft snapshot to be written", |_| raft_snapshot::newest(data_dir) > before)
    }

    /// Waits until cluster and storage are at an older version, after a downgrade was enabled.
    pub fn wait_until_downgraded(&mut self, to: Series) -> Result<(), MigrateError> {
        let what = format!("the data to be downgraded to {to}");
        self.wait_for(&what, |server| server.is_downgraded(to))
    }

    /// Whether cluster and storage are at this version.
    pub fn is_downgraded(&self, to: Series) -> bool {
        self.reported("etcdcluster") == Some(to) && self.reported("storage") == Some(to)
    }

    /// Waits until the server is healthy.
    pub fn wait_until_healthy(&mut self) -> Result<(), MigrateError> {
        self.wait_for("the server to be healthy", Self::is_healthy)
    }

    fn wait_for(
        &mut self,
        what: &str,
        mut is_reached: impl FnMut(&Self) -> bool,
    ) -> Result<(), MigrateError> {
        let poll = Poll::start();
        while !is_reached(self) {
            self.check()?;
            if poll.is_longer_than(self.context.timeouts.start) {
                return Err(self.timed_out(what));
            }
            poll.pause();
        }
        Ok(())
    }

    /// An error if this program was asked to stop, or the server has ended.
    pub fn check(&mut self) -> Result<(), MigrateError> {
        self.context.stop.check()?;
        match self.child.try_wait().map_err(|error| self.lost(&error))? {
            Some(status) => Err(self.died(status)),
            None => Ok(()),
        }
    }

    fn is_healthy(&self) -> bool {
        // The NOSPACE alarm does not prevent an upgrade, other alarms do. Depending on
        // the version, the value is a string or a boolean.
        let health = self.ask("/health?exclude=NOSPACE")["health"].take();
        health == "true" || health == true
    }

    fn reported(&self, field: &str) -> Option<Series> {
        self.ask("/version")[field].as_str()?.parse().ok()
    }

    /// Where it listens for clients.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The JSON of the response; null if there is none.
    fn ask(&self, path: &str) -> Value {
        let response = http::get(self.address(), path, RESPONSE_TIMEOUT).ok();
        let response = response.filter(|response| response.status == 200);
        response.map(|response| response.json()).unwrap_or_default()
    }

    /// Asks the server to stop and waits until it has; kills it if that takes too long. An error if
    /// it ended for another reason, for example because of a full disk.
    pub fn stop(mut self) -> Result<Stopped, MigrateError> {
        let status = self.end()?;
        if self.is_killed {
            return Ok(Stopped::InOrder);
        }
        if !platform::is_stop(status) {
            return Err(self.died(status));
        }
        self.read_to_the_end();
        Ok(if self.tail.saw_stop_message() { Stopped::InOrder } else { Stopped::TooEarly })
    }

    fn end(&mut self) -> Result<ExitStatus, MigrateError> {
        if let Some(status) = self.child.try_wait().map_err(|error| self.lost(&error))? {
            return Ok(status);
        }
        let poll = Poll::start();
        if platform::ask_to_stop(&self.child).is_err() {
            self.kill()?;
        }
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| self.lost(&error))? {
                return Ok(status);
            }
            if !self.is_killed && poll.is_longer_than(self.context.timeouts.stop) {
                self.context.log.warn(
                    "killed",
                    format_args!("etcd {} did not stop in time and was killed", self.version),
                );
                self.kill()?;
            }
            poll.pause();
        }
    }

    fn kill(&mut self) -> Result<(), MigrateError> {
        self.is_killed = true;
        self.child.kill().map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &io::Error) -> MigrateError {
        MigrateError::new(
            MigrateErrorKind::StepFailed,
            format_args!("etcd {} can no longer be watched: {error}", self.version),
        )
    }

    fn died(&mut self, status: ExitStatus) -> MigrateError {
        self.read_to_the_end();
        self.with_last_lines(&format!("etcd {} ended by itself ({status})", self.version))
    }

    /// Waits for the thread that reads the log, which ends with the process.
    fn read_to_the_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    fn timed_out(&self, what: &str) -> MigrateError {
        let seconds = self.context.timeouts.start.as_secs();
        let cause = format!("etcd {} ran for {seconds} s, waiting for {what}", self.version);
        self.with_last_lines(&cause)
            .hint("in a cluster of several members the others must run, at the same minor version")
            .hint("--start-timeout gives more time to large databases")
    }

    fn with_last_lines(&self, cause: &str) -> MigrateError {
        MigrateError::new(
            MigrateErrorKind::StepFailed,
            format_args!("{cause}{}", self.tail.last_lines()),
        )
    }
}

impl Drop for Server<'_> {
    /// Leaves no server behind.
    fn drop(&mut self) {
        if self.end().is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
