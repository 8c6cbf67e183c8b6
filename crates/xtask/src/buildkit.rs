//! A private BuildKit, with the folder that its client keeps its builders in.

use std::path::Path;

use crate::command::{Cmd, path_with};
use crate::daemon::Daemon;
use crate::error::Result;

/// How a BuildKit is started.
#[derive(Debug)]
pub struct BuildkitOptions<'a> {
    pub program: &'a Path,
    /// For its socket and log.
    pub work: &'a Path,
    /// Where it keeps its caches.
    pub root: &'a Path,
}

/// Starts it; `None` if it does not start on this machine. Its log has the reason.
pub fn start(options: &BuildkitOptions<'_>) -> Result<Option<Daemon>> {
    let BuildkitOptions { program, work, root } = options;
    let group = Cmd::new("id").arg("-g").text()?;
    let temporary = format!("TMPDIR={}", work.display());
    let command = Cmd::root("env")
        .args([&temporary, "setsid", "setpriv", "--pdeathsig=TERM"])
        .args(["unshare", "--mount", "--propagation=slave"])
        .arg(program)
        .arg("--root")
        .arg(root)
        .args(["--addr", &address(work), "--group", &group])
        .args(["--containerd-worker=false", "--oci-worker-net=host"])
        .args(["--oci-worker-gc-keepstorage", "12000"])
        .env("PATH", path_with(None)?)
        .log(&log(work))?;
    let mut daemon = Daemon::start(command)?;
    let socket = socket(work);
    Ok(if daemon.until(|| socket.exists())? { Some(daemon) } else { None })
}

/// Where it listens.
pub fn address(work: &Path) -> String {
    format!("unix://{}", socket(work).display())
}

fn socket(work: &Path) -> std::path::PathBuf {
    work.join("buildkit.sock")
}

pub fn log(work: &Path) -> std::path::PathBuf {
    work.join("buildkit.log")
}
