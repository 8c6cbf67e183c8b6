//! What docs/migrate.md promises of `migrate`: upgrades in steps, downgrades by one minor,
//! `version.txt`, permissions, and the command line of older manifests.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use etcd_version::{EtcdVersion, Facts};

use crate::case::Case;
use crate::container::Container;
use crate::contents;
use crate::context::CaseContext;
use crate::error::{CaseError, ensure, same};
use crate::etcd::{Cluster, ClusterOptions, DATA, ctl};
use crate::events::Events;
use crate::image_under_test::ImageUnderTest;
use crate::pod::Pod;
use crate::runtime::Signal;

/// Key-value pairs that every migration of data has to keep.
const KEYS: usize = 10_000;
/// Key-value pairs for cases that check something other than the data.
const FEW_KEYS: usize = 500;
/// Far fewer than the log entries after which etcd writes a raft snapshot by itself.
const FEW_PUTS: usize = 5;

pub fn cases(under_test: &ImageUnderTest) -> Vec<Case> {
    let mut cases = vec![
        Case::new("empty", "an empty directory gets the target version", empty),
        Case::new("permissions", "0755 and 0644 under the umask 0022", permissions),
        Case::new("same", "data of the last version stays as it is", |context| {
            up(context, context.under_test.newest(), context.under_test.newest())
        }),
        Case::new("refused", "what cannot be migrated is refused and not changed", refused),
    ];
    for (older, newer) in under_test.steps().into_iter().chain(under_test.patches()) {
        cases.push(case("up", older, newer, up));
        cases.push(case("down", newer, older, down));
        cases.push(case("auth", older, newer, auth));
        cases.push(case(
            "auth",
            newer,
            older,
            if has_stuck_auth(older, newer) { auth_stays } else { auth },
        ));
    }
    if under_test.minors().len() > 2 {
        cases.extend([
            Case::new("longest", "from the oldest to the newest in one start", |context| {
                up(context, context.under_test.oldest(), context.under_test.newest())
            }),
            Case::new("auth", "the same with authentication enabled", |context| {
                auth(context, context.under_test.oldest(), context.under_test.newest())
            }),
            Case::new("crash", "killed while its server runs, it continues after a restart", crash),
        ]);
    }
    for versions in under_test.chains() {
        let versions: Vec<EtcdVersion> = versions.into_iter().cloned().collect();
        let name = versions.iter().map(ToString::to_string).collect::<Vec<_>>();
        cases.push(Case::new(
            format!("chain-{}", name.join("-")),
            format!("{} run one after the other on the same data", name.join(", ")),
            move |context| chain(context, &versions),
        ));
    }
    cases.push(Case::new("old-manifest", "the command line of older manifests", old_manifest));
    cases
}

type MigrationProcedure = fn(&CaseContext<'_>, &EtcdVersion, &EtcdVersion) -> Result<(), CaseError>;

fn case(name: &str, from: &EtcdVersion, to: &EtcdVersion, procedure: MigrationProcedure) -> Case {
    let proves = match name {
        "auth" => format!("the same from {from} to {to} with authentication enabled"),
        _ => format!("all data of {from} is there under {to}"),
    };
    let (from, to) = (from.clone(), to.clone());
    Case::new(format!("{name}-{from}-{to}"), proves, move |context| procedure(context, &from, &to))
}

/// Whether a downgrade from `newer` to `older` is refused if authentication is enabled. It needs a
/// login, which `migrate` does not have, if one of the minor versions cannot start on a restored
/// database of the next one.
fn has_stuck_auth(older: &EtcdVersion, newer: &EtcdVersion) -> bool {
    let (mut minor, newer) = (older.series(), newer.series());
    while minor < newer {
        if !Facts::compiled_in().of(minor).downgrade_by_snapshot {
            return true;
        }
        minor = minor.next();
    }
    false
}

/// A cluster of one with data in it, stopped.
fn seeded<'a>(
    pod: &'a Pod<'a>,
    version: &EtcdVersion,
    keys: usize,
) -> Result<(Cluster<'a>, String), CaseError> {
    pod.context().step(format_args!("write {keys} keys with etcd {version}"));
    let mut cluster = Cluster::new(pod, 1, version, ClusterOptions::default())?;
    cluster.members[0].migrate(version)?;
    cluster.start_all()?;
    let written = contents::write(&cluster, keys)?;
    cluster.stop_all()?;
    Ok((cluster, written))
}

