//! etcd's upgrade guide (<https://etcd.io/docs/v3.6/upgrades/upgrade_3_4/>), for every pair and
//! chain of bundled minors: three members with TLS are upgraded one by one while a client writes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_version::{EtcdVersion, Series};

use crate::case::Case;
use crate::certificates::Certificates;
use crate::container::Container;
use crate::context::CaseContext;
use crate::error::{CaseError, ensure};
use crate::etcd::{Cluster, ClusterMember, ClusterOptions, ctl};
use crate::events::Events;
use crate::image_under_test::ImageUnderTest;
use crate::pod::Pod;

pub fn cases(under_test: &ImageUnderTest) -> Vec<Case> {
    let mut cases = Vec::new();
    for (older, newer) in under_test.steps() {
        let (from, to) = (older.clone(), newer.clone());
        cases.push(Case::new(
            format!("{from}-{to}"),
            format!("three members go from {from} to {to} without losing a write"),
            move |context| {
                upgrade(context, &[from.clone(), to.clone()])?;
                context.prove_migration(&from, &to);
                Ok(())
            },
        ));
        let (from, to) = (older.clone(), newer.clone());
        cases.push(Case::new(
            format!("back-{to}-{from}"),
            format!("a member that runs {to} goes back to {from} while another is old"),
            move |context| go_back(context, &from, &to),
        ));
    }
    for chain in under_test.chains() {
        let versions: Vec<EtcdVersion> = chain.into_iter().cloned().collect();
        let name = versions.iter().map(ToString::to_string).collect::<Vec<_>>();
        cases.push(Case::new(
            format!("chain-{}", name.join("-")),
            format!("three members go from minor to minor over {}", name.join(", ")),
            move |context| upgrade(context, &versions),
        ));
    }
    cases
}

fn secure<'a>(pod: &'a Pod<'a>, version: &EtcdVersion) -> Result<Cluster<'a>, CaseError> {
    let tls = Certificates::make(pod.context().folder("tls")?)?;
    let mut cluster = Cluster::new(
        pod,
        3,
        version,
        ClusterOptions { tls: Some(tls), ..ClusterOptions::default() },
    )?;
    for member in &mut cluster.members {
        member.migrate(version)?;
    }
    pod.context().step(format_args!("start three members of etcd {version}"));
    cluster.start_all()?;
    Ok(cluster)
}

/// Upgrades the cluster from each version to the next, while a client writes.
fn upgrade(context: &CaseContext<'_>, versions: &[EtcdVersion]) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let from = versions.first().ok_or_else(|| CaseError::failed("no versions"))?;
    let mut cluster = secure(&pod, from)?;
    let endpoints: Vec<_> = cluster.members.iter().map(ClusterMember::client_url).collect();
    let writer = WritingClient::new(&cluster.options, from, endpoints.join(","));
    thread::scope(|scope| {
        let writing = scope.spawn(|| writer.run(&pod));
        let mut hops = versions.windows(2);
        let outcome = hops.try_for_each(|hop| roll_members(context, &mut cluster, hop, &writer));
        writer.stop.store(true, Ordering::Relaxed);
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        outcome.and(written)
    })?;
    context.step("read back every write that was acknowledged");
    writer.check(&cluster)?;
    context.note(writer.summary());
    cluster.stop_all()
}

/// The guide's steps 1 to 5, for each member, from one version to the next.
fn roll_members(
    context: &CaseContext<'_>,
    cluster: &mut Cluster<'_>,
    hop: &[EtcdVersion],
    writer: &WritingClient,
) -> Result<(), CaseError> {
    let [from, to] = hop else { return Err(CaseError::failed("a hop leads from one to another")) };
    for index in 0..cluster.members.len() {
        let name = cluster.members[index].name.clone();
        context.step(format_args!("1. the cluster is healthy before {name} is upgraded"));
        cluster.members.iter_mut().try_for_each(ClusterMember::wait_until_healthy)?;
        if index == 0 {
            context.step("a snapshot is saved from the leader");
            snapshot_from_leader(context, cluster)?;
        }
        context.step(format_args!("2. stop {name}"));
        cluster.members[index].stop()?;
        context.step(format_args!("3. migrate {name}, which must start no server but its own"));
        let said = cluster.members[index].migrate(to)?;
        // migrate may have to run the old version for a raft snapshot first, which needs a quorum.
        let started = Events::of(&said).started();
        ensure(started.iter().all(|version| version.series() == from.series()), || {
            format!("migrate started a server for {name} that its cluster is not ready for")
        })
        .map_err(|stop| stop.log(&said))?;
        context.step(format_args!("4. start {name} as {to}"));
        cluster.members[index].start()?;
        cluster.members[index].wait_until_healthy()?;
        let before = writer.acknowledged();
        context
            .until("the writer to go on", || Ok(writer.acknowledged() > before))
            .map_err(|stop| stop.command(writer.line()).log(&writer.last_error()))?;
        let all_are_new = index + 1 == cluster.members.len();
        if !all_are_new {
            context.step("5. the cluster keeps the old version while members differ");
            context.until(&format!("the cluster to be at {}", from.series()), || {
                let version = cluster_version(cluster)?;
                let is_ahead = version == Some(to.series());
                ensure(!is_ahead, || {
                    "the cluster version rose before all members were upgraded".to_owned()
                })?;
                Ok(version == Some(from.series()))
            })?;
        }
    }
    becomes(cluster, to)
}

fn becomes(cluster: &Cluster<'_>, version: &EtcdVersion) -> Result<(), CaseError> {
    let (context, series) = (cluster.pod.context(), version.series());
    context.step(format_args!("the cluster version becomes {series}"));
    context.until(&format!("the cluster to be at {series}"), || {
        Ok(cluster_version(cluster)? == Some(series))
    })
}

