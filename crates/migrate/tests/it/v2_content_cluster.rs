//! Content of the v2 API in a cluster of three: the member that migrates first deals with it for all.

use std::thread;

use crate::cluster::{MEMBERS, TestCluster};
use crate::etcd::{Etcd, real, side_by_side, succeed};
use crate::require::require;
use crate::v2_api::ask;
use crate::v2_content::keys;

/// A cluster with keys of both APIs.
fn with_content(version: &str) -> TestCluster {
    let mut cluster = TestCluster::new(real(), None);
    cluster.more = vec!["--enable-v2".to_owned()];
    cluster.begin(version);
    let first = cluster.members[0].etcd.as_ref().unwrap();
    first.run(&["put", "/registry/key", "value"]);
    ask(first, "PUT", "/folder/a", "value=1");
    ask(first, "PUT", "/folder/empty/inner", "dir=true");
    ask(first, "PUT", "/b", "value=2&ttl=3600");
    for number in 0..100 {
        ask(first, "PUT", &format!("/many/{number}"), "value=x");
    }
    cluster.more.clear();
    cluster
}

#[track_caller]
fn check_all(cluster: &TestCluster, what: &str) {
    for member in &cluster.members {
        let keys = keys(member.etcd.as_ref().unwrap());
        if what == "drop" {
            assert_eq!(keys.into_keys().collect::<Vec<_>>(), ["/registry/key"]);
            continue;
        }
        let many = (0..100).filter(|number| keys[&format!("/many/{number}")] == "x");
        assert_eq!(many.count(), 100);
        let others = ["/b", "/folder/a", "/registry/key"].map(|key| keys[key].as_str());
        assert_eq!((others, keys.len()), (["2", "1", "value"], 103));
    }
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn the_first_member_of_a_cluster_does_it_for_all() {
    let real = real();
    require(&["openssl", "version"]);
    let [from, to] = [5, 6].map(|minor| real.version(minor));
    side_by_side(&["convert", "drop"], |what| {
        let mut cluster = with_content(from);
        for index in 0..MEMBERS {
            cluster.stop(index);
            let mut command = cluster.migrate(index, to);
            command.arg(format!("--v2-content={what}"));
            let events = succeed(&cluster.members[index].directory, &mut command, to);
            assert_eq!(events.has("v2-deleted"), index == 0, "{events:?}");
            cluster.start(index, to);
            cluster.wait_for(index);
        }
        cluster.wait_for_version(to);
        check_all(&cluster, what);
    });
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn members_that_migrate_together_convert_together() {
    let real = real();
    require(&["openssl", "version"]);
    let (from, to) = real.ends();
    let mut cluster = with_content(from);
    (0..MEMBERS).for_each(|index| cluster.stop(index));
    let started: Vec<Etcd> = thread::scope(|scope| {
        let migrate_and_start = |index: usize| {
            let cluster = &cluster;
            scope.spawn(move || {
                let mut command = cluster.migrate(index, to);
                command.arg("--v2-content=convert");
                succeed(&cluster.members[index].directory, &mut command, to);
                cluster.spawn(index, to)
            })
        };
        let threads: Vec<_> = (0..MEMBERS).map(migrate_and_start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (member, etcd) in cluster.members.iter_mut().zip(started) {
        member.etcd = Some(etcd);
    }
    (0..MEMBERS).for_each(|index| cluster.wait_for(index));
    cluster.wait_for_version(to);
    check_all(&cluster, "convert");
}
