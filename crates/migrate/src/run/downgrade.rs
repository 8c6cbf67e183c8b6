//! The two methods of a downgrade: in place, which etcd can from 3.6 on, and by snapshot.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use etcd_version::EtcdVersion;

use super::poll::Poll;
use super::server::Server;
use super::step_context::StepContext;
use super::subprocess;
use crate::cli::options::ServerOptions;
use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::tree;
use crate::inspect::data_dir::{self, DataDirContents};
use crate::inspect::log::{self, writes};
use crate::inspect::member_data::{self, Member};
use crate::plan::tools::{has_storage_version, restorer};
use crate::platform;
use crate::state::swap::Swap;
use etcd_version::Series;

/// Downgrades the data by one minor version with `etcdctl downgrade`.
pub fn in_place(
    context: &StepContext<'_>,
    from: &EtcdVersion,
    to: &EtcdVersion,
) -> Result<(), MigrateError> {
    let newer_tool = context.program("etcdctl", from)?;
    let goal = to.series();
    let limit = context.options.timeouts.start;
    let layout = &context.options.layout;
    context.serve(from, |server| {
        server.wait_until_healthy()?;
        // Data that was at a version without files of them has none: the older etcd needs one.
        if log::newest_snapshot(&layout.wal, &layout.snap, from.series()).is_none() {
            server.wait_for_snapshot(layout, None)?;
        }
        enable(&newer_tool, server, goal, limit)?;
        server.wait_until_downgraded(goal)
    })?;
    // The older etcd shows that it can read the data. It also ends the downgrade, which would
    // otherwise prevent the next upgrade.
    context.serve(to, |server| {
        server.wait_until_upgraded()?;
        // With the newer tool, because that of 3.5 does not know this command.
        cancel(&newer_tool, server, limit)
    })
}

/// Cancels a downgrade that an earlier run enabled, so that the data can go to another version.
/// `at` is the version to do it with.
pub fn cancel_earlier(context: &StepContext<'_>, at: &EtcdVersion) -> Result<(), MigrateError> {
    // The tool of the target is newer than the goal of the downgrade, so it knows this command.
    let tool = context.program("etcdctl", &context.options.target.version)?;
    context.serve(at, |server| {
        server.wait_until_healthy()?;
        cancel(&tool, server, context.options.timeouts.start)?;
        server.wait_until_upgraded()
    })
}

/// Replaces the data by a snapshot of itself, restored with the tools of the older version.
pub fn by_snapshot(
    context: &StepContext<'_>,
    from: &EtcdVersion,
    to: &EtcdVersion,
) -> Result<(), MigrateError> {
    settle(context, from)?;
    let swap = Swap::of(&context.options.layout);
    swap.clear()?;
    swap.prepare()?;
    let swapped = restore(context, from, to, &swap).and_then(|()| swap.finish());
    swapped.inspect_err(|_| swap.discard())?;
    swap.clear()?;
    context.upgrade(to)
}

/// Brings everything that is in the log into the database. After a clean stop it is there; a server
/// that was ended may have kept the last changes back, and then runs again, and longer.
fn settle(context: &StepContext<'_>, version: &EtcdVersion) -> Result<(), MigrateError> {
    const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10)];
    let layout = &context.options.layout;
    for pause in PAUSES {
        context.serve(version, |server| {
            server.wait_until_healthy()?;
            thread::sleep(pause);
            Ok(())
        })?;
        let index = member_data::read_db(&layout.db())?.consistent_index.unwrap_or(0);
        let missing = writes::after(&layout.wal, index)
            .map_err(|error| MigrateError::file("read the log in", &layout.wal, &error))?;
        if missing.entries == 0 {
            return Ok(());
        }
    }
    let what = format_args!(
        "etcd {version} was ended three times before all of its log was in its database"
    );
    Err(MigrateError::new(MigrateErrorKind::StepFailed, what)
        .hint("give it more time to stop with --stop-timeout"))
}

/// Turns the database into a durable data directory of the older version.
fn restore(
    context: &StepContext<'_>,
    from: &EtcdVersion,
    to: &EtcdVersion,
    swap: &Swap,
) -> Result<(), MigrateError> {
    run_tools(context, from, to, swap)?;
    platform::copy_ownership(&swap.member, &swap.restored.join("member"))
        .and_then(|()| tree::sync(&swap.restored))
        .map_err(|error| MigrateError::file("make durable", &swap.restored, &error))
}

