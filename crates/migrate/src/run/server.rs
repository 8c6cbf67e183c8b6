//! A server of the journey: started on loopback, watched, asked, stopped.
//!
//! Needs no credentials and writes nothing: `/health` and `/version` answer everyone.

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use etcd_version::EtcdVersion;
use serde_json::Value;

use crate::cli::options::{Port, ServerLog, ServerOptions, Timeouts};
use crate::failure::{Failure, Kind};
use crate::inspect::series::Series;
use crate::inspect::wal;
use crate::platform;
use crate::report::event::EventLog;
use crate::run::command::{self, Launch};
use crate::run::http;
use crate::run::peers::Peers;
use crate::run::poll::Poll;
use crate::run::signal::StopSignal;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of its log is shown when a server fails.
const LAST_LINES: usize = 5;
const LONGEST_LINE: usize = 400;
/// How long other members may take until they listen: as long as their containers may take to start
/// when all members are restarted at the same time.
const QUORUM_TIMEOUT: Duration = Duration::from_mins(1);

pub struct ServerContext<'a> {
    pub member: &'a ServerOptions,
    pub timeouts: &'a Timeouts,
    pub server_log: ServerLog,
    pub stop: &'a StopSignal,
    pub log: EventLog,
}

pub struct Server<'a> {
    context: &'a ServerContext<'a>,
    version: EtcdVersion,
    child: Child,
    pub port: u16,
    tail: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
    /// Whether it said that it was asked to stop.
    has_heard: Arc<AtomicBool>,
    /// By us, because it could not be stopped otherwise.
    is_killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// What it had agreed to is in its database.
    InOrder,
    /// A server answers a moment before it listens for signals, and one that comes then kills it.
    TooEarly,
}

