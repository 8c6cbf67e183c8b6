//! One image per minor, as hosted control planes are upgraded: a server runs at each version, and
//! what it leaves in its log is what the next one meets. Pairs that begin with a fresh cluster do
//! not see that: etcd 3.5 logs requests that 3.6 converts and on which 3.7 panics.

use std::collections::BTreeMap;

use crate::cluster::{MEMBERS, TestCluster};
use crate::directory::Directory;
use crate::etcd::{Etcd, Real, minor, real, side_by_side, succeed};
use crate::events::{self, Events};
use crate::require::require;
use crate::shapes::copy;

/// Far fewer than a server writes before it takes a raft snapshot by itself.
const FEW: usize = 5;
/// More than etcd 3.6 applies before it takes one.
const MANY: usize = 10_500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The image of each minor version runs `migrate` before its etcd.
    Migrate,
    /// etcds of somebody else, and `migrate` for the last minor version alone.
    PlainEtcds,
}

/// All runs of three and four minor versions, one after the other.
fn chains(real: &Real) -> Vec<Vec<&str>> {
    let versions: Vec<_> = real.versions.values().map(String::as_str).collect();
    let of = |length| versions.windows(length).map(<[_]>::to_vec).collect::<Vec<_>>();
    [of(3), of(4)].concat()
}

fn put(etcd: &Etcd, version: &str, puts: usize) {
    for number in 0..puts.min(FEW) {
        etcd.run(&["put", &format!("/registry/{version}/{number}"), version]);
    }
    etcd.put_again_and_again(puts.saturating_sub(FEW));
}

fn keys(chain: &[&str]) -> BTreeMap<String, String> {
    let of = |version: &&str| {
        let version = (*version).to_owned();
        (0..FEW).map(move |number| (format!("/registry/{version}/{number}"), version.clone()))
    };
    chain.iter().flat_map(of).collect()
}

fn run_chain(real: &Real, chain: &[&str], by: By, puts: usize) {
    let (first, last) = (chain[0], chain[chain.len() - 1]);
    let directory = Directory::new();
    let mut events = Events::default();
    for version in chain {
        if by == By::Migrate || *version == last {
            events = real.migrate(&directory, version, &[]);
        }
        let etcd = real.start(&directory, version);
        put(&etcd, version, puts);
        if *version == last {
            let text = etcd.run(&["get", "/registry/3", "--prefix"]);
            let lines: Vec<_> = text.lines().collect();
            let found: BTreeMap<_, _> =
                lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
            assert_eq!(found, keys(chain), "{chain:?}");
        }
    }
    // Few entries on 3.6 leave in the log what 3.5 has written there.
    if minor(first) == 5 && minor(last) >= 7 && puts == FEW {
        assert!(events.started().contains(&real.version(6)), "{chain:?}: {events:?}");
    }
    // A raft snapshot of 3.6 is newer than all of that.
    if puts == MANY {
        assert_eq!(events.started(), [""; 0], "{chain:?}");
    }
    println!("{} with {puts} puts at each", chain.join(" -> "));
}

#[test]
#[ignore = "needs etcd servers"]
fn every_chain_of_minors_ends_with_a_server_that_serves_everything() {
    let real = real();
    let mut cases = Vec::new();
    for chain in chains(real) {
        cases.push((chain.clone(), By::Migrate, FEW));
        cases.push((chain, By::PlainEtcds, FEW));
    }
    side_by_side(&cases, |(chain, by, puts)| run_chain(real, chain, *by, *puts));
}

#[test]
#[ignore = "needs etcd servers"]
fn a_chain_with_many_entries_at_each_version_needs_no_server_between() {
    let real = real();
    let chain: Vec<_> = real.versions.values().map(String::as_str).collect();
    run_chain(real, &chain, By::Migrate, MANY);
}

