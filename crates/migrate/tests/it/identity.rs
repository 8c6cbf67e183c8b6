//! A member keeps its name and URLs; `--trust` decides which version is right.

use std::fs;
use std::net::TcpListener;

use crate::directory::{Directory, free_port};
use crate::etcd::{Etcd, Real, real, succeed};
use crate::events::{goes_by_snapshot, plan};

const TOKEN: &str = "a-token-of-ours";
const NAME: &str = "cp-1";

/// A server of a cluster with a name and a token of its own.
fn start(real: &Real, directory: &Directory, version: &str) -> Etcd {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let arguments = [
        format!("--name={NAME}"),
        format!("--initial-cluster={NAME}=http://localhost:12380"),
        "--initial-advertise-peer-urls=http://localhost:12380".to_owned(),
        format!("--initial-cluster-token={TOKEN}"),
        format!("--listen-client-urls={endpoint}"),
        format!("--advertise-client-urls={endpoint}"),
        format!("--listen-peer-urls=http://127.0.0.1:{}", free_port()),
    ];
    real.spawn(directory, version, &endpoint, &arguments).ready(directory)
}

/// The cluster's number, which comes of its token and its members, and the member's.
fn identity(etcd: &Etcd) -> [String; 2] {
    let status = etcd.run(&["endpoint", "status", "-w=json"]);
    ["\"cluster_id\":", "\"member_id\":"].map(|field| {
        let number = status.split(field).nth(1).expect(field);
        number.split(',').next().unwrap().to_owned()
    })
}

/// The only member, as the data knows it.
fn name(directory: &Directory) -> String {
    directory.status()["data"]["members"][0]["name"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs etcd servers"]
fn an_upgrade_keeps_the_name_and_finds_a_port_for_peers() {
    let real = real();
    let (lowest, highest) = real.ends();
    let directory = Directory::new();
    let etcd = start(real, &directory, lowest);
    etcd.run(&["put", "/registry/key", "value"]);
    drop(etcd);
    // Taken by this, or by somebody else.
    let _taken = TcpListener::bind(("127.0.0.1", 2380));
    let mut command = directory.command(highest, &real.bin_dir);
    command.env_remove("ETCD_NAME").env("HOSTNAME", "pod-7").env_remove("LISTEN_PEER_URLS");
    let events = succeed(&directory, &mut command, highest);
    assert_ne!(events.started(), [""; 0]);
    assert_eq!(name(&directory), NAME);
    let etcd = start(real, &directory, highest);
    assert!(etcd.run(&["get", "/registry/key"]).contains("value"));
}

#[test]
#[ignore = "needs etcd servers"]
fn a_downgrade_by_snapshot_keeps_name_token_and_urls() {
    let real = real();
    let [older, newer] = [4, 5].map(|minor| real.version(minor));
    let directory = Directory::new();
    let etcd = start(real, &directory, newer);
    etcd.run(&["put", "/registry/key", "value"]);
    let (before, members) = (identity(&etcd), etcd.run(&["member", "list"]));
    drop(etcd);
    let plan = plan(&mut directory.command(older, &real.bin_dir));
    assert!(goes_by_snapshot(&plan), "{plan}");
    let mut command = directory.command(older, &real.bin_dir);
    // The pod knows no name but its own.
    command.env_remove("ETCD_NAME").env("HOSTNAME", "pod-7");
    command.env("ETCD_CREDS", format!("--max-wals=5 --initial-cluster-token={TOKEN}"));
    succeed(&directory, &mut command, older);
    assert_eq!(name(&directory), NAME);
    let etcd = start(real, &directory, older);
    assert_eq!(identity(&etcd), before);
    let known = |list: &str| list.split(", ").take(4).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(known(&etcd.run(&["member", "list"])), known(&members));
    assert!(etcd.run(&["get", "/registry/key"]).contains("value"));
}

#[test]
#[ignore = "needs etcd servers"]
fn the_operator_decides_whom_to_trust() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = &seed.directory;
    fs::write(directory.path("data/version.txt"), format!("{highest}/etcd3")).unwrap();
    let starts_a_server = |trust: &str| {
        let mut command = directory.command(highest, &real.bin_dir);
        let plan = plan(command.args(["--trust", trust]));
        plan["steps"].as_array().unwrap().iter().any(|step| step["action"] == "serve")
    };
    assert!(!starts_a_server("file"));
    assert!(starts_a_server("data"));
    assert_eq!(directory.version(), format!("{highest}/etcd3"));
    real.migrate(directory, highest, &["--trust=data"]);
    real.check(directory, highest, &seed.contents);
}
