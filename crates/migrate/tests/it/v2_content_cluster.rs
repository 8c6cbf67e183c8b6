//! Content of the v2 API in a cluster of three: refused, with the way that works by hand.

use serde_json::json;

use crate::cluster::{MEMBERS, TestCluster};
use crate::etcd::{real, succeed};
use crate::events;
use crate::require::require;
use crate::v2_api::ask;
use crate::v2_content::keys;

#[test]
#[ignore = "needs etcd servers and openssl"]
fn content_of_a_cluster_is_refused_and_the_way_by_hand_works() {
    let real = real();
    require(&["openssl", "version"]);
    let [from, to] = [5, 6].map(|minor| real.version(minor));
    let mut cluster = TestCluster::new(real, None);
    cluster.more = vec!["--enable-v2".to_owned()];
    cluster.begin(from);
    let first = cluster.members[0].etcd.as_ref().unwrap();
    first.run(&["put", "/registry/key", "value"]);
    ask(first, "PUT", "/folder/a", "value=1");
    ask(first, "PUT", "/b", "value=2&ttl=3600");
    cluster.more.clear();
    for index in 0..MEMBERS {
        cluster.stop(index);
        cluster.start(index, from);
        cluster.wait_for(index);
    }

    cluster.stop(0);
    for what in ["refuse", "convert", "drop"] {
        let mut command = cluster.migrate(0, to);
        let (code, events) = events::run(command.arg(format!("--v2-content={what}")));
        assert_eq!(code, Some(3), "{events:?}");
        let error = events.error();
        assert!(error.message.contains("have stored 2 keys in /b, /folder"), "{error:?}");
        assert!(error.hints[0].contains("restart one of them with `--enable-v2`"), "{error:?}");
    }

    // What the hint says.
    cluster.more = vec!["--enable-v2".to_owned()];
    cluster.start(0, from);
    cluster.wait_for(0);
    let first = cluster.members[0].etcd.as_ref().unwrap();
    first.run(&["put", "/folder/a", "1"]);
    ask(first, "DELETE", "/folder?recursive=true", "");
    ask(first, "DELETE", "/b", "");
    cluster.more.clear();
    for index in 0..MEMBERS {
        cluster.stop(index);
        assert_eq!(cluster.members[index].directory.status()["data"]["v2Names"], json!([]));
        let mut command = cluster.migrate(index, to);
        succeed(&cluster.members[index].directory, &mut command, to);
        cluster.start(index, to);
        cluster.wait_for(index);
    }
    cluster.wait_for_version(to);
    for member in &cluster.members {
        let keys = keys(member.etcd.as_ref().unwrap());
        assert_eq!(keys.into_keys().collect::<Vec<_>>(), ["/folder/a", "/registry/key"]);
    }
}