fn run_tools(
    context: &StepContext<'_>,
    from: &EtcdVersion,
    to: &EtcdVersion,
    swap: &Swap,
) -> Result<(), MigrateError> {
    let identity = ClusterIdentity::of(context)?;
    let db = |member: &Path| member.join("snap").join("db");
    let restore = |tool, version: &EtcdVersion, db: &Path, into: &Path| {
        let mut command = Command::new(context.program(tool, version)?);
        command.arg("snapshot").arg("restore").arg(db);
        // Only files of `snapshot save` have a hash, and this is the database itself.
        command.arg("--skip-hash-check").arg("--data-dir").arg(into).args(identity.flags());
        let what = format!("the tools of etcd {version} could not restore the database");
        context.run_tool(command, &what)
    };
    if !has_storage_version(from) {
        return restore(restorer(to), to, &db(&swap.member), &swap.restored);
    }
    // First the newer tool removes from the database what the older etcd does not know. It refuses
    // to do so while the log has such entries, so it works on a restored copy without a log.
    restore("etcdutl", from, &db(&swap.member), &swap.staged)?;
    let mut migrate = Command::new(context.program("etcdutl", from)?);
    migrate
        .args(["migrate", "--target-version", &to.series().to_string(), "--data-dir"])
        .arg(&swap.staged);
    context.run_tool(migrate, &format!("etcd {from} could not write the schema of {to}"))?;
    restore(restorer(to), to, &db(&swap.staged.join("member")), &swap.restored)
}

/// What a restored member calls itself and its cluster.
#[derive(Debug)]
pub struct ClusterIdentity {
    name: String,
    initial_cluster: String,
    peer_urls: String,
    token: Option<String>,
}

impl ClusterIdentity {
    /// As the options say.
    pub fn given(options: &ServerOptions) -> Self {
        Self {
            name: options.name.clone(),
            initial_cluster: options.initial_cluster.clone(),
            peer_urls: options.initial_advertise_peer_urls.clone(),
            token: options.initial_cluster_token.clone(),
        }
    }

    /// The only member as the data describes it, else as the options do.
    fn of(context: &StepContext<'_>) -> Result<Self, MigrateError> {
        let options = &context.options.member;
        let DataDirContents::Etcd3(data) = data_dir::read(&context.options.layout)?.contents else {
            return Err(MigrateError::new(
                MigrateErrorKind::StepFailed,
                "the data has disappeared",
            ));
        };
        let given = Self::given(options);
        let Some(Member { name, peer_urls, .. }) = data.only_member() else { return Ok(given) };
        let cluster: Vec<_> = peer_urls.iter().map(|url| format!("{name}={url}")).collect();
        Ok(Self {
            name: name.clone(),
            initial_cluster: cluster.join(","),
            peer_urls: peer_urls.join(","),
            ..given
        })
    }

    /// As the tools that restore take it.
    pub fn flags(&self) -> Vec<&str> {
        let mut flags = vec!["--name", &self.name, "--initial-cluster", &self.initial_cluster];
        flags.extend(["--initial-advertise-peer-urls", &self.peer_urls]);
        if let Some(token) = &self.token {
            flags.extend(["--initial-cluster-token", token]);
        }
        flags
    }
}

/// Repeats the command until etcd accepts it: it first has to decide on its cluster version, or to
/// end an earlier downgrade.
fn enable(
    etcdctl_path: &Path,
    server: &mut Server<'_>,
    goal: Series,
    limit: Duration,
) -> Result<(), MigrateError> {
    let mut poll = Poll::expensive();
    while !server.is_downgraded(goal) {
        let Some(error) =
            etcdctl(etcdctl_path, server, &["downgrade", "enable", &goal.to_string()])?
        else {
            return Ok(());
        };
        if poll.is_longer_than(limit) {
            let what = format_args!("etcd refused the downgrade to {goal}: {error}");
            return Err(MigrateError::new(MigrateErrorKind::StepFailed, what));
        }
        server.check()?;
        server.remind(&mut poll, &format!("the downgrade to {goal} to be accepted"), limit);
        poll.pause();
    }
    Ok(())
}

/// Cancels a downgrade, unless the server has ended it itself.
fn cancel(
    etcdctl_path: &Path,
    server: &mut Server<'_>,
    limit: Duration,
) -> Result<(), MigrateError> {
    let mut poll = Poll::expensive();
    while let Some(error) = etcdctl(etcdctl_path, server, &["downgrade", "cancel"])? {
        if error.contains("no inflight downgrade") {
            return Ok(());
        }
        if poll.is_longer_than(limit) {
            let what = format_args!("etcd did not close the downgrade: {error}");
            return Err(MigrateError::new(MigrateErrorKind::StepFailed, what));
        }
        server.check()?;
        server.remind(&mut poll, "the end of the downgrade to be accepted", limit);
        poll.pause();
    }
    Ok(())
}

/// Runs `etcdctl` against the server. `Some` is the last line of its error. Kills it when the
/// server ends.
fn etcdctl(
    path: &Path,
    server: &mut Server<'_>,
    words: &[&str],
) -> Result<Option<String>, MigrateError> {
    let mut command = Command::new(path);
    command.arg(format!("--endpoints=http://127.0.0.1:{}", server.port)).args(words);
    subprocess::run(command, || server.check())
}
