//! What a server is waited for: health, versions, a log that the next version can replay.

use std::thread;
use std::time::{Duration, Instant};

use etcd_version::Series;

use super::{RESPONSE_TIMEOUT, Server};
use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::layout::DataLayout;
use crate::inspect::log;
use crate::inspect::raft_snapshot::SnapshotName;
use crate::run::http::{self, HttpRequest};
use crate::run::peers::Peers;
use crate::run::poll::Poll;

/// How long other members may take until they listen: as long as their containers may take to start
/// when all members are restarted at the same time.
const QUORUM_TIMEOUT: Duration = Duration::from_mins(1);
/// How often a server that waits for a raft snapshot asks for another entry of the log.
const ENTRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a member of several stays after it has reached its goal: many heartbeats, by which the
/// others learn of it.
const LINGER: Duration = Duration::from_secs(3);

impl Server<'_> {
    /// Waits until the server is healthy and the whole cluster is at its minor version.
    pub fn wait_until_upgraded(&mut self) -> Result<(), MigrateError> {
        self.wait_until_agreed(|_| false)
    }

    /// The same in a cluster of several members. When the others have left after all had agreed on
    /// the version, this one can no longer become healthy, and need not.
    pub fn wait_until_upgraded_with(&mut self, peers: &Peers) -> Result<(), MigrateError> {
        let patience = self.patience();
        let started = Instant::now();
        self.wait_until_agreed(|is_agreed| {
            is_agreed && started.elapsed() > patience && peers.reachable() < peers.needed
        })
    }

    /// Stays a moment: the others need this member until they are as far, too.
    pub fn linger(&mut self) -> Result<(), MigrateError> {
        let started = Instant::now();
        while started.elapsed() < LINGER {
            self.check()?;
            thread::sleep(LINGER / 20);
        }
        Ok(())
    }

    /// Waits for the cluster's agreement, and for health unless it is not to be had.
    fn wait_until_agreed(
        &mut self,
        is_health_lost: impl Fn(bool) -> bool,
    ) -> Result<(), MigrateError> {
        let wanted = self.version.series();
        let mut was_healthy = false;
        // The two need not be true at the same time: in a cluster whose other members also migrate,
        // the quorum may be lost a moment later.
        self.wait_for(&format!("the cluster to be healthy and at {wanted}"), |server| {
            was_healthy = was_healthy || server.is_healthy();
            let is_agreed = server.reported("etcdcluster") >= Some(wanted);
            (was_healthy && is_agreed) || is_health_lost(is_agreed)
        })
    }

    /// Waits until the server is healthy. An error if too few other members can be reached for a
    /// quorum.
    pub fn wait_for_quorum(&mut self, peers: &Peers) -> Result<(), MigrateError> {
        let limit = self.patience();
        self.try_wait_for("a quorum", |server, waited| {
            if server.is_healthy() {
                return Ok(true);
            }
            // With enough members the server is waited for as in any other step.
            if waited > limit { server.require_quorum(peers).map(|()| true) } else { Ok(false) }
        })
    }

    /// An error if too few other members can be reached.
    fn require_quorum(&self, peers: &Peers) -> Result<(), MigrateError> {
        let reachable = peers.reachable();
        if reachable < peers.needed { Err(self.without_quorum(reachable, peers)) } else { Ok(()) }
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

    /// Waits until every later minor version can replay the log: until there is a raft snapshot
    /// after the last request that they do not understand. An error if that needs a quorum which is
    /// not to be had.
    pub fn wait_for_replayable_log(
        &mut self,
        layout: &DataLayout,
        peers: &Peers,
    ) -> Result<(), MigrateError> {
        const WHAT: &str = "a raft snapshot behind the last request of the v2 API";
        let own = self.version.series();
        let patience = self.patience();
        let mut asked = Poll::start();
        let mut newest = None;
        let mut is_replayable = None;
        self.try_wait_for(WHAT, |server, waited| {
            if asked.is_longer_than(ENTRY_INTERVAL) {
                server.add_entry();
                asked = Poll::start();
            }
            // The log may be long, and only a new snapshot changes which part of it is replayed.
            let snapshot = log::newest_snapshot(&layout.wal, &layout.snap, own);
            if is_replayable.is_none() || snapshot != newest {
                // An error may mean that the server has removed a file meanwhile.
                is_replayable = log::read(&layout.wal, &layout.snap, Some(own))
                    .ok()
                    .map(|contents| contents.replayed_until.is_none_or(|until| until > own));
                newest = snapshot;
            }
            if is_replayable != Some(true) && waited > patience && !server.is_healthy() {
                server.require_quorum(peers)?;
            }
            Ok(is_replayable == Some(true))
        })
    }

    /// Adds an entry to the log that changes nothing. A server writes a raft snapshot only with the
    /// second entry after the last one, and a cluster that nobody uses makes none. With
    /// authentication enabled etcd refuses it, and what is waited for may still come.
    fn add_entry(&self) {
        let (path, body) = ("/v3/lease/revoke", r#"{"ID":"0"}"#);
        let request = HttpRequest { method: "POST", path, body };
        let _ = http::send(self.address(), request, RESPONSE_TIMEOUT);
    }

    /// How long other members may be away.
    fn patience(&self) -> Duration {
        QUORUM_TIMEOUT.min(self.context.timeouts.start / 2)
    }

    /// Waits until there is a raft snapshot newer than `before`, so that the next server does not
    /// replay entries that it does not understand.
    pub fn wait_for_snapshot(
        &mut self,
        layout: &DataLayout,
        before: Option<SnapshotName>,
    ) -> Result<(), MigrateError> {
        let own = self.version.series();
        let mut asked = Poll::start();
        self.wait_for("a raft snapshot to be written", |server| {
            if asked.is_longer_than(ENTRY_INTERVAL) {
                server.add_entry();
                asked = Poll::start();
            }
            log::newest_snapshot(&layout.wal, &layout.snap, own) > before
        })
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
        self.try_wait_for(what, |server, _| Ok(is_reached(server)))
    }

    /// The same with a reason to give up; it gets how long the wait has lasted.
    fn try_wait_for(
        &mut self,
        what: &str,
        mut is_reached: impl FnMut(&Self, Duration) -> Result<bool, MigrateError>,
    ) -> Result<(), MigrateError> {
        let limit = self.context.timeouts.start;
        let mut poll = Poll::start();
        while !is_reached(self, poll.waited())? {
            self.check()?;
            if poll.is_longer_than(limit) {
                return Err(self.timed_out(what));
            }
            self.remind(&mut poll, what, limit);
            poll.pause();
        }
        Ok(())
    }

    /// Tells a person from time to time what is waited for.
    pub fn remind(&self, poll: &mut Poll, what: &str, limit: Duration) {
        let Some(waited) = poll.reminder() else { return };
        self.context.log.server(
            "waiting",
            &self.version,
            format_args!(
                "etcd {}: waiting for {what}, {waited} s so far, at most {} s",
                self.version,
                limit.as_secs()
            ),
        );
    }

    fn timed_out(&self, what: &str) -> MigrateError {
        let seconds = self.context.timeouts.start.as_secs();
        let cause = format!("etcd {} ran for {seconds} s, waiting for {what}", self.version);
        self.with_last_lines(&cause)
            .hint("in a cluster of several members the others must run, at the same minor version")
            .hint("--start-timeout gives more time to large databases")
    }
}
