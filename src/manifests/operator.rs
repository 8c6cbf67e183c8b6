use serde_json::{Value, json};

use super::Setting;

const API: &str = "etcd.database.coreos.com/v1beta2";

/// A cluster, its backup and a restore, as the operator's upgrade guide wants them.
pub(super) fn documents(setting: &Setting) -> Vec<Value> {
    let repository = setting.image.rsplit_once(':').map_or(setting.image.as_str(), |(it, _)| it);
    let version = setting.target.to_string();
    let store = json!({
        "path": "backups/etcd/snapshot.db",
        "awsSecret": "etcd-backup",
    });
    vec![
        json!({
            "apiVersion": API,
            "kind": "EtcdCluster",
            "metadata": { "name": "etcd" },
            "spec": { "size": 3, "repository": repository, "version": version },
        }),
        json!({
            "apiVersion": API,
            "kind": "EtcdBackup",
            "metadata": { "name": "etcd" },
            "spec": {
                "etcdEndpoints": ["http://etcd-client:2379"],
                "storageType": "S3",
                "s3": store,
            },
        }),
        json!({
            "apiVersion": API,
            "kind": "EtcdRestore",
            // It must have the name of the cluster that it restores.
            "metadata": { "name": "etcd" },
            "spec": {
                "etcdCluster": { "name": "etcd" },
                "backupStorageType": "S3",
                "s3": store,
            },
        }),
    ]
}
