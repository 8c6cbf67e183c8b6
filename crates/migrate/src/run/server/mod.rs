//! An etcd server that does a step: starts it on loopback, watches it, asks it, stops it.
//!
//! `waits.rs` has what a server is waited for. Needs no credentials and writes no key: `/health`
//! and `/version` answer everyone.

mod waits;

use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use etcd_version::{EtcdVersion, Series};
use serde_json::Value;

use crate::cli::options::{ServerLog, ServerOptions, Timeouts};
use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::layout::DataLayout;
use crate::platform;
use crate::report::event::EventLog;
use crate::run::command::{self, Launch, Purpose};
use crate::run::http;
use crate::run::poll::Poll;
use crate::run::ports::{free_port, peer_urls};
use crate::run::server_log::LogTail;
use crate::run::signal::StopSignal;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may take to stop when this program itself was asked to: Kubernetes kills all
/// processes of a pod 30 seconds after its signal.
const TIME_AFTER_SIGNAL: Duration = Duration::from_secs(20);

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
        layout: &DataLayout,
        context: &'a ServerContext<'a>,
    ) -> Result<Self, MigrateError> {
        let data_dir = utf_8(&layout.data_dir)?;
        let wal_dir = utf_8(&layout.wal)?;
        let port = free_port(context.options.port)?;
        let listen_peer_urls = &peer_urls(context.options)?;
        let launch = Launch { purpose: context.purpose, data_dir, wal_dir, port, listen_peer_urls };
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
        let mut poll = Poll::start();
        if self.context.stop.check().is_err() {
            let message = format_args!(
                "etcd {} is asked to stop; a second signal kills it, and nothing is lost",
                self.version
            );
            self.context.log.server("interrupted", &self.version, message);
        }
        if platform::ask_to_stop(&self.child).is_err() {
            self.kill()?;
        }
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| self.lost(&error))? {
                return Ok(status);
            }
            let limit = self.time_to_stop();
            if !self.is_killed && (poll.is_longer_than(limit) || self.context.stop.is_repeated()) {
                self.context.log.warn(
                    "killed",
                    format_args!("etcd {} did not stop in time and was killed", self.version),
                );
                self.kill()?;
            }
            self.remind(&mut poll, "the server to stop", limit);
            poll.pause();
        }
    }

    /// How long the server may take to stop. A killed server loses nothing.
    fn time_to_stop(&self) -> Duration {
        let limit = self.context.timeouts.stop;
        if self.context.stop.check().is_err() { limit.min(TIME_AFTER_SIGNAL) } else { limit }
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

    fn with_last_lines(&self, cause: &str) -> MigrateError {
        MigrateError::new(
            MigrateErrorKind::StepFailed,
            format_args!("{cause}{}", self.tail.last_lines()),
        )
    }
}

fn utf_8(path: &Path) -> Result<&str, MigrateError> {
    path.to_str().ok_or_else(|| {
        let what = format_args!("{} is not UTF-8", path.display());
        MigrateError::new(MigrateErrorKind::System, what)
    })
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
