//! etcd servers of one member, started by hand.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use etcd_version::EtcdVersion;

use crate::command::Cmd;
use crate::daemon::Daemon;
use crate::error::{Result, TaskError};
use crate::{interrupt, part};

/// How long a server may take until the cluster version is its own version.
const START_TIMEOUT: Duration = Duration::from_mins(5);

/// The size of each value.
const VALUE_BYTES: usize = 10_000;
/// How many keys a transaction writes.
const N_KEYS: usize = 100;

/// How much larger than the database the data directory is, because of its logs.
const LOGS_MIB: u64 = 160;

const QUOTA: &str = "--quota-backend-bytes=8589934592";

/// Programs of several versions in one folder.
#[derive(Debug)]
pub struct Servers {
    folder: PathBuf,
    /// From the lowest to the highest.
    versions: Vec<String>,
}

/// A running server.
struct EtcdServer {
    daemon: Daemon,
    port: u16,
}

impl Servers {
    pub fn new(folder: PathBuf) -> Result<Self> {
        let version = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?.strip_prefix("etcd-")?;
            name.parse::<EtcdVersion>().ok()
        };
        let mut versions: Vec<_> = part::entries(&folder)?.iter().filter_map(version).collect();
        versions.sort();
        if versions.len() < 2 {
            let text = format!("{} has no etcd of two versions", folder.display());
            return Err(TaskError::new(text));
        }
        let versions = versions.iter().map(ToString::to_string).collect();
        Ok(Self { folder, versions })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn first(&self) -> &str {
        &self.versions[0]
    }

    pub fn last(&self) -> &str {
        &self.versions[self.versions.len() - 1]
    }

    /// Runs every version between the first and the last, one after the other.
    pub fn serve_all(&self, data: &Path) -> Result<()> {
        for version in &self.versions[1..self.versions.len() - 1] {
            let mut server = self.start(version, data, &["--snapshot-count=1"])?;
            server.wait(version)?;
        }
        Ok(())
    }

    /// Writes keys until the directory has about this size; returns how many.
    pub fn seed(&self, data: &Path, mib: u64) -> Result<usize> {
        let flags = ["--snapshot-count=100", "--max-wals=1"];
        let mut server = self.start(self.first(), data, &flags)?;
        server.wait(self.first())?;
        let endpoint = format!("--endpoints=http://127.0.0.1:{}", server.port);
        let etcdctl = self.folder.join(format!("etcdctl-{}", self.first()));
        let database = data.join("member/snap/db");
        let mut n_keys = 0;
        while fs::metadata(&database)?.len() < mib.saturating_sub(LOGS_MIB) << 20 {
            let value = "x".repeat(VALUE_BYTES);
            let put = |number| format!("put /registry/{number} {value}\n");
            let puts: String = (n_keys..n_keys + N_KEYS).map(put).collect();
            let transaction = format!("\n{puts}\n\n\n");
            let command = Cmd::new(&etcdctl).arg(&endpoint).arg("txn").env("ETCDCTL_API", "3");
            command.fed(transaction.as_bytes())?;
            n_keys += N_KEYS;
        }
        // etcd removes logs that a snapshot covers every 30 seconds.
        for _ in 0..400 {
            let files = part::entries(&data.join("member/wal"))?;
            let is_log = |path: &&PathBuf| path.extension().is_some_and(|it| it == "wal");
            if files.iter().filter(is_log).count() <= 2 {
                break;
            }
            interrupt::check()?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(n_keys)
    }

    fn start(&self, version: &str, data: &Path, flags: &[&str]) -> Result<EtcdServer> {
        let (port, peer) = (free_port()?, free_port()?);
        let url = format!("http://127.0.0.1:{port}");
        let command = Cmd::new(self.folder.join(format!("etcd-{version}")))
            .arg("--name=m")
            .arg(format!("--data-dir={}", data.display()))
            .arg("--initial-cluster=m=http://localhost:2380")
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            .arg("--initial-advertise-peer-urls=http://localhost:2380")
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(QUOTA)
            .args(flags)
            .silent();
        Ok(EtcdServer { daemon: Daemon::start(command)?, port })
    }
}

impl EtcdServer {
    /// Waits until it is healthy and the cluster version is its own.
    fn wait(&mut self, version: &str) -> Result<()> {
        let series = version.rsplit_once('.').map_or(version, |(series, _)| series);
        let reached = format!("\"etcdcluster\":\"{series}.0\"");
        let begin = Instant::now();
        while begin.elapsed() < START_TIMEOUT {
            if get(self.port, "/health").contains("\"true\"")
                && get(self.port, "/version").contains(&reached)
            {
                return Ok(());
            }
            interrupt::check()?;
            if self.daemon.has_ended()? {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(TaskError::new(format!("etcd {version} does not become healthy")))
    }
}

/// The response of a server; empty if there is none.
fn get(port: u16, path: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}

/// A free port on loopback.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
