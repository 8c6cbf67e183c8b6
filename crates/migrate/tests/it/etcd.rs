//! Real servers, from the directory that `ETCDIMG_REAL_ETCD` names (`scripts/real-etcd` makes one):
//! it holds `etcd-<V>`, `etcdctl-<V>` and `etcdutl-<V>` of the bundled versions, and below `debian`
//! those of the distribution. Tests that need them are ignored unless asked for.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::directory::{Directory, free_port};
use crate::events::{self, Events};
use crate::require::missing;

/// How many cases run at the same time: most of them wait for etcd's own clocks.
const WORKERS: usize = 6;
const KEYS: usize = 300;

pub struct Real {
    pub bin_dir: PathBuf,
    /// One version of each minor, by minor.
    pub versions: BTreeMap<u64, String>,
}

#[track_caller]
pub fn real() -> &'static Real {
    static REAL: OnceLock<Option<Real>> = OnceLock::new();
    let found = REAL.get_or_init(|| env::var_os("ETCDIMG_REAL_ETCD").map(look)).as_ref();
    found.unwrap_or_else(|| {
        missing("etcd servers", "ETCDIMG_REAL_ETCD=$(scripts/real-etcd --debian) names them")
    })
}

fn look(bin_dir: impl Into<PathBuf>) -> Real {
    let bin_dir: PathBuf = bin_dir.into();
    let versions = versions_in(&bin_dir).into_iter().map(|version| (minor(&version), version));
    let versions: BTreeMap<u64, String> = versions.collect();
    assert!(versions.len() > 2, "{} holds too few versions", bin_dir.display());
    Real { bin_dir, versions }
}

fn versions_in(bin_dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(bin_dir) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| Some(name.strip_prefix("etcd-")?.to_owned())).collect()
}

pub fn minor(version: &str) -> u64 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).expect("a version")
}

/// A server as a user would run it.
pub struct Etcd {
    pub endpoint: String,
    etcdctl: PathBuf,
    pub child: Child,
    /// What the client needs to get in.
    pub credentials: Vec<String>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        self.child.wait().unwrap();
    }
}

impl Real {
    /// The lowest and the highest version.
    pub fn ends(&self) -> (&str, &str) {
        let mut versions = self.versions.values();
        (versions.next().unwrap(), versions.next_back().unwrap())
    }

    pub fn version(&self, minor: u64) -> &str {
        self.versions.get(&minor).unwrap_or_else(|| panic!("there is no etcd 3.{minor}"))
    }

    /// Those of the distribution.
    #[track_caller]
    pub fn debian(&self) -> Vec<String> {
        let mut versions = versions_in(&self.bin_dir.join("debian"));
        if versions.is_empty() {
            missing("etcd servers of Debian", "`scripts/real-etcd --debian` fetches them");
        }
        versions.sort_by_key(|version| (minor(version), version.clone()));
        versions
    }

    pub fn program(&self, name: &str, version: &str) -> PathBuf {
        let file = format!("{name}-{version}");
        let bundled = self.bin_dir.join(&file);
        if bundled.exists() { bundled } else { self.bin_dir.join("debian").join(file) }
    }

    pub fn start(&self, directory: &Directory, version: &str) -> Etcd {
        self.spawn_member(directory, version, &[]).ready(directory)
    }

    /// The only member of a cluster, with more arguments; it may not answer yet.
    pub fn spawn_member(&self, directory: &Directory, version: &str, more: &[&str]) -> Etcd {
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let own = [
            "--name=m".to_owned(),
            format!("--listen-client-urls={endpoint}"),
            format!("--advertise-client-urls={endpoint}"),
            format!("--listen-peer-urls=http://127.0.0.1:{}", free_port()),
            "--initial-advertise-peer-urls=http://localhost:2380".to_owned(),
            "--initial-cluster=m=http://localhost:2380".to_owned(),
        ];
        let more = more.iter().map(|&argument| argument.to_owned());
        self.spawn(directory, version, &endpoint, &own.into_iter().chain(more).collect::<Vec<_>>())
    }

    /// A server with arguments of one's own; it may not answer yet.
    pub fn spawn(
        &self,
        directory: &Directory,
        version: &str,
        endpoint: &str,
        arguments: &[String],
    ) -> Etcd {
        let child = Command::new(self.program("etcd", version))
            .arg(format!("--data-dir={}", directory.path("data").display()))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(server_log(directory))
            .spawn()
            .unwrap();
        Etcd {
            endpoint: endpoint.to_owned(),
            etcdctl: self.program("etcdctl", version),
            child,
            credentials: Vec::new(),
        }
    }

