//! Journeys with real servers, from the directory that `ETCDIMG_REAL_ETCD` names: it holds
//! `etcd-<V>`, `etcdctl-<V>` and `etcdutl-<V>`. Without it each test says that it was skipped.
//!
//! `ETCDIMG_REAL_KILLS` is the number of kills of each crash test.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::directory::{Directory, free_port, outcome};

const KEYS: usize = 300;

struct Real {
    bin_dir: PathBuf,
    /// One version of each minor, by minor.
    versions: BTreeMap<u64, String>,
}

fn real(test: &str) -> Option<Real> {
    let Some(bin_dir) = env::var_os("ETCDIMG_REAL_ETCD").map(PathBuf::from) else {
        println!("skipped: {test} needs ETCDIMG_REAL_ETCD");
        return None;
    };
    let names = fs::read_dir(&bin_dir).unwrap().map(|entry| entry.unwrap().file_name());
    let versions = names.filter_map(|name| {
        let version = name.to_str()?.strip_prefix("etcd-")?.to_owned();
        let minor = version.split('.').nth(1)?.parse().ok()?;
        Some((minor, version))
    });
    let versions: BTreeMap<u64, String> = versions.collect();
    assert!(versions.len() > 1, "{} holds too few versions", bin_dir.display());
    Some(Real { bin_dir, versions })
}

/// A server as a user would run it, with its client port.
struct Etcd<'a> {
    real: &'a Real,
    version: &'a str,
    child: Child,
    endpoint: String,
    user: &'static [&'static str],
}

impl Drop for Etcd<'_> {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        self.child.wait().unwrap();
    }
}

impl Real {
    fn start<'a>(&'a self, directory: &Directory, version: &'a str) -> Etcd<'a> {
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let child = Command::new(self.bin_dir.join(format!("etcd-{version}")))
            .arg("--name=m")
            .arg(format!("--data-dir={}", directory.path("data").display()))
            .arg(format!("--listen-client-urls={endpoint}"))
            .arg(format!("--advertise-client-urls={endpoint}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{}", free_port()))
            .arg("--initial-advertise-peer-urls=http://localhost:2380")
            .arg("--initial-cluster=m=http://localhost:2380")
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path("server.log")).unwrap())
            .spawn()
            .unwrap();
        let mut etcd = Etcd { real: self, version, child, endpoint, user: &[] };
        let started = Instant::now();
        while !etcd.is_up() {
            let log = || fs::read_to_string(directory.path("server.log")).unwrap();
            assert!(etcd.child.try_wait().unwrap().is_none(), "{version} died: {}", log());
            assert!(started.elapsed() < Duration::from_mins(1), "{version}: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
        etcd
    }

    /// Runs `migrate`, which must succeed, and record its target.
    #[track_caller]
    fn migrate(&self, directory: &Directory, to: &str, arguments: &[&str]) -> String {
        let mut command = directory.command(to, &self.bin_dir);
        let (code, _, stderr) = outcome(&command.args(arguments).output().unwrap());
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(directory.version(), format!("{to}/etcd3"));
        stderr
    }

    /// A directory written by a version, and what is in it.
    fn seeded(&self, version: &str) -> (Directory, String) {
        let directory = Directory::new();
        self.migrate(&directory, version, &[]);
        let etcd = self.start(&directory, version);
        let lease = etcd.run(&["lease", "grant", "100000"]);
        let lease = lease.split_whitespace().nth(1).unwrap().to_owned();
        // One transaction per call is slow; a transaction of many puts is one call.
        for block in (0..KEYS).collect::<Vec<_>>().chunks(100) {
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
        assert!(contents.len() > KEYS * 20);
        (directory, contents)
    }

    #[track_caller]
    fn check(&self, directory: &Directory, version: &str, expected: &str) {
        let etcd = self.start(directory, version);
        assert_eq!(etcd.contents(), expected, "{version}");
        etcd.run(&["put", "/probe", "x"]);
        etcd.run(&["del", "/probe"]);
    }
}

impl Etcd<'_> {
    fn etcdctl(&self) -> Command {
        let mut command = Command::new(self.real.bin_dir.join(format!("etcdctl-{}", self.version)));
        command.env_clear().env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints={}", self.endpoint)).arg("--command-timeout=10s");
        command.args(self.user);
        command
    }

    fn try_run(&self, words: &[&str]) -> Option<String> {
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
    fn run(&self, words: &[&str]) -> String {
        self.try_run(words).unwrap_or_else(|| panic!("etcdctl-{} {words:?}", self.version))
    }

    fn transaction(&self, text: &str) {
        let mut child =
            self.etcdctl().arg("txn").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Every key with value, lease and revisions, every lease, and the revision of the store.
    fn contents(&self) -> String {
        let keys = self.run(&["get", "/registry", "--prefix", "-w=json"]);
        let (header, keys) = keys.split_once("\"kvs\"").unwrap();
        let revision = header.split("\"revision\":").nth(1).unwrap().split(',').next().unwrap();
        format!("{revision}{keys}{}", self.run(&["lease", "list"]))
    }
}

#[test]
fn every_journey_up_keeps_every_key_lease_and_revision() {
    let Some(real) = real("every journey up") else { return };
    let versions: Vec<_> = real.versions.values().collect();
    for (index, from) in versions.iter().enumerate() {
        for to in &versions[index + 1..] {
            let (directory, contents) = real.seeded(from);
            let told = real.migrate(&directory, to, &[]);
            let is_far =
                real.versions.values().position(|version| version == *to) > Some(index + 1);
            assert_eq!(told.contains("holds a copy"), is_far, "{from} {to}: {told}");
            real.check(&directory, to, &contents);
            println!("{from} -> {to}");
        }
    }
}

#[test]
fn every_journey_down_keeps_every_key_lease_and_revision() {
    let Some(real) = real("every journey down") else { return };
    let versions: Vec<_> = real.versions.values().collect();
    for (index, to) in versions.iter().enumerate() {
        for from in &versions[index + 1..] {
            let (directory, contents) = real.seeded(from);
            real.migrate(&directory, to, &["--allow-multi-step-downgrade"]);
            real.check(&directory, to, &contents);
            // And up again, with what the downgrade left behind.
            real.migrate(&directory, from, &[]);
            println!("{from} -> {to}");
        }
    }
}

#[test]
fn data_without_version_file_is_adopted_and_a_false_one_is_an_error() {
    let Some(real) = real("adopting data") else { return };
    let [lowest, .., highest] = real.versions.values().collect::<Vec<_>>()[..] else { return };
    let (directory, contents) = real.seeded(lowest);
    fs::write(directory.path("data/version.txt"), format!("{highest}/etcd3")).unwrap();
    let mut command = directory.command(highest, &real.bin_dir);
    let (code, _, stderr) = outcome(&command.output().unwrap());
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains(&format!("version.txt says etcd {highest}, but the data")), "{stderr}");
    fs::remove_file(directory.path("data/version.txt")).unwrap();
    let stderr = real.migrate(&directory, highest, &[]);
    assert!(stderr.contains("read from the data"), "{stderr}");
    real.check(&directory, highest, &contents);
}

#[test]
fn authentication_does_not_stop_a_journey_in_either_direction() {
    const ROOT: &[&str] = &["--user=root:secret"];
    let Some(real) = real("authentication") else { return };
    let [lowest, .., highest] = real.versions.values().collect::<Vec<_>>()[..] else { return };
    let (directory, contents) = real.seeded(lowest);
    let etcd = real.start(&directory, lowest);
    etcd.run(&["user", "add", "root:secret"]);
    etcd.run(&["role", "add", "root"]);
    etcd.run(&["user", "grant-role", "root", "root"]);
    etcd.run(&["auth", "enable"]);
    drop(etcd);
    let check = |version: &str| {
        let mut etcd = real.start(&directory, version);
        assert!(etcd.try_run(&["get", "/registry/2"]).is_none(), "{version} lets everyone in");
        etcd.user = ROOT;
        assert_eq!(etcd.contents(), contents, "{version}");
    };
    // etcd 3.7 goes back only with credentials.
    let highest = real.versions.range(..=6).next_back().map_or(highest, |(_, version)| version);
    real.migrate(&directory, highest, &[]);
    check(highest);
    real.migrate(&directory, lowest, &["--allow-multi-step-downgrade"]);
    check(lowest);
}

/// Kills the program and sometimes its server at any moment, again and again, until it gets
/// through; then every key must be there.
fn survive(directory: &Directory, command: impl Fn() -> Command, kills: u64, longest: u64) {
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for _ in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = command().stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(random % longest));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (code, _, stderr) = outcome(&command().output().unwrap());
    assert_eq!(code, Some(0), "{}: {stderr}", directory.0.display());
}

