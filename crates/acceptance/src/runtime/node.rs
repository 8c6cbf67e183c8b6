//! An isolated node for podman's `kube play`: its own network, processes and folders, so that
//! manifests with `hostNetwork` and `hostPath` run unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{RuntimeError, find, path, to_the_end};
use crate::container::Ended;
use process::{Child, Invocation, Streams};

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
# As the first process it gets everybody's orphans. Podman takes the remains of one for alive and
# waits for it without an end, so they are waited for here.
while :; do sleep 3600 & wait $!; done
"#;

/// runc if it is installed: crun refuses machines with both generations of cgroups.
fn podman_conf() -> String {
    let runtime = if find("runc").is_some() { "runtime = \"runc\"\n" } else { "" };
    format!(
        "[containers]\nlog_driver = \"k8s-file\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
         events_logger = \"none\"\n{runtime}"
    )
}

/// The length of the id of a pod or container, in hexadecimal digits.
const ID_LENGTH: usize = 64;
const GROUPS: &str = "/sys/fs/cgroup";

/// How long podman waits for containers that no longer answer.
const PODMAN_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct Node<'a> {
    first: Child,
    interrupted: &'a AtomicBool,
    folder: PathBuf,
    /// Every id that podman has printed: its pods, and more.
    ids: Mutex<BTreeSet<String>>,
}

impl<'a> Node<'a> {
    /// `None` when this machine has no podman, or none that may run here.
    pub fn find_podman() -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("an isolated node for podman needs root".to_owned());
        }
        let parts = ["podman", "catatonit", "ip", "unshare"];
        let missing = parts.into_iter().find(|name| find(name).is_none());
        missing.map_or(Ok(()), |name| Err(format!("{name} is not installed")))
    }

    pub fn boot(
        folder: &Path,
        addresses: &[&str],
        interrupted: &'a AtomicBool,
    ) -> Result<Self, RuntimeError> {
        let failed = || RuntimeError::because("cannot make a node for podman");
        for name in ["etcd", "pki", "storage", "tmp"] {
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
        Ok(Self { first, interrupted, folder: folder.to_owned(), ids: Mutex::default() })
    }

    /// What lies below /var/lib/etcd on the node.
    pub fn data(&self) -> PathBuf {
        self.folder.join("etcd")
    }

    /// What lies below /etc/kubernetes/pki on the node.
    pub fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    /// The PID, on the host, of the first process of the node.
    fn inside(&self) -> Option<i32> {
        let id = self.first.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    fn ids(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes control groups. They belong to the machine, and stay when their processes are
    /// killed.
    fn remove_groups(&self) {
        let own: BTreeSet<_> = folders(&self.folder.join("storage/overlay-containers"))
            .iter()
            .map(|it| name(it))
            .collect();
        let ids = self.ids();
        let is_own = |pod: &PathBuf| {
            let of_container = |group: &PathBuf| {
                name(group).strip_prefix("libpod-").is_some_and(|id| own.contains(id))
            };
            ids.contains(&name(pod)) || folders(pod).iter().any(of_container)
        };
        let all = Path::new(GROUPS);
        let roots = folders(all).into_iter().chain([all.to_owned()]);
        let parents: Vec<_> = roots.map(|root| root.join("libpod_parent")).collect();
        let pods = parents.iter().flat_map(|parent| folders(parent));
        let pods: BTreeSet<_> = pods.filter(is_own).map(|pod| name(&pod)).collect();
        for parent in &parents {
            for pod in pods.iter().map(|pod| parent.join(pod)) {
                // Only empty ones can be removed.
                folders(&pod).iter().chain([&pod]).for_each(|group| drop(fs::remove_dir(group)));
            }
            let _ = fs::remove_dir(parent);
        }
    }

    /// Runs podman on the node, to its end.
    pub fn podman(&self, words: &[&str]) -> Result<Ended, RuntimeError> {
        let inside = self.inside().unwrap_or_default();
        let own = |name: &str| self.folder.join(name).display().to_string();
        let mut arguments = vec![format!("--target={inside}")];
        let all = ["--mount", "--net", "--pid", "--uts", "--ipc", "podman", "--log-level=error"];
        arguments.extend(all.map(str::to_owned));
        arguments.push(format!("--root={}", own("storage")));
        // A path on the node, because podman refuses a long one here.
        arguments.push("--runroot=/run/podman".to_owned());
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
        let conf = own("containers.conf").into();
        let invocation = Invocation {
            program: "nsenter".into(),
            arguments: arguments.into_iter().map(OsString::from).collect(),
            folder: "/".into(),
            passed_on: path(),
            environment: BTreeMap::from([
                ("CONTAINERS_CONF".to_owned(), conf),
                ("TMPDIR".to_owned(), own("tmp").into()),
            ]),
        };
        let ended = to_the_end(&invocation, &self.folder, PODMAN_TIMEOUT, self.interrupted)?;
        let ids = ended.stdout.split_whitespace().filter(|word| word.len() == ID_LENGTH);
        self.ids().extend(ids.map(str::to_owned));
        Ok(ended)
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // All processes, mounts and the network of the node end with its first process. Podman is
        // not used for this: it may be the program that hangs.
        if let Some(inside) = self.inside().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(inside, rustix::process::Signal::KILL);
            let _ = self.first.wait();
        }
        let _ = self.first.kill();
        self.remove_groups();
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
