//! Kubernetes' guide to operating etcd (seed: "Operating etcd clusters for Kubernetes"), done
//! with the programs of the image.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::case::Case;
use crate::certificates::Certificates;
use crate::container::Container;
use crate::etcd::{Cluster, DATA, Wish, ctl};
use crate::runtime::Signal;
use crate::stage::{Pod, Stage, Stop, ensure, same};
use crate::suites::stateful_set;

/// How long who is refused may ask.
const SHORT: Duration = Duration::from_secs(5);
/// Where the load balancer listens.
const BALANCER: &str = "127.0.0.1:4001";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("single-node", "a cluster of one serves", |stage| serves(stage, 1)),
        Case::new("five-members", "a cluster of five serves, and two may fail", five_members),
        Case::new("client-certificates", "a client without a certificate is refused", certificates),
        Case::new(
            "load-balancer",
            "clients that know only a load balancer are served, also while a member is stopped",
            load_balancer,
        ),
        Case::new("replace-member", "a failed member is removed and another one joins", replace),
        Case::new("snapshot", "a snapshot is saved, looked at and restored", snapshot),
        Case::new(
            "backup-and-restore",
            "the StatefulSet, backup.yaml and restore.yaml, as they stand",
            stateful_set::backup_and_restore,
        ),
        Case::new("bare-database", "a bare member/snap/db is restored", bare_database),
        Case::new("three-to-five", "a cluster of three becomes one of five", three_to_five),
        Case::new("lost-quorum", "a cluster that lost its majority is recovered", lost_quorum),
    ]
}

fn started<'a>(pod: &'a Pod<'a>, size: usize, wish: Wish) -> Result<Cluster<'a>, Stop> {
    let stage = pod.stage();
    stage.step(format_args!("start {size} members"));
    let mut cluster = Cluster::new(pod, size, stage.subject.newest(), wish)?;
    cluster.start_all()?;
    Ok(cluster)
}

fn is_written(cluster: &Cluster<'_>, value: &str) -> Result<(), Stop> {
    cluster.ctl(&["put", "/registry/pods/a", value])?;
    is_there(cluster, value)
}

fn is_there(cluster: &Cluster<'_>, value: &str) -> Result<(), Stop> {
    let said = cluster.ctl(&["get", "/registry/pods/a", "--print-value-only"])?;
    same("the value", value, said.trim_end())
}

fn serves(stage: &Stage<'_>, size: usize) -> Result<(), Stop> {
    let pod = stage.pod()?;
    let mut cluster = started(&pod, size, Wish::default())?;
    is_written(&cluster, "b")?;
    cluster.stop_all()
}

fn five_members(stage: &Stage<'_>) -> Result<(), Stop> {
    let pod = stage.pod()?;
    let mut cluster = started(&pod, 5, Wish::default())?;
    is_written(&cluster, "five")?;
    stage.step("two members fail");
    cluster.members[0].kill()?;
    cluster.members[3].kill()?;
    stage.until("the other three to go on", || {
        Ok(cluster.try_ctl(&["put", "/registry/pods/a", "three"])?.code == 0)
    })?;
    is_there(&cluster, "three")?;
    stage.step("they come back and catch up");
    for index in [0, 3] {
        cluster.members[index].start()?;
        cluster.members[index].wait_until_healthy()?;
        let said =
            cluster.members[index].ctl(&["get", "/registry/pods/a", "--print-value-only"])?;
        same("the value that it caught up with", "three\n", &said)?;
    }
    cluster.stop_all()
}

fn certificates(stage: &Stage<'_>) -> Result<(), Stop> {
    let pod = stage.pod()?;
    let tls = Certificates::make(stage.folder("tls")?)?;
    let wish = Wish { tls: Some(tls.clone()), ..Wish::default() };
    let mut cluster = started(&pod, 3, wish)?;
    is_written(&cluster, "secret")?;
    a_stranger_is_refused(&pod, &tls, &cluster.members[0].client_url())?;
    cluster.stop_all()
}

