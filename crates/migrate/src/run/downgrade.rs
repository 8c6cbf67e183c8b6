//! The two ways back: in place, which etcd can from 3.6 on, and by snapshot, which works for all.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etcd_version::EtcdVersion;

use crate::failure::{Failure, Kind};
use crate::files::tree;
use crate::inspect::data_dir::{self, DataDirContents};
use crate::inspect::series::Series;
pub use crate::plan::tools::{has_schema, restorer};
use crate::platform;
use crate::run::poll::Poll;
use crate::run::runner::Runner;
use crate::run::server::Server;
use crate::run::subprocess;
pub use crate::state::swap::Swap;

#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is for one lifetime")]
impl Runner<'_> {
    pub fn downgrade_in_place(&self, from: &EtcdVersion, to: &EtcdVersion) -> Result<(), Failure> {
        let newer_tool = self.program("etcdctl", from)?;
        let goal = Series::of(to);
        let patience = self.options.timeouts.start;
        self.serve(from, |server| {
            server.wait_until_healthy()?;
            enable(&newer_tool, server, goal, patience)?;
            server.wait_until_downgraded(goal)
        })?;
        // The older etcd proves that it can read the data, and closes the downgrade, which would
        // otherwise hold back the next upgrade.
        self.serve(to, |server| {
            server.wait_until_upgraded()?;
            // With the newer tool, since that of 3.5 does not know the word.
            cancel(&newer_tool, server, patience)
        })
    }

    /// Ends a downgrade that an earlier run began, so that the data may go elsewhere.
    pub fn cancel_downgrade(&self, at: &EtcdVersion) -> Result<(), Failure> {
        // With the target's tool, which knows the word: it is newer than where the downgrade led.
        let tool = self.program("etcdctl", &self.options.target.version)?;
        self.serve(at, |server| {
            server.wait_until_healthy()?;
            cancel(&tool, server, self.options.timeouts.start)?;
            server.wait_until_upgraded()
        })
    }

    pub fn downgrade_by_snapshot(
        &self,
        from: &EtcdVersion,
        to: &EtcdVersion,
    ) -> Result<(), Failure> {
        // Its log may hold more than its database; a clean stop brings both to the same point.
        self.serve(from, |server| server.wait_until_healthy())?;
        let swap = Swap::of(&self.options.data_dir);
        swap.clear()?;
        let swapped = self.restore(from, to, &swap).and_then(|()| swap.finish());
        swapped.inspect_err(|_| swap.discard())?;
        swap.clear()?;
        self.upgrade(to)
    }

    /// Turns the database into a durable data directory of the older version.
    fn restore(&self, from: &EtcdVersion, to: &EtcdVersion, swap: &Swap) -> Result<(), Failure> {
        self.run_tools(from, to, swap)?;
        platform::copy_ownership(&swap.member, &swap.restored.join("member"))
            .and_then(|()| tree::sync(&swap.restored))
            .map_err(|error| Failure::file("make durable", &swap.restored, &error))
    }

    fn run_tools(&self, from: &EtcdVersion, to: &EtcdVersion, swap: &Swap) -> Result<(), Failure> {
        let identity = self.identity()?;
        let db = |member: &Path| member.join("snap").join("db");
        if !has_schema(from) {
            return self.restore_with(
                restorer(to),
                to,
                &db(&swap.member),
                &swap.restored,
                &identity,
            );
        }
        // The newer tool first takes out of the database what the older etcd does not know. It
        // refuses while the log still has such entries, so it works on a restored copy.
        let staged = swap.staged.join("member");
        self.restore_with("etcdutl", from, &db(&swap.member), &swap.staged, &identity)?;
        let mut migrate = Command::new(self.program("etcdutl", from)?);
        migrate.args(["migrate", "--target-version", &to.series(), "--data-dir"]);
        migrate.arg(&swap.staged);
        self.must_run(migrate, &format!("etcd {from} could not write the schema of {to}"))?;
        self.restore_with(restorer(to), to, &db(&staged), &swap.restored, &identity)
    }

    fn restore_with(
        &self,
        tool: &str,
        version: &EtcdVersion,
        db: &Path,
        into: &Path,
        identity: &ClusterIdentity,
    ) -> Result<(), Failure> {
        let mut command = Command::new(self.program(tool, version)?);
        command.arg("snapshot").arg("restore").arg(db);
        // The hash is that of `snapshot save`; this is the database itself.
        command.arg("--skip-hash-check").arg("--data-dir").arg(into);
        command.args(["--name", &identity.name, "--initial-cluster", &identity.initial_cluster]);
        command.args(["--initial-advertise-peer-urls", &identity.peer_urls]);
        if let Some(token) = &self.options.member.initial_cluster_token {
            command.args(["--initial-cluster-token", token]);
        }
        let what = format!("the tools of etcd {version} could not restore the database");
        self.must_run(command, &what)
    }

    fn must_run(&self, command: Command, what: &str) -> Result<(), Failure> {
        match subprocess::run(command, || self.stop.check())? {
            None => Ok(()),
            Some(error) => Err(Failure::new(Kind::StepFailed, format_args!("{what}: {error}"))),
        }
    }

    /// The only member as the data knows it, else as the options describe it.
    fn identity(&self) -> Result<ClusterIdentity, Failure> {
        let member = &self.options.member;
        let DataDirContents::Etcd3(data) = data_dir::read(&self.options.data_dir)?.contents else {
            return Err(Failure::new(Kind::StepFailed, "the data went away"));
        };
        let Some(known) = data.only_member() else {
            return Ok(ClusterIdentity {
                name: member.name.clone(),
                initial_cluster: member.initial_cluster.clone(),
                peer_urls: member.initial_advertise_peer_urls.clone(),
            });
        };
        let (name, urls) = (&known.name, &known.peer_urls);
        let cluster: Vec<_> = urls.iter().map(|url| format!("{name}={url}")).collect();
        Ok(ClusterIdentity {
            name: name.clone(),
            initial_cluster: cluster.join(","),
            peer_urls: urls.join(","),
        })
    }
}

