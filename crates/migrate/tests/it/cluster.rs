//! Clusters of three with TLS between them, as the old image's manifests make them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::directory::{Directory, free_port};
use crate::etcd::{Etcd, Real, minor, real, succeed};
use crate::events::{self, Events, Running};
use crate::migrations::{make_certificate, peer_flags};
use crate::require::require;

pub const MEMBERS: usize = 3;
/// etcd looks every few seconds whether the cluster's version may rise.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct TestCluster {
    real: &'static Real,
    /// How many entries a raft snapshot covers; etcd's own default when nobody says.
    snapshot_count: Option<u32>,
    certificates: Directory,
    /// More flags for the servers.
    pub more: Vec<String>,
    pub members: Vec<TestMember>,
}

pub struct TestMember {
    name: String,
    pub directory: Directory,
    client_port: u16,
    peer_url: String,
    pub etcd: Option<Etcd>,
}

impl TestCluster {
    pub fn new(real: &'static Real, snapshot_count: Option<u32>) -> Self {
        let certificates = Directory::new();
        assert!(make_certificate(&certificates));
        let member = |index| TestMember {
            name: format!("m{index}"),
            directory: Directory::new(),
            client_port: free_port(),
            peer_url: format!("https://127.0.0.1:{}", free_port()),
            etcd: None,
        };
        Self {
            real,
            snapshot_count,
            certificates,
            more: Vec::new(),
            members: (0..MEMBERS).map(member).collect(),
        }
    }

    fn initial_cluster(&self) -> String {
        let members = self.members.iter();
        members
            .map(|member| format!("{}={}", member.name, member.peer_url))
            .collect::<Vec<_>>()
            .join(",")
    }

    pub fn endpoints(&self) -> String {
        let members = self.members.iter();
        members.map(TestMember::endpoint).collect::<Vec<_>>().join(",")
    }

    pub fn start(&mut self, index: usize, version: &str) {
        self.members[index].etcd = Some(self.spawn(index, version));
    }

    fn spawn(&self, index: usize, version: &str) -> Etcd {
        let member = &self.members[index];
        let endpoint = member.endpoint();
        let mut arguments = vec![
            format!("--name={}", member.name),
            format!("--listen-client-urls={endpoint}"),
            format!("--advertise-client-urls={endpoint}"),
            format!("--listen-peer-urls={}", member.peer_url),
            format!("--initial-advertise-peer-urls={}", member.peer_url),
            format!("--initial-cluster={}", self.initial_cluster()),
        ];
        arguments.extend(self.snapshot_count.map(|count| format!("--snapshot-count={count}")));
        arguments.extend(peer_flags(&self.certificates).split(' ').map(str::to_owned));
        arguments.extend(self.more.iter().cloned());
        self.real.spawn(&member.directory, version, &endpoint, &arguments)
    }

    /// Waits until a member answers with the consent of a quorum.
    pub fn wait_for(&mut self, index: usize) {
        let member = &mut self.members[index];
        let etcd = member.etcd.take().unwrap();
        member.etcd = Some(etcd.ready(&member.directory));
    }

    pub fn stop(&mut self, index: usize) {
        self.members[index].etcd = None;
    }

    /// A new cluster of this version that answers.
    pub fn begin(&mut self, version: &str) {
        for index in 0..MEMBERS {
            let mut command = self.migrate(index, version);
            succeed(&self.members[index].directory, &mut command, version);
            self.start(index, version);
        }
        (0..MEMBERS).for_each(|index| self.wait_for(index));
        self.wait_for_version(version);
    }