impl<'a> Server<'a> {
    pub fn start(
        program: &Path,
        version: &EtcdVersion,
        data_dir: &Path,
        context: &'a ServerContext<'a>,
    ) -> Result<Self, Failure> {
        let data_dir = data_dir.to_str().ok_or_else(|| {
            Failure::new(Kind::System, format_args!("{} is not UTF-8", data_dir.display()))
        })?;
        let port = free_port(context.member.port)?;
        let listen_peer_urls = &peer_urls(context.member)?;
        let launch = Launch { data_dir, port, listen_peer_urls };
        let arguments = command::arguments(version, context.member, &launch);
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.to_str().is_none_or(|name| command::is_hidden(name, &arguments)) {
                command.env_remove(name);
            }
        }
        if let Some(arch) = command::unsupported_arch(version, env::consts::ARCH) {
            command.env("ETCD_UNSUPPORTED_ARCH", arch);
        }
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Failure::file("start", program, &error))?;
        let stderr = child.stderr.take();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        // From here on the server ends with this value, whatever goes wrong.
        let version = version.clone();
        let mut server = Self {
            context,
            version,
            child,
            port,
            tail,
            reader: None,
            has_heard: Arc::default(),
            is_killed: false,
        };
        server.reader = stderr.map(|stderr| server.follow(stderr)).transpose()?;
        Ok(server)
    }

    /// Reads what the server says, in a thread, which a machine at its limits may refuse.
    fn follow(&self, stderr: ChildStderr) -> Result<JoinHandle<()>, Failure> {
        let (tail, has_heard) = (Arc::clone(&self.tail), Arc::clone(&self.has_heard));
        let (server_log, log) = (self.context.server_log, self.context.log);
        let follow = move || keep_last_lines(stderr, (&tail, &has_heard), server_log, log);
        thread::Builder::new().spawn(follow).map_err(|error| {
            Failure::new(Kind::System, format_args!("cannot start a thread: {error}"))
        })
    }

    /// Waits until the server is healthy and the whole cluster is at its minor version.
    pub fn wait_until_upgraded(&mut self) -> Result<(), Failure> {
        let wanted = Series::of(&self.version);
        let mut was_healthy = false;
        // Both stay true once they were: in a cluster whose other members also migrate, the
        // quorum may be gone in the moment after.
        self.wait_for(&format!("the cluster to be healthy and at {wanted}"), |server| {
            was_healthy = was_healthy || server.is_healthy();
            was_healthy && server.reported("etcdcluster") >= Some(wanted)
        })
    }

    /// Waits until the server is healthy, but not for a cluster of which too few members can be
    /// reached.
    pub fn wait_for_quorum(&mut self, peers: &Peers) -> Result<(), Failure> {
        let limit = QUORUM_TIMEOUT.min(self.context.timeouts.start);
        let poll = Poll::start();
        while !self.is_healthy() {
            self.check()?;
            if poll.is_longer_than(limit) {
                let reachable = peers.reachable();
                if reachable < peers.needed {
                    return Err(self.without_quorum(reachable, peers));
                }
                // Those that are there will agree or not: that is waited for as in any step.
                break;
            }
            poll.pause();
        }
        Ok(())
    }

    fn without_quorum(&self, reachable: usize, peers: &Peers) -> Failure {
        let series = Series::of(&self.version);
        let next = series.next();
        Failure::new(
            Kind::NoQuorum,
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

    /// Waits until every later minor version can replay the log: until a raft snapshot lies behind
    /// the last request that they do not understand.
    pub fn wait_for_replayable_log(&mut self, data_dir: &Path) -> Result<(), Failure> {
        let own = Series::of(&self.version);
        let member = data_dir.join("member");
        let mut newest = None;
        let mut is_replayable = None;
        self.wait_for("a raft snapshot behind the last request of the v2 API", |_| {
            // The log is long, and only a snapshot changes what is to be replayed.
            let snapshot = newest_snapshot(data_dir);
            if is_replayable.is_none() || snapshot != newest {
                // The server may remove a file between two looks.
                is_replayable = wal::replayed_until(&member)
                    .ok()
                    .map(|until| until.is_none_or(|until| until > own));
                newest = snapshot;
            }
            is_replayable == Some(true)
        })
    }

    /// Waits until the server has written a raft snapshot since `before`, so that the next one does
    /// not replay entries that it no longer understands.
    pub fn wait_for_snapshot(
        &mut self,
        data_dir: &Path,
        before: Option<&str>,
    ) -> Result<(), Failure> {
        self.wait_for("a raft snapshot to be written", |_| {
            newest_snapshot(data_dir).as_deref() > before
        })
    }

    /// Waits until cluster and storage are at an older version, after a downgrade was enabled.
    pub fn wait_until_downgraded(&mut self, to: Series) -> Result<(), Failure> {
        let what = format!("the data to be downgraded to {to}");
        self.wait_for(&what, |server| server.is_downgraded(to))
    }

    pub fn is_downgraded(&self, to: Series) -> bool {
        self.reported("etcdcluster") == Some(to) && self.reported("storage") == Some(to)
    }

    pub fn wait_until_healthy(&mut self) -> Result<(), Failure> {
        self.wait_for("the server to be healthy", Self::is_healthy)
    }

    fn wait_for(
        &mut self,
        what: &str,
        mut is_reached: impl FnMut(&Self) -> bool,
    ) -> Result<(), Failure> {
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

    /// An error when we are told to stop or the server is gone.
    pub fn check(&mut self) -> Result<(), Failure> {
        self.context.stop.check()?;
        match self.child.try_wait().map_err(|error| self.lost(&error))? {
            Some(status) => Err(self.died(status)),
            None => Ok(()),
        }
    }

    fn is_healthy(&self) -> bool {
        // A full database is no reason not to upgrade it; a corrupt one is.
        // etcd answers a string, as 3.4 does, or a boolean.
        let health = self.ask("/health?exclude=NOSPACE")["health"].take();
        health == "true" || health == true
    }

    fn reported(&self, field: &str) -> Option<Series> {
        self.ask("/version")[field].as_str()?.parse().ok()
    }

    /// The JSON that the server answers, or null.
    fn ask(&self, path: &str) -> Value {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let answer = http::get(address, path, ANSWER_TIMEOUT).ok();
        answer.filter(|answer| answer.status == 200).map(|answer| answer.json()).unwrap_or_default()
    }

    /// Asks the server to stop and waits for it; kills it when it takes too long. What it had to
    /// say is an error when it died of something else, a full disk for example.
    pub fn stop(mut self) -> Result<Stopped, Failure> {
        let status = self.end()?;
        if self.is_killed {
            return Ok(Stopped::InOrder);
        }
        if !platform::is_stop(status) {
            return Err(self.died(status));
        }
        self.read_to_the_end();
        let has_heard = self.has_heard.load(Ordering::Relaxed);
        Ok(if has_heard { Stopped::InOrder } else { Stopped::TooEarly })
    }

    fn end(&mut self) -> Result<ExitStatus, Failure> {
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

    fn kill(&mut self) -> Result<(), Failure> {
        self.is_killed = true;
        self.child.kill().map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &io::Error) -> Failure {
        Failure::new(
            Kind::StepFailed,
            format_args!("etcd {} can no longer be watched: {error}", self.version),
        )
    }

    fn died(&mut self, status: ExitStatus) -> Failure {
        self.read_to_the_end();
        self.with_last_lines(format!("etcd {} ended by itself ({status})", self.version))
    }

    /// The log ends with the process, so the reader is about to be done.
    fn read_to_the_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    fn timed_out(&self, what: &str) -> Failure {
        let seconds = self.context.timeouts.start.as_secs();
        let cause = format!("etcd {} ran for {seconds} s, waiting for {what}", self.version);
        self.with_last_lines(cause)
            .hint("in a cluster of several members the others must run, at the same minor version")
            .hint("--start-timeout gives more time to large databases")
    }

    fn with_last_lines(&self, cause: String) -> Failure {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = tail.iter().map(|line| format!("\n  {line}"));
        Failure::new(Kind::StepFailed, [cause].into_iter().chain(lines).collect::<String>())
    }
}

impl Drop for Server<'_> {
    /// Whatever went wrong, no server is left behind.
    fn drop(&mut self) {
        if self.end().is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The name of the newest raft snapshot: `<term>-<index>.snap` in hexadecimal, so names sort.
pub fn newest_snapshot(data_dir: &Path) -> Option<String> {
    let entries = fs::read_dir(data_dir.join("member").join("snap")).ok()?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "snap")).max()
}

/// Reads everything, so that the server never waits for us, and remembers the end of it.
fn keep_last_lines(
    stderr: impl io::Read,
    (tail, has_heard): (&Mutex<VecDeque<String>>, &AtomicBool),
    server_log: ServerLog,
    log: EventLog,
) {
    let mut source = BufReader::new(stderr);
    let mut line = Vec::new();
    while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if is_told_to_stop(&text) {
            has_heard.store(true, Ordering::Relaxed);
        }
        if server_log == ServerLog::Show {
            log.info("server", &text);
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        // What follows is the stack, which says nothing to an operator.
        if tail.back().is_some_and(|last| is_final_log_line(last)) {
            continue;
        }
        if tail.len() == LAST_LINES {
            tail.pop_front();
        }
        tail.push_back(text.chars().take(LONGEST_LINE).collect());
    }
}

/// `received signal; shutting down`, up to etcd 3.3 `received terminated signal, shutting down...`.
fn is_told_to_stop(line: &str) -> bool {
    line.contains("received ") && line.contains("signal") && line.contains("shutting down")
}

/// Whether etcd gives up with this line.
fn is_final_log_line(line: &str) -> bool {
    ["\"level\":\"panic\"", "\"level\":\"fatal\"", "panic: "].iter().any(|sign| line.contains(sign))
}

/// Where it listens for members: nobody calls, so any port will do when nobody chose one.
fn peer_urls(member: &ServerOptions) -> Result<String, Failure> {
    let Some(preferred) = member.peer_port else { return Ok(member.listen_peer_urls.clone()) };
    let port = free_port(Port::Preferred(preferred))?;
    Ok(format!("http://localhost:{port}"))
}

/// A port on loopback that nobody listens on right now.
fn free_port(port: Port) -> Result<u16, Failure> {
    let free = |port| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.local_addr().map(|address| address.port())
    };
    let (number, found) = match port {
        Port::Given(number) => (number, free(number)),
        Port::Preferred(number) => (number, free(number).or_else(|_| free(0))),
    };
    found.map_err(|error| {
        Failure::new(Kind::System, format_args!("port {number} on 127.0.0.1 is not free: {error}"))
            .hint("leave --port away and a free one is taken")
    })
}
