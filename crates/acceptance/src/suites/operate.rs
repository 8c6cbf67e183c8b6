//! Kubernetes' guide "Operating etcd clusters for Kubernetes"
//! (<https://kubernetes.io/docs/tasks/administer-cluster/configure-upgrade-etcd/>), done with the
//! programs of the image.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::case::Case;
use crate::certificates::Certificates;
use crate::container::Container;
use crate::context::CaseContext;
use crate::error::{CaseError, ensure, same};
use crate::etcd::{Cluster, ClusterOptions, DATA, ctl};
use crate::pod::Pod;
use crate::runtime::Signal;
use crate::suites::stateful_set;

/// The time limit of a client that must be refused.
const SHORT: Duration = Duration::from_secs(5);
/// Where the load balancer listens.
const BALANCER: &str = "127.0.0.1:4001";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("single-node", "a cluster of one serves", |context| serves(context, 1)),
        Case::new("five-members", "a cluster of five serves, and two may fail", five_members),
        Case::new("client-certificates", "a client without a certificate is refused", certificates),
        Case::new(
            "load-balancer",
            "clients that know only a load balancer are served, also while a member is stopped",
            load_balancer,
        ),
        Case::new("replace-member", "a failed member is removed and another one joins", replace),
        Case::new("snapshot", "a snapshot is saved, inspected and restored", snapshot),
        Case::new(
            "backup-and-restore",
            "the StatefulSet, backup.yaml and restore.yaml, unchanged",
            stateful_set::backup_and_restore,
        ),
        Case::new("bare-database", "a bare member/snap/db is restored", bare_database),
        Case::new("three-to-five", "a cluster of three becomes one of five", three_to_five),
        Case::new("lost-quorum", "a cluster that lost its majority is recovered", lost_quorum),
    ]
}

fn started<'a>(
    pod: &'a Pod<'a>,
    size: usize,
    options: ClusterOptions,
) -> Result<Cluster<'a>, CaseError> {
    let context = pod.context();
    context.step(format_args!("start {size} members"));
    let mut cluster = Cluster::new(pod, size, context.under_test.newest(), options)?;
    cluster.start_all()?;
    Ok(cluster)
}

fn is_written(cluster: &Cluster<'_>, value: &str) -> Result<(), CaseError> {
    cluster.ctl(&["put", "/registry/pods/a", value])?;
    is_there(cluster, value)
}

fn is_there(cluster: &Cluster<'_>, value: &str) -> Result<(), CaseError> {
    let said = cluster.ctl(&["get", "/registry/pods/a", "--print-value-only"])?;
    same("the value", value, said.trim_end())
}

fn serves(context: &CaseContext<'_>, size: usize) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let mut cluster = started(&pod, size, ClusterOptions::default())?;
    is_written(&cluster, "b")?;
    cluster.stop_all()
}

fn five_members(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let mut cluster = started(&pod, 5, ClusterOptions::default())?;
    is_written(&cluster, "five")?;
    context.step("two members fail");
    cluster.members[0].kill()?;
    cluster.members[3].kill()?;
    context.until("the other three to go on", || {
        Ok(cluster.try_ctl(&["put", "/registry/pods/a", "three"])?.code == 0)
    })?;
    is_there(&cluster, "three")?;
    context.step("they come back and catch up");
    for index in [0, 3] {
        cluster.members[index].start()?;
        cluster.members[index].wait_until_healthy()?;
        let said =
            cluster.members[index].ctl(&["get", "/registry/pods/a", "--print-value-only"])?;
        same("the value that it caught up with", "three\n", &said)?;
    }
    cluster.stop_all()
}

fn certificates(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let tls = Certificates::make(context.folder("tls")?)?;
    let options = ClusterOptions { tls: Some(tls.clone()), ..ClusterOptions::default() };
    let mut cluster = started(&pod, 3, options)?;
    is_written(&cluster, "secret")?;
    a_stranger_is_refused(&pod, &tls, &cluster.members[0].client_url())?;
    cluster.stop_all()
}

fn a_stranger_is_refused(
    pod: &Pod<'_>,
    tls: &Certificates,
    endpoint: &str,
) -> Result<(), CaseError> {
    pod.context().step("a client without a certificate asks");
    let version = pod.context().under_test.newest();
    // etcdctl tries again until this time is over.
    let limit = format!("--command-timeout={}s", pod.context().limit(SHORT).as_secs());
    let words = ["--cacert=/tls/ca.crt", "--dial-timeout=3s", &limit, "get", "/registry/pods/a"];
    let anonymous = ctl(&ClusterOptions::default(), version, endpoint, &words);
    let ended = pod.run(&anonymous.volume(&tls.folder, "/tls"))?;
    ensure(ended.code != 0 && !ended.stdout.contains("secret"), || {
        "a client without a certificate was served".to_owned()
    })
}