struct ClusterIdentity {
    name: String,
    initial_cluster: String,
    peer_urls: String,
}

/// Asks until etcd agrees: it first has to settle its own version, or an earlier downgrade.
fn enable(
    etcdctl_path: &Path,
    server: &mut Server<'_>,
    goal: Series,
    patience: Duration,
) -> Result<(), Failure> {
    let poll = Poll::expensive();
    while !server.is_downgraded(goal) {
        let Some(error) =
            etcdctl(etcdctl_path, server, &["downgrade", "enable", &goal.to_string()])?
        else {
            return Ok(());
        };
        if poll.is_longer_than(patience) {
            let what = format_args!("etcd refused the downgrade to {goal}: {error}");
            return Err(Failure::new(Kind::StepFailed, what));
        }
        server.check()?;
        poll.pause();
    }
    Ok(())
}

/// Closes a downgrade, unless the server did so by itself.
fn cancel(etcdctl_path: &Path, server: &mut Server<'_>, patience: Duration) -> Result<(), Failure> {
    let poll = Poll::expensive();
    while let Some(error) = etcdctl(etcdctl_path, server, &["downgrade", "cancel"])? {
        if error.contains("no inflight downgrade") {
            return Ok(());
        }
        if poll.is_longer_than(patience) {
            let what = format_args!("etcd did not close the downgrade: {error}");
            return Err(Failure::new(Kind::StepFailed, what));
        }
        server.check()?;
        poll.pause();
    }
    Ok(())
}

/// Runs `etcdctl` against a server of ours; the last line of its errors, if it failed. It does not
/// wait for a server that is gone.
fn etcdctl(
    path: &Path,
    server: &mut Server<'_>,
    words: &[&str],
) -> Result<Option<String>, Failure> {
    let mut command = Command::new(path);
    command.arg(format!("--endpoints=http://127.0.0.1:{}", server.port)).args(words);
    subprocess::run(command, || server.check())
}
