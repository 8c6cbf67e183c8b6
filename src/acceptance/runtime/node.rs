//! A machine of its own for podman's `kube play`: network, processes and folders that nobody else
//! sees, so that manifests with `hostNetwork` and `hostPath` run as they are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::RuntimeError;
use crate::acceptance::container::Ended;
use crate::process::{Child, Invocation, Streams};

/// Folders of the host that the manifests name, empty; and the addresses of three nodes.
const BOOT: &str = r#"
set -e
ip link set lo up
for address in $ADDRESSES; do ip address add "$address/32" dev lo; done
mount -t tmpfs tmpfs /var/lib
mkdir /var/lib/etcd
mount --bind "$OWN/etcd" /var/lib/etcd
mount -t tmpfs tmpfs /run
mkdir -p "$OWN/upper" "$OWN/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$OWN/upper,workdir=$OWN/work" /etc
mkdir -p /etc/kubernetes/pki
mount --bind "$OWN/pki" /etc/kubernetes/pki
echo up
exec sleep 2147483647
"#;

/// runc where it is: crun refuses machines with both generations of cgroups.
fn podman_conf() -> String {
    let runtime = if find("runc").is_some() { "runtime = \"runc\"\n" } else { "" };
    format!(
        "[containers]\nlog_driver = \"k8s-file\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
         events_logger = \"none\"\n{runtime}"
    )
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/libexec/podman", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(more);
    folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()))
}

/// Podman waits for containers that no longer answer.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct Node {
    first: Child,
    folder: PathBuf,
}

impl Node {
    /// Nothing when this machine has no podman, or none that may run here.
    pub fn find_podman() -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("podman on a node of its own needs root".to_owned());
        }
        let parts = ["podman", "catatonit", "ip", "unshare"];
        let missing = parts.into_iter().find(|name| find(name).is_none());
        missing.map_or(Ok(()), |name| Err(format!("{name} is not installed")))
    }

    pub fn boot(folder: &Path, addresses: &[&str]) -> Result<Self, RuntimeError> {
        let failed = || RuntimeError::because("cannot make a node for podman");
        for name in ["etcd", "pki", "storage"] {
            fs::create_dir_all(folder.join(name)).map_err(failed())?;
        }
        fs::write(folder.join("containers.conf"), podman_conf()).map_err(failed())?;
        let (reader, writer) = std::io::pipe().map_err(failed())?;
        let words = ["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork"];
        let more = ["--kill-child", "--mount-proc", "--uts", "--ipc", "sh", "-c", BOOT];
        let log = File::create(folder.join("node.log")).map_err(failed())?;
        let environment = BTreeMap::from([
            ("OWN".to_owned(), folder.into()),
            ("ADDRESSES".to_owned(), addresses.join(" ").into()),
        ]);
        let invocation = Invocation {
            program: "setpriv".into(),
            arguments: words.into_iter().chain(more).map(OsString::from).collect(),
            folder: "/".into(),
            passed_on: path(),
            environment,
        };
        let streams = Streams { stdin: None, stdout: writer.into(), stderr: log.into() };
        let first = invocation
            .spawn(streams)
            .map_err(RuntimeError::because("cannot make a node for podman"))?;
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).map_err(failed())?;
        if line != "up\n" {
            let said = fs::read_to_string(folder.join("node.log")).unwrap_or_default();
            return Err(RuntimeError::new(format!("cannot make a node for podman: {said}")));
        }
        Ok(Self { first, folder: folder.to_owned() })
    }

    /// What lies below /var/lib/etcd on the node.
    pub fn data(&self) -> PathBuf {
        self.folder.join("etcd")
    }

    /// What lies below /etc/kubernetes/pki on the node.
    pub fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    /// Runs podman on the node, to its end.
    pub fn podman(&self, words: &[&str]) -> Result<Ended, RuntimeError> {
        let id = self.first.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let inside = children.unwrap_or_default();
        let inside = inside.split_whitespace().next().unwrap_or_default().to_owned();
        let own = |name: &str| self.folder.join(name).display().to_string();
        let mut arguments = vec![format!("--target={inside}")];
        let all = ["--mount", "--net", "--pid", "--uts", "--ipc", "podman", "--log-level=error"];
        arguments.extend(all.map(str::to_owned));
        arguments.push(format!("--root={}", own("storage")));
        // On the node: podman takes no long name here.
        arguments.push("--runroot=/run/podman".to_owned());
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
        let conf = own("containers.conf").into();
        let invocation = Invocation {
            program: "nsenter".into(),
            arguments: arguments.into_iter().map(OsString::from).collect(),
            folder: "/".into(),
            passed_on: path(),
            environment: BTreeMap::from([("CONTAINERS_CONF".to_owned(), conf)]),
        };
        let (stdout, stderr) = (self.folder.join("stdout"), self.folder.join("stderr"));
        let failed = || RuntimeError::because("podman cannot be started");
        let streams = Streams {
            stdin: None,
            stdout: File::create(&stdout).map_err(failed())?.into(),
            stderr: File::create(&stderr).map_err(failed())?.into(),
        };
        let mut child =
            invocation.spawn(streams).map_err(RuntimeError::because("podman cannot be started"))?;
        let deadline = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(code) = child.poll().map_err(failed())? {
                break code;
            }
            if Instant::now() > deadline {
                let what = format!("`podman {}` does not end", words.join(" "));
                return Err(RuntimeError::new(what));
            }
            thread::sleep(Duration::from_millis(20));
        };
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Ok(Ended { code, stdout: read(stdout), stderr: read(stderr), ..Ended::default() })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its containers end with its first process; what it mounted goes with its namespace.
        let _ = self.podman(&["pod", "rm", "--all", "--force"]);
        let _ = self.podman(&["umount", "--all"]);
    }
}

fn path() -> BTreeMap<String, OsString> {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    BTreeMap::from([("PATH".to_owned(), path)])
}