    /// Runs `migrate`, which must succeed, and record its target. Returns its events.
    #[track_caller]
    pub fn migrate(&self, directory: &Directory, to: &str, arguments: &[&str]) -> Events {
        let mut command = directory.command(to, &self.bin_dir);
        succeed(directory, command.args(arguments), to)
    }

    /// A directory written by a version, and what is in it.
    pub fn seed(&self, version: &str) -> Seed {
        self.seed_with(version, KEYS)
    }

    pub fn seed_with(&self, version: &str, keys: usize) -> Seed {
        let directory = Directory::new();
        if minor(version) >= 4 && self.versions.values().any(|bundled| bundled == version) {
            self.migrate(&directory, version, &[]);
        }
        let etcd = self.start(&directory, version);
        let lease = etcd.run(&["lease", "grant", "100000"]);
        let lease = lease.split_whitespace().nth(1).unwrap().to_owned();
        // One transaction per call is slow; a transaction of many puts is one call.
        for block in (0..keys).collect::<Vec<_>>().chunks(100) {
            let puts: Vec<_> =
                block.iter().map(|key| format!("put /registry/{key} value-{key}")).collect();
            etcd.transaction(&format!("\n{}\n\n\n", puts.join("\n")));
        }
        etcd.run(&["put", "/registry/leased", "x", &format!("--lease={lease}")]);
        etcd.run(&["put", "/registry/0", "changed"]);
        etcd.run(&["del", "/registry/1"]);
        etcd.run(&["compact", "3"]);
        let contents = etcd.contents();
        drop(etcd);
        assert!(contents.len() > keys * 20);
        assert!(contents.contains("granted with TTL(100000s)"), "{contents}");
        assert!(contents.ends_with("attached keys([/registry/leased])"), "{contents}");
        Seed { directory, contents }
    }

    #[track_caller]
    pub fn check(&self, directory: &Directory, version: &str, expected: &str) {
        let etcd = self.start(directory, version);
        assert_eq!(etcd.contents(), expected, "{version}");
        etcd.run(&["put", "/probe", "x"]);
        etcd.run(&["del", "/probe"]);
    }
}

/// One for all servers of a directory, so that the reason for a failure stays.
fn server_log(directory: &Directory) -> fs::File {
    let path = directory.path("server.log");
    fs::File::options().create(true).append(true).open(path).unwrap()
}

/// Runs `migrate`, which must succeed, and record its target. Returns its events.
#[track_caller]
pub fn succeed(directory: &Directory, command: &mut Command, to: &str) -> Events {
    let (code, events) = events::run(command);
    assert_eq!(code, Some(0), "{events:?}");
    assert!(events.has("done"), "{events:?}");
    assert_eq!(directory.version(), format!("{to}/etcd3"));
    // Whatever starts a server has to show that it has lost nothing.
    assert!(events.started().is_empty() || events.has("verified"), "{events:?}");
    events
}

/// A directory to copy, and what is in it: making one takes longer than most cases.
pub struct Seed {
    pub directory: Directory,
    pub contents: String,
}

impl Seed {
    pub fn copy(&self) -> Directory {
        let directory = Directory::new();
        self.copy_to(&directory.path("data"));
        directory
    }

    /// The log of etcd is mostly a hole; a copy without holes would fill a small file system.
    pub fn copy_to(&self, path: &Path) {
        let from = self.directory.path("data");
        let mut command = Command::new("cp");
        command.args(["-a", "--sparse=always", "-T"]).arg(from).arg(path);
        assert!(command.status().unwrap().success());
    }
}