/// Starts the version that the data was migrated to, and compares all data.
fn is_whole(cluster: &mut Cluster<'_>, written: &str) -> Result<(), CaseError> {
    let member = &cluster.members[0];
    let version = member.version.clone();
    same("version.txt", &format!("{version}/etcd3"), &member.version_file())?;
    cluster.pod.context().step(format_args!("read everything with etcd {version}"));
    cluster.start_all()?;
    contents::compare(written, &contents::read(cluster)?)?;
    cluster.ctl(&["put", "/registry/pods/after", "x"])?;
    cluster.stop_all()
}

fn up(context: &CaseContext<'_>, from: &EtcdVersion, to: &EtcdVersion) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let (mut cluster, written) = seeded(&pod, from, KEYS)?;
    context.step(format_args!("migrate from {from} to {to}"));
    let said = cluster.members[0].migrate(to)?;
    // The target etcd makes the last step by itself; every version before it must have run.
    let served = Events::of(&said).stopped();
    for version in between(context.under_test, from, to) {
        ensure(served.contains(version), || {
            format!("etcd {version} was never started on the way from {from} to {to}")
        })
        .map_err(|stop| stop.log(&said))?;
    }
    is_whole(&mut cluster, &written)?;
    if from != to {
        context.prove_migration(from, to);
    }
    Ok(())
}

fn between<'a>(
    under_test: &'a ImageUnderTest,
    from: &EtcdVersion,
    to: &EtcdVersion,
) -> impl Iterator<Item = &'a EtcdVersion> {
    let minors = from.minor() + 1..to.minor();
    under_test.minors().into_iter().filter(move |version| minors.contains(&version.minor()))
}

/// One image per minor, as clusters are upgraded over the years: each version runs and is written
/// to before the next one starts, which then reads log entries of all of them.
fn chain(context: &CaseContext<'_>, versions: &[EtcdVersion]) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let (first, later) = versions.split_first().ok_or_else(|| CaseError::failed("no versions"))?;
    let (mut cluster, _) = seeded(&pod, first, FEW_KEYS)?;
    let mut expected = Vec::new();
    for version in later {
        context.step(format_args!("migrate to {version}, start it and write a little"));
        cluster.members[0].migrate(version)?;
        cluster.start_all()?;
        for number in 0..FEW_PUTS {
            let key = format!("/chain/{version}/{number}");
            cluster.ctl(&["put", &key, "x"])?;
            expected.extend([key, "x".to_owned()]);
        }
        let said = cluster.ctl(&["get", "/chain/", "--prefix"])?;
        same("what was written on the way", expected.join("\n").as_str(), said.trim_end())?;
        cluster.stop_all()?;
    }
    Ok(())
}

fn down(context: &CaseContext<'_>, from: &EtcdVersion, to: &EtcdVersion) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let (mut cluster, written) = seeded(&pod, from, KEYS)?;
    context.step(format_args!("migrate back from {from} to {to}"));
    cluster.members[0].migrate(to)?;
    is_whole(&mut cluster, &written)?;
    context.prove_migration(from, to);
    Ok(())
}

fn empty(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let newest = context.under_test.newest();
    let mut cluster = Cluster::new(&pod, 1, newest, ClusterOptions::default())?;
    // A volume that was just formatted is empty, too.
    std::fs::create_dir(cluster.members[0].data.join("lost+found"))?;
    cluster.members[0].migrate(newest)?;
    same("version.txt", &format!("{newest}/etcd3"), &cluster.members[0].version_file())?;
    cluster.start_all()?;
    cluster.stop_all()
}