/// `$LB` of the guide, what `--etcd-servers` of every API server names. Here it is etcd's own
/// TCP gateway, which distributes connections in turn and does not look into TLS.
fn load_balancer(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let tls = Certificates::make(context.folder("tls")?)?;
    let options = ClusterOptions { tls: Some(tls.clone()), ..ClusterOptions::default() };
    let mut cluster = started(&pod, 3, options.clone())?;
    context.step("start the load balancer");
    let version = context.under_test.newest();
    let urls = cluster.endpoints();
    let mut balancer = pod.start(&Container::new([
        &format!("/usr/local/bin/etcd-{version}"),
        "gateway",
        "start",
        &format!("--listen-addr={BALANCER}"),
        &format!("--endpoints={}", urls.replace("https://", "")),
        // After this time the gateway tries a failed member again.
        "--retry-delay=1s",
    ]))?;
    let endpoint = format!("https://{BALANCER}");
    let client = |words: &[&str]| ctl(&options, version, &endpoint, words);
    context.until("the load balancer to answer", || {
        ensure(balancer.has_ended()?.is_none(), || "the load balancer ended".to_owned())
            .map_err(|stop| stop.log(&balancer.log()))?;
        Ok(pod.run(&client(&["endpoint", "health"]))?.code == 0)
    })?;
    let is_served = |value: &str| {
        pod.must(&client(&["put", "/registry/pods/a", value]))?;
        let said = pod.must(&client(&["get", "/registry/pods/a", "--print-value-only"]))?;
        same("the value", value, said.trim_end())
    };
    context.step("a client that knows nothing else writes, reads, and meets every member");
    is_served("secret")?;
    let mut met = BTreeSet::new();
    context.until("the load balancer to ask every member", || {
        let said = pod.must(&client(&["endpoint", "status", "-w=json"]))?;
        let status: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        met.insert(status[0]["Status"]["header"]["member_id"].to_string());
        Ok(met.len() == 3)
    })?;
    a_stranger_is_refused(&pod, &tls, &endpoint)?;
    for index in 0..3 {
        context.step(format_args!("{} is stopped", cluster.members[index].name));
        cluster.members[index].stop()?;
        // More writes than members, so that also the stopped one has its turn.
        for write in 0..5 {
            is_served(&format!("without {index}, {write}"))?;
        }
        cluster.members[index].start()?;
        cluster.members[index].wait_until_healthy()?;
    }
    balancer.signal(Signal::Term)?;
    balancer.end()?;
    cluster.stop_all()
}

/// The id of a member, from `member list`.
fn id(cluster: &Cluster<'_>, name: &str) -> Result<String, CaseError> {
    let list = cluster.ctl(&["member", "list"])?;
    let line = list.lines().find(|line| line.split(", ").nth(2) == Some(name));
    let id = line.and_then(|line| line.split(", ").next()).map(str::to_owned);
    id.ok_or_else(|| CaseError::failed(format_args!("{name} is not among the members")).log(&list))
}

/// Adds a member to a running cluster, by etcd's reconfiguration guide.
fn join(cluster: &mut Cluster<'_>) -> Result<(), CaseError> {
    let version = cluster.pod.context().under_test.newest();
    let (name, url) = {
        let member = cluster.add(version)?;
        (member.name.clone(), member.peer_url())
    };
    cluster.pod.context().step(format_args!("add {name} and start it"));
    // Refused until every member has seen every other for five seconds.
    let mut added = String::new();
    cluster.pod.context().until("the cluster to take another member", || {
        let ended = cluster.try_ctl(&["member", "add", &name, &format!("--peer-urls={url}")])?;
        added = ended.stdout;
        ensure(ended.code == 0 || ended.stderr.contains("unhealthy cluster"), || {
            format!("`member add` failed: {}", ended.stderr.trim())
        })?;
        Ok(ended.code == 0)
    })?;
    // The command prints what the new member needs to know.
    let all = added.lines().find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    let all = all.map(|text| text.trim_matches('"').to_owned());
    let all = all.ok_or_else(|| CaseError::failed("`member add` names no cluster").log(&added))?;
    let member = cluster.members.last_mut().expect("it was just added");
    member.initial_cluster = all;
    member.state = "existing";
    member.start()?;
    member.wait_until_healthy()?;
    let said = member.ctl(&["get", "/registry/pods/a", "--print-value-only", "--consistency=s"])?;
    ensure(!said.is_empty(), || format!("{name} has not caught up"))
}

fn replace(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let mut cluster = started(&pod, 3, ClusterOptions::default())?;
    is_written(&cluster, "kept")?;
    let failed = cluster.members[0].name.clone();
    context.step(format_args!("{failed} fails and is removed"));
    cluster.members[0].kill()?;
    let id = id(&cluster, &failed)?;
    cluster.ctl(&["member", "remove", &id])?;
    cluster.members.remove(0);
    join(&mut cluster)?;
    is_there(&cluster, "kept")?;
    let list = cluster.ctl(&["member", "list"])?;
    ensure(list.lines().count() == 3 && !list.contains(&failed), || {
        "the list of members is not the new one".to_owned()
    })
    .map_err(|stop| stop.log(&list))?;
    cluster.stop_all()
}