/// The version that a member reports for the cluster, or `None` if it cannot be read yet.
fn cluster_version(cluster: &Cluster<'_>) -> Result<Option<Series>, CaseError> {
    // Read from the data, because /version asks for a client with a certificate.
    let member = cluster.members.last().expect("clusters have members");
    let status = Container::new([
        "/usr/local/bin/migrate",
        "status",
        "--json",
        "--data-dir",
        crate::etcd::DATA,
    ])
    .volume(&member.data, crate::etcd::DATA);
    let said = cluster.pod.run(&status)?;
    let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_default();
    Ok(json["data"]["clusterVersion"].as_str().and_then(|text| text.parse().ok()))
}

fn snapshot_from_leader(context: &CaseContext<'_>, cluster: &Cluster<'_>) -> Result<(), CaseError> {
    let status = cluster.ctl(&["endpoint", "status", "-w=json"])?;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
    let leader = status
        .as_array()
        .into_iter()
        .flatten()
        .find(|it| it["Status"]["leader"] == it["Status"]["header"]["member_id"]);
    let Some(leader) = leader.and_then(|it| it["Endpoint"].as_str()) else {
        return Err(CaseError::failed("no member says that it is the leader"));
    };
    let folder = context.folder("backup")?;
    let version = &cluster.members[0].version;
    let save = ctl(&cluster.options, version, leader, &["snapshot", "save", "/backup/snapshot.db"]);
    cluster.pod.must(&save.volume(&folder, "/backup"))?;
    ensure(folder.join("snapshot.db").exists(), || "there is no snapshot".to_owned())
}

fn go_back(
    context: &CaseContext<'_>,
    from: &EtcdVersion,
    to: &EtcdVersion,
) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let mut cluster = secure(&pod, from)?;
    cluster.ctl(&["put", "/registry/pods/a", "before"])?;
    context.step(format_args!("one member goes to {to}"));
    cluster.members[0].stop()?;
    cluster.members[0].migrate(to)?;
    cluster.members[0].start()?;
    cluster.members[0].wait_until_healthy()?;
    cluster.ctl(&["put", "/registry/pods/a", "between"])?;
    context.step(format_args!("and back to {from}, as long as others are old"));
    cluster.members[0].stop()?;
    cluster.members[0].migrate(from)?;
    cluster.members[0].start()?;
    cluster.members[0].wait_until_healthy()?;
    let value = cluster.members[0].ctl(&["get", "/registry/pods/a", "--print-value-only"])?;
    ensure(value == "between\n", || format!("the value is `{}`", value.trim()))?;
    context.step(format_args!("all members go to {to}"));
    for index in 0..3 {
        cluster.members[index].stop()?;
        cluster.members[index].migrate(to)?;
        cluster.members[index].start()?;
        cluster.members[index].wait_until_healthy()?;
    }
    becomes(&cluster, to)?;
    context.step("now it is too late to go back: migrate refuses a member of three");
    cluster.members[0].stop()?;
    let refused = pod.run(&cluster.members[0].migration(from))?;
    ensure(refused.code == 3, || format!("the exit code is {}, not 3", refused.code))
        .map_err(|stop| stop.log(&refused.stderr))?;
    cluster.members[0].start()?;
    cluster.members[0].wait_until_healthy()?;
    cluster.stop_all()
}

/// A client that writes all the time and records the acknowledged writes.
struct WritingClient {
    options: ClusterOptions,
    version: EtcdVersion,
    endpoints: String,
    stop: AtomicBool,
    written: Mutex<Written>,
}

#[derive(Clone, Debug, Default)]
struct Written {
    acknowledged: usize,
    errors: usize,
    last_error: String,
    longest_window: Duration,
}

impl WritingClient {
    fn new(options: &ClusterOptions, version: &EtcdVersion, endpoints: String) -> Self {
        Self {
            options: options.clone(),
            version: version.clone(),
            endpoints,
            stop: AtomicBool::new(false),
            written: Mutex::default(),
        }
    }

    fn written(&self) -> Written {
        self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn acknowledged(&self) -> usize {
        self.written().acknowledged
    }

    fn run(&self, pod: &Pod<'_>) -> Result<(), CaseError> {
        let mut last = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.acknowledged();
            let (key, value) = (format!("/writer/{number:06}"), format!("value-{number}"));
            let ended = pod.run(&self.put(&key, &value))?;
            let is_done = ended.code == 0;
            let mut written =
                self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if is_done {
                written.acknowledged += 1;
                written.longest_window = written.longest_window.max(last.elapsed());
                last = Instant::now();
            } else {
                written.errors += 1;
                written.last_error = ended.stderr;
            }
        }
        Ok(())
    }

    fn put(&self, key: &str, value: &str) -> Container {
        ctl(&self.options, &self.version, &self.endpoints, &["put", key, value])
    }

    fn line(&self) -> String {
        self.put("KEY", "VALUE").line()
    }

    fn last_error(&self) -> String {
        self.written().last_error
    }

    fn check(&self, cluster: &Cluster<'_>) -> Result<(), CaseError> {
        let said = cluster.ctl(&["get", "/writer/", "--prefix"])?;
        let lines: Vec<_> = said.lines().collect();
        for number in 0..self.acknowledged() {
            let expected = [format!("/writer/{number:06}"), format!("value-{number}")];
            let received = lines.get(2 * number..2 * number + 2).unwrap_or_default();
            ensure(received == expected, || {
                format!("the write {number} was acknowledged and is lost")
            })?;
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let written = self.written();
        format!(
            "{} writes acknowledged, {} refused, at most {} ms between two",
            written.acknowledged,
            written.errors,
            written.longest_window.as_millis()
        )
    }
}