/// What a `migrate` that did not know the danger left behind, and a 3.7 that dies at every start.
#[test]
#[ignore = "needs etcd servers"]
fn data_on_which_3_7_panics_serves_again() {
    let real = real();
    let [v3_5, v3_6, v3_7] = [5, 6, 7].map(|minor| real.version(minor));
    let directory = Directory::new();
    for version in [v3_5, v3_6] {
        put(&real.start(&directory, version), version, FEW);
    }
    let panicked = real.spawn_member(&directory, v3_7, &[]);
    assert!(!panicked.starts(), "this etcd 3.7 does not panic");
    let cases = [("", v3_7), (v3_7, v3_7), (v3_6, v3_7), ("", v3_6), (v3_7, v3_6)];
    side_by_side(&cases, |(recorded, to)| {
        let copied = Directory::new();
        copy(&directory.path("data"), &copied.path("data"));
        if !recorded.is_empty() {
            copied.write("data/version.txt", format!("{recorded}/etcd3").as_bytes());
        }
        real.migrate(&copied, to, &[]);
        let etcd = real.start(&copied, to);
        for version in [v3_5, v3_6] {
            let key = format!("/registry/{version}/0");
            assert!(etcd.run(&["get", &key]).contains(version), "{recorded} {to}");
        }
        etcd.run(&["put", "/registry/after", "x"]);
        println!("version.txt `{recorded}`, to {to}");
    });
}

/// Upgrades members one after the other; the events of the last one.
fn roll(cluster: &mut TestCluster, version: &str) -> Events {
    let mut events = Events::default();
    for index in 0..MEMBERS {
        cluster.stop(index);
        let mut command = cluster.migrate(index, version);
        events = succeed(&cluster.members[index].directory, &mut command, version);
        cluster.start(index, version);
        cluster.wait_for(index);
    }
    cluster.wait_for_version(version);
    events
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn a_cluster_rolls_from_minor_to_minor_with_the_snapshot_count_of_etcd_itself() {
    let real = real();
    require(&["openssl", "version"]);
    let mut chains = chains(real);
    chains.retain(|chain| chain.len() == 3 && minor(chain[2]) >= 7 || chain.len() == 4);
    side_by_side(&chains, |chain| {
        let mut cluster = TestCluster::new(real, None);
        cluster.begin(chain[0]);
        let acknowledged = cluster.while_written_to(chain[0], |cluster| {
            for version in &chain[1..] {
                let events = roll(cluster, version);
                if minor(version) == 7 && minor(chain[0]) == 5 {
                    assert!(events.started().contains(&real.version(6)), "{events:?}");
                }
            }
        });
        cluster.check(&acknowledged);
        println!("{} by {MEMBERS} members: {} writes kept", chain.join(" -> "), acknowledged.len());
    });
}

/// The first time that a cluster meets `migrate`.
#[test]
#[ignore = "needs etcd servers and openssl"]
fn a_cluster_of_plain_etcds_rolls_to_the_newest_minor() {
    let real = real();
    require(&["openssl", "version"]);
    let [v3_5, v3_6, v3_7] = [5, 6, 7].map(|minor| real.version(minor));
    let mut cluster = TestCluster::new(real, None);
    for index in 0..MEMBERS {
        cluster.start(index, v3_5);
    }
    cluster.wait_for_version(v3_5);
    for index in 0..MEMBERS {
        cluster.stop(index);
        cluster.start(index, v3_6);
        cluster.wait_for(index);
    }
    cluster.wait_for_version(v3_6);
    let acknowledged = cluster.while_written_to(v3_6, |cluster| {
        let events = roll(cluster, v3_7);
        assert!(events.started().contains(&v3_6), "{events:?}");
    });
    cluster.check(&acknowledged);
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn a_member_without_its_quorum_is_refused_and_can_go_on_with_it() {
    let real = real();
    require(&["openssl", "version"]);
    let [first, between, last] = [5, 6, 7].map(|minor| real.version(minor));
    let mut cluster = TestCluster::new(real, None);
    cluster.begin(first);
    roll(&mut cluster, between);
    let key = ("/registry/key".to_owned(), "value".to_owned());
    cluster.members[0].etcd.as_ref().unwrap().run(&["put", &key.0, &key.1]);
    (0..MEMBERS).for_each(|index| cluster.stop(index));

    let mut command = cluster.migrate(0, last);
    let (code, events) = events::run(command.arg("--start-timeout=8s"));
    assert_eq!(code, Some(3), "{events:?}");
    let error = events.error();
    assert_eq!((error.id, error.hints.is_empty()), ("no-quorum", false), "{error:?}");
    assert_eq!(cluster.members[0].directory.version(), format!("{between}/etcd3"));

    // Both hints are true: the others come back, and the member goes on.
    (1..MEMBERS).for_each(|index| cluster.start(index, between));
    (1..MEMBERS).for_each(|index| cluster.wait_for(index));
    cluster.start(0, between);
    cluster.wait_for(0);
    roll(&mut cluster, last);
    cluster.check(&BTreeMap::from([key]));
}
