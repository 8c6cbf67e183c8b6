//! The snapshot of a cluster becomes a cluster of three new members: each is restored alone, and
//! all of them then go to the target version together, as the pods of a StatefulSet do.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::cluster::{MEMBERS, TestCluster};
use crate::directory::Directory;
use crate::etcd::{Etcd, Real, minor, real};
use crate::events;
use crate::require::require;

const BUMP: u64 = 1_000_000_000;

/// Keys, leases and users of a cluster, and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    contents: String,
    users: String,
    revision: u64,
}

impl Found {
    fn of(etcd: &Etcd) -> Self {
        let text = etcd.contents();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap();
        Self {
            contents: text[end..].to_owned(),
            users: etcd.run(&["user", "list"]),
            revision: text[..end].parse().unwrap(),
        }
    }
}

/// A cluster of three with keys, a lease and a user, of which a snapshot was taken. What was in it
/// then.
fn saved(real: &'static Real, version: &str, snapshot: &Path) -> Found {
    let mut cluster = TestCluster::new(real, None);
    cluster.begin(version);
    let etcd = cluster.members[0].etcd.as_ref().unwrap();
    for key in 0..40 {
        etcd.run(&["put", &format!("/registry/{key}"), "x"]);
    }
    etcd.run(&["del", "/registry/7"]);
    let lease = etcd.run(&["lease", "grant", "100000"]);
    let lease = lease.split_whitespace().nth(1).unwrap().to_owned();
    etcd.run(&["put", "/registry/leased", "x", &format!("--lease={lease}")]);
    etcd.run(&["user", "add", "root:secret"]);
    let found = Found::of(etcd);
    etcd.run(&["snapshot", "save", snapshot.to_str().unwrap()]);
    for key in 0..20 {
        etcd.run(&["put", &format!("/registry/too-late/{key}"), "x"]);
    }
    found
}

/// What a client hears that goes on watching from a revision.
fn watch(real: &Real, version: &str, etcd: &Etcd, revision: u64) -> String {
    let mut command = Command::new("timeout");
    command.arg("20").arg(real.program("etcdctl", version)).env("ETCDCTL_API", "3");
    command.arg(format!("--endpoints={}", etcd.endpoint));
    command.args(["watch", "/registry", "--prefix", &format!("--rev={revision}")]);
    String::from_utf8(command.output().unwrap().stderr).unwrap()
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn a_snapshot_of_a_cluster_becomes_a_newer_cluster() {
    let real = real();
    require(&["openssl", "version"]);
    let (_, to) = real.ends();
    for from in [4, 5, 6, 7].map(|minor| real.version(minor)) {
        let directory = Directory::new();
        let snapshot = directory.path("snapshot.db");
        let before = saved(real, from, &snapshot);
        let mut cluster = TestCluster::new(real, None);
        // One after the other: none of them needs another one for this.
        for index in 0..MEMBERS {
            let mut command = cluster.migrate(index, to);
            command.args(["restore", "--restore-only", "--snapshot"]).arg(&snapshot);
            command.arg(format!("--bump-revision={BUMP}"));
            let (code, events) = events::run(&mut command);
            assert_eq!(code, Some(0), "{events:?}");
            let status = cluster.members[index].directory.status();
            assert_eq!(status["data"]["series"].as_str(), Some(&from[..3]), "{status}");
            assert_eq!(status["data"]["members"].as_array().unwrap().len(), MEMBERS, "{status}");
        }
        for events in cluster.migrate_together(to) {
            let is_walked = minor(from) + 1 < minor(to);
            assert_eq!(!events.started().is_empty(), is_walked, "{from}: {events:?}");
        }
        for member in &cluster.members {
            let etcd = member.etcd.as_ref().unwrap();
            let found = Found::of(etcd);
            let revision = before.revision + BUMP;
            assert_eq!(found, Found { revision, ..before.clone() }, "{from}");
            let heard = watch(real, to, etcd, before.revision + 10);
            assert!(heard.contains("compacted"), "{from}: {heard}");
        }
        cluster.members[1].etcd.as_ref().unwrap().run(&["put", "/registry/0", "changed"]);
        cluster.check(&BTreeMap::from([("/registry/0".to_owned(), "changed".to_owned())]));
        println!("snapshot of three {from} -> three {to}");
    }
}