fn three_to_five(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let mut cluster = started(&pod, 3, ClusterOptions::default())?;
    is_written(&cluster, "grown")?;
    join(&mut cluster)?;
    join(&mut cluster)?;
    let list = cluster.ctl(&["member", "list"])?;
    same("the number of members", &5, &list.lines().count())?;
    context.step("two of five fail");
    cluster.members[0].kill()?;
    cluster.members[1].kill()?;
    context.until("the other three to go on", || {
        Ok(cluster.try_ctl(&["put", "/registry/pods/a", "alive"])?.code == 0)
    })?;
    cluster.stop_all()
}

/// Restores a database into the folders of members that have never run.
fn restore(
    cluster: &Cluster<'_>,
    backup: &std::path::Path,
    more: &[&str],
) -> Result<(), CaseError> {
    let version = cluster.pod.context().under_test.newest();
    for member in &cluster.members {
        let command = [
            format!("/usr/local/bin/etcdutl-{version}"),
            "snapshot".to_owned(),
            "restore".to_owned(),
            "/backup/snapshot.db".to_owned(),
            format!("--data-dir={DATA}/restored"),
            format!("--name={}", member.name),
            format!("--initial-cluster={}", cluster.initial_cluster()),
            format!("--initial-advertise-peer-urls={}", member.peer_url()),
        ];
        let command = command.into_iter().chain(more.iter().map(|it| (*it).to_owned()));
        let container = Container::new(command).volume(backup, "/backup");
        cluster.pod.must(&container.volume(&member.data, DATA))?;
        // etcdutl refuses a folder that exists, and a volume always exists.
        std::fs::rename(member.data.join("restored/member"), member.data.join("member"))?;
    }
    Ok(())
}

fn saved(
    context: &CaseContext<'_>,
    cluster: &Cluster<'_>,
) -> Result<std::path::PathBuf, CaseError> {
    let backup = context.folder("backup")?;
    let save = ["snapshot", "save", "/backup/snapshot.db"];
    let (version, endpoint) = (context.under_test.newest(), cluster.members[0].client_url());
    let save = ctl(&cluster.options, version, &endpoint, &save);
    cluster.pod.must(&save.volume(&backup, "/backup"))?;
    Ok(backup)
}

fn snapshot(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let mut cluster = started(&pod, 1, ClusterOptions::default())?;
    is_written(&cluster, "saved")?;
    context.step("save a snapshot and inspect it");
    let backup = saved(context, &cluster)?;
    let version = context.under_test.newest();
    let status = Container::new([
        &format!("/usr/local/bin/etcdutl-{version}"),
        "snapshot",
        "status",
        "/backup/snapshot.db",
        "-w=json",
    ]);
    let status = pod.must(&status.volume(&backup, "/backup"))?;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
    ensure(status["totalKey"].as_u64() >= Some(1), || format!("the status is {status}"))?;
    cluster.ctl(&["put", "/registry/pods/a", "too late"])?;
    cluster.stop_all()?;
    context.step("restore it into a cluster of three");
    let mut restored = Cluster::new(&pod, 3, version, ClusterOptions::default())?;
    restore(&restored, &backup, &[])?;
    restored.start_all()?;
    is_there(&restored, "saved")?;
    restored.stop_all()
}

fn bare_database(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let mut cluster = started(&pod, 1, ClusterOptions::default())?;
    is_written(&cluster, "bare")?;
    context.step("copy member/snap/db of a stopped member");
    cluster.stop_all()?;
    let backup = context.folder("backup")?;
    let db = cluster.members[0].data.join("member/snap/db");
    std::fs::copy(db, backup.join("snapshot.db"))?;
    context.step("restore it");
    let mut restored =
        Cluster::new(&pod, 1, context.under_test.newest(), ClusterOptions::default())?;
    // It has no hash, which `snapshot save` appends.
    restore(&restored, &backup, &["--skip-hash-check"])?;
    restored.start_all()?;
    is_there(&restored, "bare")?;
    restored.stop_all()
}

fn lost_quorum(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let mut cluster = started(&pod, 3, ClusterOptions::default())?;
    is_written(&cluster, "recovered")?;
    context.step("two of three fail");
    cluster.members[1].kill()?;
    cluster.members[2].kill()?;
    let refused = cluster.try_ctl(&["--command-timeout=3s", "put", "/registry/pods/a", "lost"])?;
    ensure(refused.code != 0, || "one of three still takes writes".to_owned())?;
    context.step("the one that is left starts a new cluster from its own data");
    cluster.members[0].kill()?;
    let version = context.under_test.newest();
    let backup = context.folder("backup")?;
    let db = cluster.members[0].data.join("member/snap/db");
    std::fs::copy(db, backup.join("snapshot.db"))?;
    let mut restored = Cluster::new(&pod, 3, version, ClusterOptions::default())?;
    restore(&restored, &backup, &["--skip-hash-check"])?;
    restored.start_all()?;
    is_there(&restored, "recovered")?;
    restored.stop_all()
}