fn permissions(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let newest = context.under_test.newest().to_string();
    let folder = context.folder("volume")?;
    let script = "umask 0022 && exec /usr/local/bin/migrate";
    let container = Container::new(["/bin/sh", "-c", script])
        .env("TARGET_VERSION", newest)
        .env("TARGET_STORAGE", "etcd3")
        .env("DATA_DIRECTORY", "/data/etcd")
        .env("ETCD_NAME", "m")
        .env("DO_NOT_MOVE_BINARIES", "true")
        .volume(&folder, "/data");
    pod.must(&container)?;
    for (name, expected) in [("etcd", 0o755), ("etcd/version.txt", 0o644)] {
        let mode = std::fs::metadata(folder.join(name))?.permissions().mode() & 0o7777;
        ensure(mode == expected, || {
            format!("the mode of {name} is {mode:04o}, not {expected:04o}")
        })?;
    }
    Ok(())
}

fn refused(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let newest = context.under_test.newest();
    let cluster = Cluster::new(&pod, 1, newest, ClusterOptions::default())?;
    let member = &cluster.members[0];
    std::fs::write(member.data.join("notes.txt"), "not etcd's")?;
    context.step("migrate a directory that is not etcd's");
    let ended = pod.run(&member.migration(newest))?;
    ensure(ended.code == 3, || format!("the exit code is {}, not 3", ended.code))?;
    ensure(!member.data.join("version.txt").exists(), || "version.txt was written".to_owned())?;
    context.step("an unknown flag");
    let ended = pod.run(&Container::new(["/usr/local/bin/migrate", "--no-such-flag"]))?;
    ensure(ended.code == 2, || format!("the exit code is {}, not 2", ended.code))
}

/// A cluster with data that only root may read, stopped.
fn locked<'a>(pod: &'a Pod<'a>, version: &EtcdVersion) -> Result<(Cluster<'a>, String), CaseError> {
    let (mut cluster, written) = seeded(pod, version, FEW_KEYS)?;
    pod.context().step("enable authentication");
    cluster.start_all()?;
    for words in [
        &["user", "add", "root:secret"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        cluster.ctl(words)?;
    }
    cluster.log_in("root:secret");
    cluster.stop_all()?;
    Ok((cluster, written))
}

fn an_anonymous_client_is_refused(cluster: &mut Cluster<'_>) -> Result<(), CaseError> {
    let pod = cluster.pod;
    pod.context().step("a client without a login sends a request");
    cluster.start_all()?;
    let member = &cluster.members[0];
    let words = ["get", "/registry", "--prefix", "--limit=1"];
    let asked = ctl(&ClusterOptions::default(), &member.version, &member.client_url(), &words);
    ensure(pod.run(&asked)?.code != 0, || "authentication is no longer enabled".to_owned())?;
    cluster.stop_all()
}

fn auth(context: &CaseContext<'_>, from: &EtcdVersion, to: &EtcdVersion) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let (mut cluster, written) = locked(&pod, from)?;
    context.step(format_args!("migrate from {from} to {to}"));
    cluster.members[0].migrate(to)?;
    is_whole(&mut cluster, &written)?;
    an_anonymous_client_is_refused(&mut cluster)
}

/// The downgrade is refused before anything is changed.
fn auth_stays(
    context: &CaseContext<'_>,
    from: &EtcdVersion,
    to: &EtcdVersion,
) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let (mut cluster, written) = locked(&pod, from)?;
    context.step(format_args!("migrate back from {from} to {to} is refused"));
    let ended = pod.run(&cluster.members[0].migration(to))?;
    ensure(ended.code == 3, || format!("the exit code is {}, not 3", ended.code))
        .map_err(|stop| stop.log(&ended.stderr))?;
    is_whole(&mut cluster, &written)?;
    an_anonymous_client_is_refused(&mut cluster)
}

