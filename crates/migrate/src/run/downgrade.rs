//! The two ways back: in place, which etcd can from 3.6 on, and by snapshot, which works for all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use etcd_version::EtcdVersion;

use crate::failure::{Failure, Kind};
use crate::files::durable;
use crate::inspect::data_dir::{self as found, Contents};
use crate::inspect::series::Series;
use crate::platform;
use crate::run::backup;
use crate::run::poll::Wait;
use crate::run::runner::Walk;
use crate::run::server::Server;
use crate::run::subprocess as tool;
use crate::state::lock::state_dir;

/// The program that restores snapshots: `etcdutl` since it exists, and from 3.6 on only that.
pub fn restorer(to: &EtcdVersion) -> &'static str {
    if to.minor() >= 5 { "etcdutl" } else { "etcdctl" }
}

/// Whether a database of this version names its own layout, and `etcdutl migrate` can change it.
pub fn has_schema(version: &EtcdVersion) -> bool {
    version.minor() >= 6
}

#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is for one lifetime")]
impl Walk<'_> {
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
            .and_then(|()| sync_all(&swap.restored))
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
        identity: &Identity,
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
        match tool::run(command, || self.stop.check())? {
            None => Ok(()),
            Some(error) => Err(Failure::new(Kind::StepFailed, format_args!("{what}: {error}"))),
        }
    }

    /// The only member as the data knows it, else as the options describe it.
    fn identity(&self) -> Result<Identity, Failure> {
        let member = &self.options.member;
        let Contents::Etcd3(data) = found::look(&self.options.data_dir)?.contents else {
            return Err(Failure::new(Kind::StepFailed, "the data went away"));
        };
        let Some(known) = data.only_member() else {
            return Ok(Identity {
                name: member.name.clone(),
                initial_cluster: member.initial_cluster.clone(),
                peer_urls: member.initial_advertise_peer_urls.clone(),
            });
        };
        let (name, urls) = (&known.name, &known.peer_urls);
        let cluster: Vec<_> = urls.iter().map(|url| format!("{name}={url}")).collect();
        Ok(Identity {
            name: name.clone(),
            initial_cluster: cluster.join(","),
            peer_urls: urls.join(","),
        })
    }
}

struct Identity {
    name: String,
    initial_cluster: String,
    peer_urls: String,
}

/// Replacing `member` takes two renames, since the data directory itself may be a mount point.
/// Between them there is no `member`; whoever comes next finishes what is complete.
#[derive(Debug)]
pub struct Swap {
    member: PathBuf,
    restored: PathBuf,
    replaced: PathBuf,
    staged: PathBuf,
}

impl Swap {
    pub fn of(data_dir: &Path) -> Self {
        let state = state_dir(data_dir);
        Self {
            member: data_dir.join("member"),
            restored: state.join("restored"),
            replaced: state.join("replaced"),
            staged: state.join("staged"),
        }
    }

    /// Where tools write.
    pub fn targets(&self) -> impl Iterator<Item = &Path> {
        [&*self.restored, &*self.staged].into_iter()
    }

    /// Whether a run ended between the two renames.
    pub fn is_pending(&self) -> bool {
        !self.member.exists() && self.replaced.exists() && self.restored.join("member").exists()
    }

    pub fn finish(&self) -> Result<(), Failure> {
        let parent = durable::parent(&self.member);
        let rename = || {
            if self.member.exists() {
                fs::rename(&self.member, &self.replaced)?;
                platform::sync_directory(durable::parent(&self.replaced))?;
            }
            fs::rename(self.restored.join("member"), &self.member)?;
            platform::sync_directory(parent)
        };
        rename().map_err(|error| Failure::file("move the restored data to", &self.member, &error))
    }

    /// Removes what is of no use as long as there is a `member`, and fills the disk.
    pub fn clear(&self) -> Result<(), Failure> {
        if !self.member.exists() {
            return Ok(());
        }
        for path in [&self.restored, &self.replaced, &self.staged] {
            backup::remove(path).map_err(|error| Failure::file("remove", path, &error))?;
        }
        Ok(())
    }

    /// Removes what a restore that failed has written. The next run would, too.
    fn discard(&self) {
        if self.member.exists() {
            let _ = self.targets().try_for_each(backup::remove);
        }
    }
}

/// Asks until etcd agrees: it first has to settle its own version, or an earlier downgrade.
fn enable(
    etcdctl_path: &Path,
    server: &mut Server<'_>,
    goal: Series,
    patience: Duration,
) -> Result<(), Failure> {
    let wait = Wait::with_dear_questions();
    while !server.is_downgraded(goal) {
        let Some(error) =
            etcdctl(etcdctl_path, server, &["downgrade", "enable", &goal.to_string()])?
        else {
            return Ok(());
        };
        if wait.is_longer_than(patience) {
            let what = format_args!("etcd refused the downgrade to {goal}: {error}");
            return Err(Failure::new(Kind::StepFailed, what));
        }
        server.check()?;
        wait.pause();
    }
    Ok(())
}

/// Closes a downgrade, unless the server did so by itself.
fn cancel(etcdctl_path: &Path, server: &mut Server<'_>, patience: Duration) -> Result<(), Failure> {
    let wait = Wait::with_dear_questions();
    while let Some(error) = etcdctl(etcdctl_path, server, &["downgrade", "cancel"])? {
        if error.contains("no inflight downgrade") {
            return Ok(());
        }
        if wait.is_longer_than(patience) {
            let what = format_args!("etcd did not close the downgrade: {error}");
            return Err(Failure::new(Kind::StepFailed, what));
        }
        server.check()?;
        wait.pause();
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
    tool::run(command, || server.check())
}

fn sync_all(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            fs::File::options().write(true).open(entry.path())?.sync_all()?;
        }
    }
    platform::sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_swap_that_was_interrupted_between_its_renames_is_finished() {
        let scratch = Scratch::new();
        scratch.write("version.txt", b"3.5.33/etcd3");
        scratch.write(".migrate/replaced/snap/db", b"old");
        scratch.write(".migrate/restored/member/snap/db", b"new");
        let swap = Swap::of(scratch.path());
        assert!(swap.is_pending());
        swap.finish().unwrap();
        assert!(!swap.is_pending());
        assert_eq!(fs::read(scratch.path().join("member/snap/db")).unwrap(), b"new");
    }

    #[test]
    fn what_a_restore_left_is_removed_only_when_there_is_a_member() {
        let scratch = Scratch::new();
        let swap = Swap::of(scratch.path());
        let left = ["restored/member", "staged/member", "replaced"];
        let there = || left.map(|name| scratch.path().join(".migrate").join(name).exists());
        for name in left {
            scratch.write(&format!(".migrate/{name}/snap/db"), b"");
        }
        swap.discard();
        swap.clear().unwrap();
        assert_eq!(there(), [true, true, true]);
        scratch.write("member/snap/db", b"");
        swap.discard();
        assert_eq!(there(), [false, false, true]);
        swap.clear().unwrap();
        assert_eq!(there(), [false, false, false]);
    }

    #[test]
    fn a_restore_that_did_not_get_to_its_renames_is_not_taken_for_one() {
        let scratch = Scratch::new();
        scratch.write("member/snap/db", b"old");
        scratch.write(".migrate/restored/member/snap/db", b"half");
        assert!(!Swap::of(scratch.path()).is_pending());
    }
}