fn kills() -> u64 {
    env::var("ETCDIMG_REAL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    let Some(real) = real("kills") else { return };
    let [lowest, .., highest] = real.versions.values().collect::<Vec<_>>()[..] else { return };
    // Groups of three kills, so that most journeys get through and start over.
    for round in 0..kills().div_ceil(6) {
        let (directory, contents) = real.seeded(lowest);
        let up = || directory.command(highest, &real.bin_dir);
        survive(&directory, up, 3, 3000);
        real.check(&directory, highest, &contents);
        let down = || {
            let mut command = directory.command(lowest, &real.bin_dir);
            command.arg("--allow-multi-step-downgrade");
            command
        };
        survive(&directory, down, 3, 12_000);
        let etcd = real.start(&directory, lowest);
        let without_revision = |text: &str| text.split_once('[').unwrap().1.to_owned();
        assert_eq!(without_revision(&etcd.contents()), without_revision(&contents));
        println!("round {round}: 6 kills survived");
    }
}

#[test]
fn a_stop_signal_stops_the_server_too_and_the_next_run_goes_on() {
    let Some(real) = real("a stop signal") else { return };
    let [lowest, .., highest] = real.versions.values().collect::<Vec<_>>()[..] else { return };
    let (directory, contents) = real.seeded(lowest);
    let mut child =
        directory.command(highest, &real.bin_dir).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(700));
    let id = child.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let db = fs::File::open(directory.path("data/member/snap/db")).unwrap();
    db.try_lock_shared().expect("no server has it open any more");
    drop(db);
    real.migrate(&directory, highest, &[]);
    real.check(&directory, highest, &contents);
}

#[test]
fn a_directory_that_is_served_is_left_alone() {
    let Some(real) = real("a served directory") else { return };
    let [lowest, .., highest] = real.versions.values().collect::<Vec<_>>()[..] else { return };
    let (directory, _) = real.seeded(lowest);
    let _etcd = real.start(&directory, lowest);
    let (code, _, stderr) = outcome(&directory.command(highest, &real.bin_dir).output().unwrap());
    assert_eq!(code, Some(5), "{stderr}");
    assert!(stderr.contains("an etcd server is running on"), "{stderr}");
    assert!(!Path::new(&directory.path("data.bak")).exists());
}