    /// Does something while a client writes; what was acknowledged.
    pub fn while_written_to(
        &mut self,
        version: &str,
        work: impl FnOnce(&mut Self),
    ) -> BTreeMap<String, String> {
        let (end, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (real, endpoints) = (self.real, self.endpoints());
        thread::scope(|scope| {
            let writer = scope.spawn(|| keep_writing(real, version, &endpoints, (&end, &count)));
            // However this ends, the writer must not go on for ever.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                // Members of 3.4 that stop before the first write to the cluster are removed by
                // etcd 3.5.33 as zombies when it replays their log, and 3.6 then believes that.
                while count.load(Ordering::Relaxed) < 20 {
                    thread::sleep(Duration::from_millis(10));
                }
                work(self);
            }));
            end.store(true, Ordering::Relaxed);
            let acknowledged = writer.join().unwrap();
            outcome.map_or_else(|panic| std::panic::resume_unwind(panic), |()| acknowledged)
        })
    }

    /// A pod that starts again, with the cluster still at the version before.
    fn restart(&mut self, index: usize, version: &str) {
        self.stop(index);
        let mut command = self.migrate(index, version);
        let events = succeed(&self.members[index].directory, &mut command, version);
        assert!(!events.has("step"), "{events:?}");
        self.start(index, version);
        self.wait_for(index);
    }

    /// `migrate` for one member, with the variables that a manifest has.
    pub fn migrate(&self, index: usize, to: &str) -> Command {
        let member = &self.members[index];
        let mut command = member.directory.command(to, &self.real.bin_dir);
        command.env("ETCD_NAME", &member.name).env("INITIAL_CLUSTER", self.initial_cluster());
        command.env("ETCD_CREDS", peer_flags(&self.certificates));
        command.env("LISTEN_PEER_URLS", &member.peer_url);
        command.env("INITIAL_ADVERTISE_PEER_URLS", &member.peer_url);
        command
    }

    /// Migrates all members at the same time, as in containers: each starts its etcd as soon as its
    /// own migrate is done. The last one needs that, for its servers in between find no quorum by
    /// themselves. What each migrate did.
    pub fn migrate_together(&mut self, to: &str) -> Vec<Events> {
        let done: Vec<(Events, Etcd)> = thread::scope(|scope| {
            let cluster = &*self;
            let migrate_and_start = |index: usize| {
                scope.spawn(move || {
                    let mut command = cluster.migrate(index, to);
                    let events = succeed(&cluster.members[index].directory, &mut command, to);
                    (events, cluster.spawn(index, to))
                })
            };
            let threads: Vec<_> = (0..MEMBERS).map(migrate_and_start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (all, started): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        for (member, etcd) in self.members.iter_mut().zip(started) {
            member.etcd = Some(etcd);
        }
        (0..MEMBERS).for_each(|index| self.wait_for(index));
        self.wait_for_version(to);
        all
    }

    pub fn wait_for_version(&self, version: &str) {
        let expected = format!("\"etcdcluster\":\"3.{}.0\"", minor(version));
        for member in &self.members {
            let started = Instant::now();
            while !member.version().is_some_and(|body| body.contains(&expected)) {
                let messages = member.version();
                assert!(started.elapsed() < PATIENCE, "{}: {messages:?}", member.name);
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Every acknowledged key, from each member.
    pub fn check(&self, acknowledged: &BTreeMap<String, String>) {
        for member in &self.members {
            let etcd = member.etcd.as_ref().unwrap();
            let text = etcd.run(&["get", "/registry/", "--prefix"]);
            let lines: Vec<_> = text.lines().collect();
            let found: BTreeMap<_, _> = lines.chunks(2).map(|pair| (pair[0], pair[1])).collect();
            for (key, value) in acknowledged {
                assert_eq!(found.get(key.as_str()), Some(&value.as_str()), "{key} is lost");
            }
        }
    }
}

impl TestMember {
    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    fn version(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.client_port)).ok()?;
        stream.write_all(b"GET /version HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// Writes until told to end; what the cluster acknowledged.
pub fn keep_writing(
    real: &Real,
    version: &str,
    endpoints: &str,
    (end, count): (&AtomicBool, &AtomicUsize),
) -> BTreeMap<String, String> {
    let mut acknowledged = BTreeMap::new();
    for number in 0.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (format!("/registry/written/{number}"), format!("value-{number}"));
        let mut command = Command::new(real.program("etcdctl", version));
        command.env_clear().env("ETCDCTL_API", "3").arg(format!("--endpoints={endpoints}"));
        let output = command.args(["--command-timeout=5s", "put", &key, &value]).output().unwrap();
        if output.status.success() {
            acknowledged.insert(key, value);
            count.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(10));
    }
    acknowledged
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn a_cluster_is_upgraded_member_by_member_while_a_client_writes() {
    let real = real();
    require(&["openssl", "version"]);
    // Often enough that no version meets requests in the log that it cannot replay.
    let mut cluster = TestCluster::new(real, Some(20));
    let versions: Vec<&str> = real.versions.values().map(String::as_str).collect();
    let (lowest, highest) = real.ends();
    cluster.begin(lowest);
    let acknowledged = cluster.while_written_to(lowest, |cluster| {
        for version in &versions[1..] {
            for index in 0..MEMBERS {
                cluster.stop(index);
                let mut command = cluster.migrate(index, version);
                let events = succeed(&cluster.members[index].directory, &mut command, version);
                // The restart below has none of these.
                assert!(events.has("step"), "{events:?}");
                assert_eq!(events.started(), [""; 0]);
                cluster.start(index, version);
                cluster.wait_for(index);
                if index == 0 {
                    cluster.restart(index, version);
                }
            }
            cluster.wait_for_version(version);
        }
    });
    cluster.check(&acknowledged);
    assert!(acknowledged.len() > 50, "only {} writes", acknowledged.len());
    println!(
        "{lowest} -> {highest} by {MEMBERS} members in turn: {} writes kept",
        acknowledged.len()
    );

    // One member of several cannot go back alone.
    cluster.stop(0);
    let lower = versions[versions.len() - 2];
    let (code, events) = events::run(&mut cluster.migrate(0, lower));
    assert_eq!(code, Some(3), "{events:?}");
    let error = events.error();
    assert_eq!(error.id, "cluster-downgrade", "{error:?}");
    let hint = "run `etcdctl downgrade enable` on the running";
    assert!(error.hints[0].starts_with(hint), "{error:?}");
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn members_that_migrate_together_go_over_several_minors() {
    let real = real();
    require(&["openssl", "version"]);
    let mut cluster = TestCluster::new(real, Some(20));
    let (lowest, highest) = real.ends();
    cluster.begin(lowest);
    let keys = (0..60).map(|number| (format!("/registry/{number}"), format!("value-{number}")));
    let acknowledged: BTreeMap<_, _> = keys.collect();
    for (key, value) in &acknowledged {
        cluster.members[0].etcd.as_ref().unwrap().run(&["put", key, value]);
    }
    (0..MEMBERS).for_each(|index| cluster.stop(index));
    for events in cluster.migrate_together(highest) {
        assert_ne!(events.started(), [""; 0]);
        let keys = &events.only("verified")["keys"];
        assert_eq!(keys.as_u64(), Some(60), "{events:?}");
    }
    cluster.check(&acknowledged);
    println!("{lowest} -> {highest} by {MEMBERS} members at once");
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn a_member_that_the_others_have_left_at_the_goal_waits_for_nothing() {
    let real = real();
    require(&["openssl", "version"]);
    let mut cluster = TestCluster::new(real, None);
    let [from, to] = [4, 6].map(|minor| real.version(minor));
    cluster.begin(from);
    let key = ("/registry/key".to_owned(), "value".to_owned());
    cluster.members[0].etcd.as_ref().unwrap().run(&["put", &key.0, &key.1]);
    (0..MEMBERS).for_each(|index| cluster.stop(index));
    // It starts its server and sees nothing of what happens then, as on a machine that is very
    // slow.
    let mut late = Running::spawn(cluster.migrate(2, to).arg("--start-timeout=40s"));
    late.wait_for_server();
    late.signal("STOP");
    thread::scope(|scope| {
        for index in 0..2 {
            let cluster = &cluster;
            scope.spawn(move || {
                let mut command = cluster.migrate(index, to);
                succeed(&cluster.members[index].directory, &mut command, to)
            });
        }
    });
    late.signal("CONT");
    let (code, events) = late.end();
    // Its log may need a quorum once more. It says so, and not that the time is over.
    assert!([Some(0), Some(3)].contains(&code), "{events:?}");
    if code == Some(3) {
        assert_eq!(events.error().id, "no-quorum", "{events:?}");
    }
    (0..2).for_each(|index| cluster.start(index, to));
    (0..2).for_each(|index| cluster.wait_for(index));
    succeed(&cluster.members[2].directory, &mut cluster.migrate(2, to), to);
    cluster.start(2, to);
    cluster.wait_for(2);
    cluster.check(&BTreeMap::from([key]));
}
