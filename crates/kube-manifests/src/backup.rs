//! A CronJob that saves snapshots, and Jobs that restore one.

use serde_json::{Value, json};

use super::Setting;
use super::member::{DATA, MEMBERS};
use super::stateful::{CLIENT_URL, anti_affinity, labels, security};

const TLS: &str = "/etc/etcd/tls";

/// Saved under another name first, so that no half snapshot is ever taken for a whole one. `migrate
/// status` reads the file again and fails if its checksum is wrong; `etcdutl snapshot status`
/// prints a table even of half a file.
const SAVE: &str = "set -o errexit
name=snapshot-$(date -u +%Y%m%dT%H%M%SZ).db
etcdctl snapshot save /backup/partial
migrate status --snapshot /backup/partial
mv /backup/partial /backup/$name
ls -1 /backup/snapshot-*.db | sort -r | tail -n +49 | xargs -r rm --
";

/// Restores only if `migrate status` says that no server has the data open. The old data is not
/// touched before the snapshot has been restored beside it, in a directory that is named after it:
/// a Job that was interrupted goes on there. `migrate` refuses a volume without `member` that holds
/// such a directory, so no member starts in the middle.
const RESTORE: &str = "set -o errexit
cd /var/lib/etcd
if [ -e member ]; then
  status=$(migrate status --json --data-dir /var/lib/etcd) || status=
  case $status in
    *'\"isServed\":true'*)
      echo 'first: kubectl scale statefulset etcd --replicas=0'
      exit 1 ;;
    *'\"isServed\":false'* | *'\"data\":null'*) ;;
    *)
      echo 'migrate status does not say whether a server has the data open'
      echo 'when none has: move /var/lib/etcd/member away, and create this Job again'
      exit 1 ;;
  esac
fi
newest=$(ls -1 /backup/snapshot-*.db | sort -r | head -n 1)
if [ -z \"$newest\" ]; then echo 'there is no snapshot'; exit 1; fi
restored=${newest##*/}
restored=restored-${restored%.db}
migrate restore --restore-only --snapshot $newest --data-dir /var/lib/etcd/$restored \\
  --bump-revision 1000000000
kept=before-restore-$(date -u +%Y%m%dT%H%M%SZ)
for name in member version.txt .migrate; do
  if [ -e $name ]; then mkdir -p $kept; mv $name $kept/; fi
done
mv $restored/member member
if [ -e $restored/version.txt ]; then mv $restored/version.txt .; fi
rm -rf restored-snapshot-*
echo \"restored $newest\"
";

pub(super) fn backup(setting: &Setting) -> Vec<Value> {
    let environment = super::environment(&[
        // A snapshot is taken from one member: whichever is ready.
        ("ETCDCTL_ENDPOINTS", CLIENT_URL.to_owned()),
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
            // Volumes of members are each on a node of their own, and a restore reads it on all.
            "accessModes": ["ReadWriteMany"],
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
        let environment = super::environment(&[
            ("TARGET_VERSION", setting.target.to_string()),
            ("TARGET_STORAGE", "etcd3".to_owned()),
            ("ETCD_NAME", name.to_owned()),
            ("INITIAL_CLUSTER", all.clone()),
            ("INITIAL_ADVERTISE_PEER_URLS", format!("https://{name}.etcd:2380")),
        ]);
        let mut pod = pod(
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
        // Its volume may be mounted twice on one node: a Job must not meet a member there.
        pod["spec"]["affinity"] = anti_affinity();
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