fn crash(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let (from, to) = (context.under_test.oldest(), context.under_test.newest());
    let (mut cluster, written) = seeded(&pod, from, FEW_KEYS)?;
    let container = cluster.members[0].migration(to);
    // Most likely before `migrate` has started its first server.
    for milliseconds in [30, 300] {
        context.step(format_args!("kill migrate after {milliseconds} ms"));
        let mut process = pod.start(&container)?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        process.signal(Signal::Kill)?;
        process.end()?;
    }
    let mut killed = Vec::new();
    for version in between(context.under_test, from, to) {
        context.step(format_args!("kill migrate while its etcd {version} runs"));
        let mut process = pod.start(&container)?;
        context.until(&format!("etcd {version} to be started"), || {
            let has_ended = process.has_ended()?.is_some();
            ensure(!has_ended, || format!("migrate ended without starting etcd {version}"))
                .map_err(|stop| stop.log(&process.log()))?;
            Ok(Events::of(&process.log()).started().contains(version))
        })?;
        process.signal(Signal::Kill)?;
        // Counts only if the server had not stopped by itself before.
        if !Events::of(&process.end()?.stderr).stopped().contains(version) {
            killed.push(version.to_string());
        }
    }
    ensure(!killed.is_empty(), || "every server ended before it could be killed".to_owned())?;
    context.note(format_args!("killed while it served {}", killed.join(" and ")));
    context.step("start it again");
    cluster.members[0].migrate(to)?;
    is_whole(&mut cluster, &written)
}

/// The command line of the reference manifest on Google Compute Engine, word for word.
fn old_manifest(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let (from, to) = (context.under_test.oldest(), context.under_test.newest());
    let (cluster, written) = seeded(&pod, from, FEW_KEYS)?;
    let member = &cluster.members[0];
    let script = format!(
        "if [ -e /usr/local/bin/migrate-if-needed.sh ]; then \
         /usr/local/bin/migrate-if-needed.sh 1>>/var/log/etcd.log 2>&1; fi; \
         exec /usr/local/bin/etcd --name {name} --listen-peer-urls {peer} \
         --initial-advertise-peer-urls {peer} --advertise-client-urls {client} \
         --listen-client-urls {client} --data-dir {DATA} --initial-cluster-state new \
         --initial-cluster {name}={peer}",
        name = member.name,
        peer = member.peer_url(),
        client = member.client_url(),
    );
    let logs = context.folder("log")?;
    let container = Container::new(["/bin/sh", "-c", &script])
        .env("TARGET_STORAGE", "etcd3")
        .env("TARGET_VERSION", to.to_string())
        .env("DO_NOT_MOVE_BINARIES", "true")
        .env("DATA_DIRECTORY", DATA)
        .env("INITIAL_CLUSTER", &member.initial_cluster)
        .env("LISTEN_PEER_URLS", member.peer_url())
        .env("INITIAL_ADVERTISE_PEER_URLS", member.peer_url())
        .env("ETCD_SNAPSHOT_COUNT", "10000")
        .env("ETCD_HOSTNAME", &member.name)
        .env("ETCDCTL_API", "3")
        .volume(&member.data, DATA)
        .volume(&logs, "/var/log");
    context.step("start the pod");
    let mut process = pod.start(&container)?;
    let asked = |words: &[&str]| ctl(&cluster.options, to, &member.client_url(), words);
    let log = || std::fs::read_to_string(logs.join("etcd.log")).unwrap_or_default();
    let health = context.until("the pod to be healthy", || {
        let ended = process.has_ended()?;
        ensure(ended.is_none(), || format!("the pod ended with exit code {ended:?}"))?;
        Ok(pod.run(&asked(&["endpoint", "health"]))?.code == 0)
    });
    health.map_err(|stop| stop.log(&(log() + &process.log())))?;
    same("version.txt", &format!("{to}/etcd3"), &member.version_file())?;
    let keys = pod.must(&asked(&["get", "/registry", "--prefix", "-w=json"]))?;
    let kept =
        keys.split_once("\"kvs\"").is_some_and(|(_, keys)| written.contains(keys.trim_end()));
    ensure(kept, || "keys or values are not what they were".to_owned())?;
    process.signal(Signal::Term)?;
    process.end().map(drop)
}
