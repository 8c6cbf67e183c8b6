//! Resources of the etcd operator: a cluster, a backup and a restore.

use serde_json::{Value, json};

use super::Setting;

const API: &str = "etcd.database.coreos.com/v1beta2";
/// The restore must have the name of the cluster that it restores, so all three have it.
const NAME: &str = "etcd";

pub(super) fn cluster(setting: &Setting) -> Value {
    let repository = setting.image.rsplit_once(':').map_or(setting.image.as_str(), |(it, _)| it);
    json!({
        "apiVersion": API,
        "kind": "EtcdCluster",
        "metadata": { "name": NAME },
        "spec": {
            "size": 3, "repository": repository, "version": setting.target.to_string(),
        },
    })
}

pub(super) fn backup() -> Value {
    json!({
        "apiVersion": API,
        "kind": "EtcdBackup",
        "metadata": { "name": NAME },
        "spec": {
            // The service that the operator makes for the clients of the cluster.
            "etcdEndpoints": [format!("http://{NAME}-client:2379")],
            "storageType": "S3",
            "s3": store(),
        },
    })
}

pub(super) fn restore() -> Value {
    json!({
        "apiVersion": API,
        "kind": "EtcdRestore",
        "metadata": { "name": NAME },
        "spec": {
            "etcdCluster": { "name": NAME },
            "backupStorageType": "S3",
            "s3": store(),
        },
    })
}

fn store() -> Value {
    json!({ "path": "backups/etcd/snapshot.db", "awsSecret": "etcd-backup" })
}
