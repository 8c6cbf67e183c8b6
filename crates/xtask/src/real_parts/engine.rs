//! A Docker engine: one that already runs, or a private one. The private one is removed afterwards,
//! with its data and with all its changes to the network.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::network::NetworkState;
use crate::command::{Cmd, is_root};
use crate::daemon::{self, Daemon};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::interrupt;
use crate::workspace::{self, say};

/// Options for a machine that supports neither a bridge nor overlay.
const WITHOUT_BRIDGE: [&str; 5] = [
    "--storage-driver=vfs",
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
];

/// An engine that answers at `host`.
#[derive(Debug)]
pub struct Engine {
    pub host: String,
    /// Ends with the engine.
    _private: Option<PrivateEngine>,
}

/// A private engine, which ends when this value is dropped.
#[derive(Debug)]
struct PrivateEngine {
    daemon: Option<Daemon>,
    network: NetworkState,
    work: std::path::PathBuf,
    host: String,
    /// Two private engines would share the bridge and hand out the same addresses.
    _lock: File,
}

/// Whether an engine answers, at a host or at the client's default address.
pub fn answers(host: Option<&str>) -> bool {
    let ask = Cmd::new("timeout").args(["20", "docker", "version"]);
    let ask = ask.args(["--format", "{{.Server.Version}}"]);
    match host {
        Some(host) => ask.env("DOCKER_HOST", host).succeeds(),
        None => ask.succeeds(),
    }
}

/// Finds or starts one.
pub fn provide(work: &Path) -> Result<Engine> {
    if answers(None) {
        let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let ask = ["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"];
        let host = host.map_or_else(|| Cmd::new("docker").args(ask).text(), Ok)?;
        say(format_args!("using the Docker engine at {host}"));
        return Ok(Engine { host, _private: None });
    }
    if !is_root() && Cmd::root("docker").arg("version").succeeds() {
        return Err(TaskError::new("a Docker engine runs here, but not for this user")
            .hint("become a member of the group docker, or run this with sudo"));
    }
    let parts = workspace::parts()?;
    let mut private = PrivateEngine {
        _lock: lock(&parts.join("engine.lock"))?,
        network: NetworkState::remember(&parts, work)?,
        daemon: None,
        work: work.to_owned(),
        host: format!("unix://{}/docker.sock", work.display()),
    };
    if !private.start(&[])? {
        say("an engine with a bridge and overlay does not start here; trying without both");
        private.end();
        if !private.start(&WITHOUT_BRIDGE)? {
            let log = fs::read_to_string(work.join("dockerd.log")).unwrap_or_default();
            let last = log.lines().rev().take(10).collect::<Vec<_>>();
            let last: Vec<_> = last.into_iter().rev().collect();
            let text = format!("the Docker engine does not start\n{}", last.join("\n"));
            return Err(TaskError::new(text));
        }
    }
    Ok(Engine { host: private.host.clone(), _private: Some(private) })
}

fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).context(path.display())?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say("waiting for another private engine to end"),
        Err(TryLockError::Error(error)) => return Err(error).context(path.display()),
    }
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        interrupt::check()?;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(file)
}

impl PrivateEngine {
    /// Starts it in its own mount namespace, so that its mounts disappear when it ends.
    fn start(&mut self, further: &[&str]) -> Result<bool> {
        let folder = self.work.join("engine");
        Cmd::root("rm").arg("-rf").arg(&folder).run()?;
        fs::create_dir(&folder)?;
        let group = Cmd::new("id").arg("-g").text()?;
        let place = folder.display();
        let options = [
            format!("TMPDIR={place}"),
            "setsid".into(),
            "setpriv".into(),
            "--pdeathsig=TERM".into(),
            "unshare".into(),
            "--mount".into(),
            "--propagation=slave".into(),
            "dockerd".into(),
            format!("--host={}", self.host),
            format!("--group={group}"),
            format!("--pidfile={place}/pid"),
            format!("--data-root={place}/data"),
            format!("--exec-root={place}/exec"),
            "--containerd-namespace=etcdimg".into(),
            "--containerd-plugins-namespace=etcdimg-plugins".into(),
        ];
        // TMPDIR is for containerd, which leaves stack traces there.
        let command = Cmd::root("env")
            .args(options)
            .args(further)
            .env("PATH", crate::command::path_with(None)?)
            .log(&self.work.join("dockerd.log"))?;
        let daemon = self.daemon.insert(Daemon::start(command)?);
        let host = self.host.clone();
        daemon.until(|| answers(Some(&host)))
    }

    fn end(&mut self) {
        interrupt::shielded(|| {
            if answers(Some(&self.host)) {
                self.docker(&["rm", "-f", "-v"], &["ps", "-aq"]);
                let prune = ["60", "docker", "network", "prune", "-f"];
                Cmd::new("timeout").args(prune).env("DOCKER_HOST", &self.host).succeeds();
            }
            let pid = fs::read_to_string(self.work.join("engine/pid")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                daemon::end_all(&[pid]);
            }
            self.daemon = None;
            // containerd and its shims end with the engine, but not if the engine crashes.
            for id in daemon::of_engine(&self.work) {
                daemon::signal(id, rustix::process::Signal::KILL);
            }
            let groups = "rmdir /sys/fs/cgroup/docker/buildkit /sys/fs/cgroup/*/docker/buildkit \
                          /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker";
            Cmd::root("sh").args(["-c", groups]).succeeds();
        });
    }

    /// Runs a command of the client on everything that another command lists.
    fn docker(&self, command: &[&str], list: &[&str]) {
        let docker = |words: &[&str]| {
            Cmd::new("timeout").args(["60", "docker"]).args(words).env("DOCKER_HOST", &self.host)
        };
        let names = docker(list).text().unwrap_or_default();
        if !names.is_empty() {
            docker(command).args(names.split_whitespace()).succeeds();
        }
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        self.end();
        interrupt::shielded(|| self.network.restore());
    }
}
