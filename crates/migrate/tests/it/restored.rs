//! Data that was restored from the snapshot of a larger cluster: its database may still name the
//! members of that cluster, which the restored one has never had.

use std::process::Command;

use crate::cluster::TestCluster;
use crate::directory::{Directory, outcome};
use crate::etcd::{Real, minor, real};

/// A snapshot of a cluster of three, restored as a single member `m`.
fn restored(real: &'static Real, version: &str) -> Directory {
    let directory = Directory::new();
    let snapshot = directory.path("snapshot.db");
    let mut cluster = TestCluster::new(real, None);
    cluster.begin(version);
    let etcd = cluster.members[0].etcd.as_ref().unwrap();
    etcd.run(&["put", "a", "b"]);
    etcd.run(&["snapshot", "save", snapshot.to_str().unwrap()]);
    let tool = if minor(version) < 5 { "etcdctl" } else { "etcdutl" };
    let url = "http://127.0.0.1:1";
    let mut restore = Command::new(real.program(tool, version));
    restore.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(&snapshot);
    restore.arg("--data-dir").arg(directory.path("data")).args(["--name", "m"]);
    restore.arg(format!("--initial-cluster=m={url}"));
    restore.arg(format!("--initial-advertise-peer-urls={url}"));
    let (code, _, stderr) = outcome(&restore.output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    directory
}

#[track_caller]
fn check_members(directory: &Directory, when: &str) {
    let status = directory.status();
    let members = status["data"]["members"].as_array().unwrap();
    let names: Vec<_> = members.iter().map(|member| member["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["m"], "{when}");
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn a_restored_member_is_alone_whatever_its_database_says_of_others() {
    let real = real();
    let (_, highest) = real.ends();
    for from in [4, 5].map(|minor| real.version(minor)) {
        for is_served in [false, true] {
            let directory = restored(real, from);
            check_members(&directory, "restored");
            if is_served {
                drop(real.start(&directory, from));
                check_members(&directory, "served");
            }
            real.migrate(&directory, highest, &[]);
            check_members(&directory, "migrated");
            let etcd = real.start(&directory, highest);
            assert_eq!(etcd.run(&["member", "list"]).lines().count(), 1, "{from} {is_served}");
            assert_eq!(etcd.run(&["get", "a", "--print-value-only"]), "b\n");
            etcd.run(&["put", "a", "c"]);
        }
    }
}
