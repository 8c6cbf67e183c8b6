use serde_json::{Value, json};

use super::Setting;
use super::member::{DATA, MEMBERS};
use super::stateful::{labels, security};

const TLS: &str = "/etc/etcd/tls";

/// Saved under another name first, so that no half snapshot is ever taken for a whole one.
const SAVE: &str = "set -o errexit
name=snapshot-$(date -u +%Y%m%dT%H%M%SZ).db
etcdctl snapshot save /backup/partial
etcdutl snapshot status /backup/partial -w table
mv /backup/partial /backup/$name
ls -1 /backup/snapshot-*.db | sort -r | tail -n +49 | xargs -r rm --
";

const RESTORE: &str = "set -o errexit
if [ -e /var/lib/etcd/member ]; then echo 'the volume is not empty'; exit 1; fi
newest=$(ls -1 /backup/snapshot-*.db | sort -r | head -n 1)
etcdutl snapshot restore $newest --data-dir /var/lib/etcd/restored \\
  --name $MEMBER --initial-cluster $INITIAL_CLUSTER \\
  --initial-advertise-peer-urls https://$MEMBER.etcd:2380
mv /var/lib/etcd/restored/member /var/lib/etcd/member
rmdir /var/lib/etcd/restored
";

pub(super) fn backup(setting: &Setting) -> Vec<Value> {
    let endpoints = MEMBERS.map(|(name, _)| format!("https://{name}.etcd:2379"));
    let environment = super::environment(&[
        // A snapshot is taken from one member: whichever is first.
        ("ETCDCTL_ENDPOINTS", endpoints[0].clone()),
        ("ETCDCTL_CACERT", format!("{TLS}/ca.crt")),
        ("ETCDCTL_CERT", format!("{TLS}/client.crt")),
        ("ETCDCTL_KEY", format!("{TLS}/client.key")),
    ]);
    let pod = pod(
        &json!([{
            "name": "backup",
            "image": setting.image,
            "command": ["/bin/sh", "-c", SAVE],
            "env": environment,
            "securityContext": security(),
            "volumeMounts": [
                { "name": "backup", "mountPath": "/backup" },
                { "name": "tls", "mountPath": TLS, "readOnly": true },
            ],
        }]),
        &json!([
            { "name": "backup", "persistentVolumeClaim": { "claimName": "etcd-backup" } },
            { "name": "tls", "secret": { "secretName": "etcd-tls" } },
        ]),
    );
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": "etcd-backup", "labels": labels() },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "100Gi" } },
        },
    });
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": { "name": "etcd-backup", "labels": labels() },
        "spec": {
            "schedule": "17 * * * *",
            "concurrencyPolicy": "Forbid",
            "jobTemplate": { "spec": { "backoffLimit": 2, "template": pod } },
        },
    });
    vec![claim, job]
}

pub(super) fn restore(setting: &Setting) -> Vec<Value> {
    let all = MEMBERS.map(|(name, _)| format!("{name}=https://{name}.etcd:2380")).join(",");
    let job = |(name, _): (&str, &str)| {
        let environment =
            super::environment(&[("MEMBER", name.to_owned()), ("INITIAL_CLUSTER", all.clone())]);
        let pod = pod(
            &json!([{
                "name": "restore",
                "image": setting.image,
                "command": ["/bin/sh", "-c", RESTORE],
                "env": environment,
                "securityContext": security(),
                "volumeMounts": [
                    { "name": "backup", "mountPath": "/backup", "readOnly": true },
                    { "name": "data", "mountPath": DATA },
                ],
            }]),
            &json!([
                { "name": "backup", "persistentVolumeClaim": { "claimName": "etcd-backup" } },
                { "name": "data",
                  "persistentVolumeClaim": { "claimName": format!("data-{name}") } },
            ]),
        );
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": format!("restore-{name}"), "labels": labels() },
            "spec": { "backoffLimit": 0, "template": pod },
        })
    };
    MEMBERS.into_iter().map(job).collect()
}

fn pod(containers: &Value, volumes: &Value) -> Value {
    json!({ "spec": {
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": containers,
        "volumes": volumes,
    } })
}