fn a_stranger_is_refused(pod: &Pod<'_>, tls: &Certificates, endpoint: &str) -> Result<(), Stop> {
    pod.stage().step("a client without a certificate asks");
    let version = pod.stage().subject.newest();
    // The tool tries again until then.
    let limit = format!("--command-timeout={}s", pod.stage().limit(SHORT).as_secs());
    let words = ["--cacert=/tls/ca.crt", "--dial-timeout=3s", &limit, "get", "/registry/pods/a"];
    let stranger = ctl(&Wish::default(), version, endpoint, &words);
    let ended = pod.run(&stranger.volume(&tls.folder, "/tls"))?;
    ensure(ended.code != 0 && !ended.stdout.contains("secret"), || {
        "a client without a certificate was served".to_owned()
    })
}

/// `$LB` of the guide, what `--etcd-servers` of every API server names. etcd's own TCP gateway
/// plays it, which hands connections on in turn and does not look into TLS.
fn load_balancer(stage: &Stage<'_>) -> Result<(), Stop> {
    let pod = stage.pod()?;
    let tls = Certificates::make(stage.folder("tls")?)?;
    let wish = Wish { tls: Some(tls.clone()), ..Wish::default() };
    let mut cluster = started(&pod, 3, wish.clone())?;
    stage.step("start the load balancer");
    let version = stage.subject.newest();
    let urls = cluster.endpoints();
    let mut balancer = pod.start(&Container::new([
        &format!("/usr/local/bin/etcd-{version}"),
        "gateway",
        "start",
        &format!("--listen-addr={BALANCER}"),
        &format!("--endpoints={}", urls.replace("https://", "")),
        // How soon a member that came back is asked again.
        "--retry-delay=1s",
    ]))?;
    let endpoint = format!("https://{BALANCER}");
    let client = |words: &[&str]| ctl(&wish, version, &endpoint, words);
    stage.until("the load balancer to answer", || {
        ensure(balancer.has_ended()?.is_none(), || "the load balancer ended".to_owned())
            .map_err(|stop| stop.log(&balancer.log()))?;
        Ok(pod.run(&client(&["endpoint", "health"]))?.code == 0)
    })?;
    let is_served = |value: &str| {
        pod.must(&client(&["put", "/registry/pods/a", value]))?;
        let said = pod.must(&client(&["get", "/registry/pods/a", "--print-value-only"]))?;
        same("the value", value, said.trim_end())
    };
    stage.step("a client that knows nothing else writes, reads, and meets every member");
    is_served("secret")?;
    let mut met = BTreeSet::new();
    stage.until("the load balancer to ask every member", || {
        let said = pod.must(&client(&["endpoint", "status", "-w=json"]))?;
        let status: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        met.insert(status[0]["Status"]["header"]["member_id"].to_string());
        Ok(met.len() == 3)
    })?;
    a_stranger_is_refused(&pod, &tls, &endpoint)?;
    for index in 0..3 {
        stage.step(format_args!("{} is stopped", cluster.members[index].name));
        cluster.members[index].stop()?;
        // More than there are members, so that its turn comes.
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
fn id(cluster: &Cluster<'_>, name: &str) -> Result<String, Stop> {
    let list = cluster.ctl(&["member", "list"])?;
    let line = list.lines().find(|line| line.split(", ").nth(2) == Some(name));
    let id = line.and_then(|line| line.split(", ").next()).map(str::to_owned);
    id.ok_or_else(|| Stop::failed(format_args!("{name} is not among the members")).log(&list))
}

/// Adds a member to a running cluster, by etcd's reconfiguration guide.
fn join(cluster: &mut Cluster<'_>) -> Result<(), Stop> {
    let version = cluster.pod.stage().subject.newest();
    let (name, url) = {
        let member = cluster.add(version)?;
        (member.name.clone(), member.peer_url())
    };
    cluster.pod.stage().step(format_args!("add {name} and start it"));
    // Refused until every member has seen every other for five seconds.
    let mut added = String::new();
    cluster.pod.stage().until("the cluster to take another member", || {
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
    let all = all.ok_or_else(|| Stop::failed("`member add` names no cluster").log(&added))?;
    let member = cluster.members.last_mut().expect("it was just added");
    member.initial_cluster = all;
    member.state = "existing";
    member.start()?;
    member.wait_until_healthy()?;
    let said = member.ctl(&["get", "/registry/pods/a", "--print-value-only", "--consistency=s"])?;
    ensure(!said.is_empty(), || format!("{name} has not caught up"))
}

fn replace(stage: &Stage<'_>) -> Result<(), Stop> {
    let pod = stage.pod()?;
    let mut cluster = started(&pod, 3, Wish::default())?;
    is_written(&cluster, "kept")?;
    let failed = cluster.members[0].name.clone();
    stage.step(format_args!("{failed} fails and is removed"));
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

fn three_to_five(stage: &Stage<'_>) -> Result<(), Stop> {
    let pod = stage.pod()?;
    let mut cluster = started(&pod, 3, Wish::default())?;
    is_written(&cluster, "grown")?;
    join(&mut cluster)?;
    join(&mut cluster)?;
    let list = cluster.ctl(&["member", "list"])?;
    same("the number of members", &5, &list.lines().count())?;
    stage.step("two of five fail");
    cluster.members[0].kill()?;
    cluster.members[1].kill()?;
    stage.until("the other three to go on", || {
        Ok(cluster.try_ctl(&["put", "/registry/pods/a", "alive"])?.code == 0)
    })?;
    cluster.stop_all()
}

/// Restores a database into the folders of members that have never run.
fn restore(cluster: &Cluster<'_>, backup: &std::path::Path, more: &[&str]) -> Result<(), Stop> {
    let version = cluster.pod.stage().subject.newest();
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
        // The tool wants a folder that is not there yet, and a volume is.
        std::fs::rename(member.data.join("restored/member"), member.data.join("member"))?;
    }
    Ok(())
}

fn saved(stage: &Stage<'_>, cluster: &Cluster<'_>) -> Result<std::path::PathBuf, Stop> {
    let backup = stage.folder("backup")?;
    let save = ["snapshot", "save", "/backup/snapshot.db"];
    let (version, endpoint) = (stage.subject.newest(), cluster.members[0].client_url());
    let save = ctl(&cluster.wish, version, &endpoint, &save);
    cluster.pod.must(&save.volume(&backup, "/backup"))?;
    Ok(backup)
}

fn snapshot(stage: &Stage<'_>) -> Result<(), Stop> {
    let pod = stage.pod()?;
    let mut cluster = started(&pod, 1, Wish::default())?;
    is_written(&cluster, "saved")?;
    stage.step("save a snapshot and look at it");
    let backup = saved(stage, &cluster)?;
    let version = stage.subject.newest();
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
    stage.step("restore it into a cluster of three");
    let mut restored = Cluster::new(&pod, 3, version, Wish::default())?;
    restore(&restored, &backup, &[])?;
    restored.start_all()?;
    is_there(&restored, "saved")?;
    restored.stop_all()
}

fn bare_database(stage: &Stage<'_>) -> Result<(), Stop> {
    let pod = stage.pod()?;
    let mut cluster = started(&pod, 1, Wish::default())?;
    is_written(&cluster, "bare")?;
    stage.step("copy member/snap/db of a stopped member");
    cluster.stop_all()?;
    let backup = stage.folder("backup")?;
    let db = cluster.members[0].data.join("member/snap/db");
    std::fs::copy(db, backup.join("snapshot.db"))?;
    stage.step("restore it");
    let mut restored = Cluster::new(&pod, 1, stage.subject.newest(), Wish::default())?;
    // It has no hash, which `snapshot save` appends.
    restore(&restored, &backup, &["--skip-hash-check"])?;
    restored.start_all()?;
    is_there(&restored, "bare")?;
    restored.stop_all()
}

fn lost_quorum(stage: &Stage<'_>) -> Result<(), Stop> {
    let pod = stage.pod()?;
    let mut cluster = started(&pod, 3, Wish::default())?;
    is_written(&cluster, "recovered")?;
    stage.step("two of three fail");
    cluster.members[1].kill()?;
    cluster.members[2].kill()?;
    let refused = cluster.try_ctl(&["--command-timeout=3s", "put", "/registry/pods/a", "lost"])?;
    ensure(refused.code != 0, || "one of three still takes writes".to_owned())?;
    stage.step("the one that is left starts a new cluster from its own data");
    cluster.members[0].kill()?;
    let version = stage.subject.newest();
    let backup = stage.folder("backup")?;
    let db = cluster.members[0].data.join("member/snap/db");
    std::fs::copy(db, backup.join("snapshot.db"))?;
    let mut restored = Cluster::new(&pod, 3, version, Wish::default())?;
    restore(&restored, &backup, &["--skip-hash-check"])?;
    restored.start_all()?;
    is_there(&restored, "recovered")?;
    restored.stop_all()
}
