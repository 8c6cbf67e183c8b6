//! Members with names and addresses that are seldom, of clusters that shrink and grow.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::TestCluster;
use crate::directory::{Directory, free_port};
use crate::etcd::{Etcd, Real, real, side_by_side, succeed};
use crate::require::require;

/// What JSON escapes, or a command line could take apart.
const NAME: &str = r#"a&b <c> "d" \e é"#;

/// A member by its name and its peer URL; it may not answer yet.
fn spawn(
    real: &Real,
    directory: &Directory,
    version: &str,
    (name, peer_url): (&str, &str),
    cluster: &[String],
) -> Etcd {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let mut arguments = vec![
        format!("--name={name}"),
        format!("--listen-client-urls={endpoint}"),
        format!("--advertise-client-urls={endpoint}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
    ];
    arguments.extend_from_slice(cluster);
    real.spawn(directory, version, &endpoint, &arguments)
}

/// The only member of a new cluster.
fn start_alone(real: &Real, directory: &Directory, version: &str, own: (&str, &str)) -> Etcd {
    let cluster = format!("--initial-cluster={}={}", own.0, own.1);
    spawn(real, directory, version, own, &[cluster]).ready(directory)
}

/// Name and peer URLs of the only member.
fn only_member(etcd: &Etcd) -> Value {
    let list: Value = serde_json::from_str(&etcd.run(&["member", "list", "-w=json"])).unwrap();
    let members = list["members"].as_array().unwrap();
    assert_eq!(members.len(), 1, "{list}");
    serde_json::json!([members[0]["name"], members[0]["peerURLs"]])
}

#[test]
#[ignore = "needs etcd servers"]
fn names_and_addresses_that_are_seldom_stay_as_they_are() {
    let real = real();
    side_by_side(&[(4, 6), (5, 7), (7, 6), (5, 4)], |(from, to)| {
        let [from, to] = [*from, *to].map(|minor| real.version(minor));
        let directory = Directory::new();
        let peer_url = format!("http://[::1]:{}", free_port());
        let etcd = start_alone(real, &directory, from, (NAME, &peer_url));
        etcd.run(&["put", "/registry/key", "value"]);
        let (member, contents) = (only_member(&etcd), etcd.contents());
        drop(etcd);
        let mut command = directory.command(to, &real.bin_dir);
        command.env("ETCD_NAME", NAME);
        command.env("INITIAL_CLUSTER", format!("{NAME}={peer_url}"));
        command.env("INITIAL_ADVERTISE_PEER_URLS", &peer_url);
        succeed(&directory, &mut command, to);
        let etcd = start_alone(real, &directory, to, (NAME, &peer_url));
        assert_eq!((only_member(&etcd), etcd.contents()), (member, contents), "{from} {to}");
        println!("{from} -> {to}");
    });
}

/// Removes a member, which etcd refuses until all have been connected for a while. Afterwards the
/// first member knows of it, and does not need the other one any more.
fn remove(cluster: &TestCluster, index: usize) {
    let etcd = cluster.members[0].etcd.as_ref().unwrap();
    let list = etcd.run(&["member", "list"]);
    let line = list.lines().find(|line| line.contains(&format!(", m{index}, "))).unwrap();
    let id = line.split(',').next().unwrap();
    let started = Instant::now();
    while etcd.try_run(&["member", "list"]).is_none_or(|list| list.contains(id)) {
        assert!(started.elapsed() < Duration::from_mins(1), "m{index} cannot be removed");
        etcd.try_run(&["member", "remove", id]);
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn who_is_left_of_a_cluster_is_alone() {
    let real = real();
    require(&["openssl", "version"]);
    side_by_side(&[(4, 6), (5, 7), (6, 7), (5, 4), (7, 6)], |(from, to)| {
        let [from, to] = [*from, *to].map(|minor| real.version(minor));
        let mut cluster = TestCluster::new(real, None);
        cluster.begin(from);
        cluster.wait_for_version(from);
        for index in [2, 1] {
            remove(&cluster, index);
            cluster.stop(index);
        }
        let etcd = cluster.members[0].etcd.as_ref().unwrap();
        etcd.run(&["put", "/registry/alone", "value"]);
        cluster.stop(0);
        let directory = &cluster.members[0].directory;
        assert_eq!(directory.status()["data"]["members"].as_array().unwrap().len(), 1);
        succeed(directory, &mut cluster.migrate(0, to), to);
        cluster.start(0, to);
        cluster.wait_for(0);
        let etcd = cluster.members[0].etcd.as_ref().unwrap();
        let list = etcd.run(&["member", "list"]);
        assert_eq!(list.lines().count(), 1, "{list}");
        assert!(etcd.run(&["get", "/registry/alone"]).contains("value"));
        println!("{from} -> {to}");
    });
}

/// Its first start, before `member add`, fails and leaves a database without anything in it.
#[test]
#[ignore = "needs etcd servers"]
fn a_member_that_was_started_too_early_joins() {
    let real = real();
    let versions: Vec<_> = real.versions.values().collect();
    side_by_side(&versions, |version| {
        let [old, new] = [(); 2].map(|()| Directory::new());
        let peers = [(); 2].map(|()| format!("http://127.0.0.1:{}", free_port()));
        let first = start_alone(real, &old, version, ("m", &peers[0]));
        first.run(&["put", "/registry/key", "value"]);
        let members = format!("m={},n={}", peers[0], peers[1]);
        let migrate = || {
            let mut command = new.command(version, &real.bin_dir);
            command.env("ETCD_NAME", "n").env("INITIAL_CLUSTER_STATE", "existing");
            command.env("INITIAL_CLUSTER", &members);
            succeed(&new, &mut command, version);
        };
        let join = || {
            let cluster =
                [format!("--initial-cluster={members}"), "--initial-cluster-state=existing".into()];
            spawn(real, &new, version, ("n", &peers[1]), &cluster)
        };
        migrate();
        assert!(!join().starts(), "{version}");
        assert!(new.path("data/member/snap/db").exists(), "{version}");
        first.run(&["member", "add", "n", &format!("--peer-urls={}", peers[1])]);
        migrate();
        let second = join().ready(&new);
        assert!(second.run(&["get", "/registry/key"]).contains("value"), "{version}");
        println!("{version}");
    });
}