impl Etcd {
    /// Ends the server in the middle of whatever it does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
    }

    pub fn ready(mut self, directory: &Directory) -> Self {
        let started = Instant::now();
        while !self.is_up() {
            let log = || fs::read_to_string(directory.path("server.log")).unwrap();
            let tool = self.etcdctl.display();
            assert!(self.child.try_wait().unwrap().is_none(), "for {tool}: {}", log());
            assert!(started.elapsed() < Duration::from_mins(1), "for {tool}: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
        self
    }

    /// Whether it comes to answer. One that does not has ended by itself.
    pub fn starts(mut self) -> bool {
        let started = Instant::now();
        let address = self.endpoint.trim_start_matches("http://").to_owned();
        // `etcdctl` waits long for a server that does not listen.
        while TcpStream::connect(&address).is_err() || !self.is_up() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(started.elapsed() < Duration::from_mins(1), "it neither answers nor ends");
            thread::sleep(Duration::from_millis(50));
        }
        true
    }

    pub fn etcdctl(&self) -> Command {
        let mut command = Command::new(&self.etcdctl);
        command.env_clear().env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints={}", self.endpoint)).arg("--command-timeout=10s");
        command.args(&self.credentials);
        command
    }

    pub fn try_run(&self, words: &[&str]) -> Option<String> {
        let output = self.etcdctl().args(words).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// Answers, if only to say that the user is unknown.
    fn is_up(&self) -> bool {
        let output = self.etcdctl().args(["get", "none"]).output().unwrap();
        output.status.success()
            || String::from_utf8_lossy(&output.stderr).contains("user name is empty")
    }

    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        self.try_run(words).unwrap_or_else(|| panic!("{} {words:?}", self.etcdctl.display()))
    }

    /// Puts one key many times by the gateway, where a call takes no process: each put is an entry
    /// of the log, while a transaction of many puts is one.
    pub fn put_again_and_again(&self, count: usize) {
        const CLIENTS: usize = 8;
        // `again`: `x`.
        let body = r#"{"key":"YWdhaW4=","value":"eA=="}"#;
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let request = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let put = |count: usize| {
            let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
            for _ in 0..count {
                stream.get_mut().write_all(request.as_bytes()).unwrap();
                assert_eq!(read_answer(&mut stream), 200);
            }
        };
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| put(count.div_ceil(CLIENTS)));
            }
        });
    }

    /// Calls the JSON gateway, which must agree.
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        assert_eq!(read_answer(&mut stream), 200, "{path}");
    }

    /// What the server answers to a plain question over HTTP.
    pub fn get(&self, path: &str) -> String {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let mut answer = String::new();
        let _ = TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
            stream.read_to_string(&mut answer)
        });
        answer
    }

    fn transaction(&self, text: &str) {
        let mut child =
            self.etcdctl().arg("txn").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Every key with value, lease and revisions, every lease with its time and keys, and the
    /// revision of the store.
    pub fn contents(&self) -> String {
        let keys = self.run(&["get", "/registry", "--prefix", "-w=json"]);
        let (header, keys) = keys.split_once("\"kvs\"").unwrap();
        let revision = header.split("\"revision\":").nth(1).unwrap().split(',').next().unwrap();
        format!("{revision}{keys}{}", self.leases())
    }

    /// What is left of the time of a lease begins anew with every server.
    fn leases(&self) -> String {
        let list = self.run(&["lease", "list"]);
        let describe = |id: &str| {
            let messages = self.run(&["lease", "timetolive", id, "--keys"]);
            let (granted, rest) = messages.split_once(", remaining(").expect(&messages);
            let (_, keys) = rest.split_once(')').expect(&messages);
            format!("{granted}{}", keys.trim_end())
        };
        let leases = list.lines().skip(1).map(describe).collect::<Vec<_>>().join("\n");
        format!("{list}{leases}")
    }
}

/// The status of an answer, after which the connection is ready for the next request.
fn read_answer(stream: &mut impl BufRead) -> u16 {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
    status.expect("an answer of HTTP")
}

/// Works on all cases, a few at a time; a panic in one is a panic of all.
pub fn side_by_side<T: Sync>(cases: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(case);
                }
            });
        }
    });
}

/// A number from the environment: how much of a test is run. What is no number must not become the
/// default unseen.
pub fn amount(variable: &str, default: usize) -> usize {
    let Some(text) = env::var_os(variable) else { return default };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("{variable}={} is no number", text.display()))
}

/// As many as asked for, evenly spread.
pub fn spread<T: Clone>(all: &[T], count: usize) -> Vec<T> {
    let count = count.min(all.len());
    (0..count).map(|index| all[index * all.len() / count].clone()).collect()
}

/// Programs that can be replaced, since those of `ETCDIMG_REAL_ETCD` are not ours to replace.
pub fn own_programs(real: &Real, versions: &[&str]) -> Directory {
    let bin = Directory::new();
    for version in versions {
        for name in ["etcd", "etcdctl", "etcdutl"] {
            let program = real.program(name, version);
            if program.exists() {
                fs::copy(program, bin.path(&format!("{name}-{version}"))).unwrap();
            }
        }
    }
    for name in ["etcd", "etcdctl"] {
        fs::copy(bin.path(&format!("{name}-{}", versions[0])), bin.path(name)).unwrap();
    }
    bin
}
