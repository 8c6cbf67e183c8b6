//! Kubernetes manifests that run the image, all from one source, so that versions, flags, ports
//! and paths agree. `manifests/` holds what this makes for the committed catalog.
//!
//! Pure: a `Setting` in, files out. Not responsible for applying them.

mod api_server;
mod backup;
mod member;
mod operator;
mod stateful;
mod static_pod;

use std::str::FromStr;

use etcd_version::EtcdVersion;
use serde_json::{Value, json};

/// What differs from one release to the next.
#[derive(Clone, Debug)]
pub struct Setting {
    /// `registry.example.com/etcd:3.7.1-0`
    pub image: String,
    /// What the data is migrated to.
    pub target: EtcdVersion,
}

/// What can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ManifestKind {
    StaticPod,
    StaticPodShell,
    StaticPodHa,
    StaticPodShellHa,
    StatefulSet,
    Backup,
    Restore,
    ApiServer,
    OperatorCluster,
    OperatorBackup,
    OperatorRestore,
}

impl ManifestKind {
    pub const ALL: [Self; 11] = [
        Self::StaticPod,
        Self::StaticPodShell,
        Self::StaticPodHa,
        Self::StaticPodShellHa,
        Self::StatefulSet,
        Self::Backup,
        Self::Restore,
        Self::ApiServer,
        Self::OperatorCluster,
        Self::OperatorBackup,
        Self::OperatorRestore,
    ];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::StaticPod => "static-pod",
            Self::StaticPodShell => "static-pod-shell",
            Self::StaticPodHa => "static-pod-ha",
            Self::StaticPodShellHa => "static-pod-shell-ha",
            Self::StatefulSet => "stateful-set",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::ApiServer => "api-server",
            Self::OperatorCluster => "operator-cluster",
            Self::OperatorBackup => "operator-backup",
            Self::OperatorRestore => "operator-restore",
        }
    }

    /// What it is, in one sentence.
    pub fn summary(self) -> &'static str {
        match self {
            Self::StaticPod => {
                "One member as a static pod of the kubelet, migrate as its init container"
            }
            Self::StaticPodShell => {
                "The same in the form of the old manifests: a shell runs migrate, then etcd"
            }
            Self::StaticPodHa => "Three static pods with TLS, one for each control plane node",
            Self::StaticPodShellHa => "The same three in the form of the old manifests",
            Self::StatefulSet => {
                "Three members with services, a disruption budget and anti-affinity"
            }
            Self::Backup => "A snapshot every hour",
            Self::Restore => "Jobs that restore a snapshot into the volumes of the StatefulSet",
            Self::ApiServer => {
                "Settings of the API server for each kind of cluster: for kubeadm, and as flags"
            }
            Self::OperatorCluster => "A cluster of the etcd operator that takes an image",
            Self::OperatorBackup => "A backup by that operator",
            Self::OperatorRestore => "A restore by that operator, which deletes the cluster first",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::StaticPod => {
                "A single member as a static pod of the kubelet. A failed migration stops the start."
            }
            Self::StaticPodShell => {
                "A single member in the form of the old manifests, for those who keep it. It differs in one thing:\n\
                 a failed migration stops the start, where the old one went on regardless."
            }
            Self::StaticPodHa => {
                "One of three members, each a static pod on a control plane node of its own.\n\
                 Certificates are read from /etc/kubernetes/pki/etcd, as kubeadm lays them out.\n\
                 Upgrade node by node, one minor version at a time."
            }
            Self::StaticPodShellHa => {
                "One of three members, in the form of the old manifests: a shell runs migrate, then\n\
                 etcd. A failed migration stops the start, where the old one went on regardless."
            }
            Self::StatefulSet => {
                "Three members. Certificates come from the secret `etcd-tls`: ca.crt, server.crt,\n\
                 server.key, peer.crt, peer.key, client.crt, client.key; those of server and peer are for\n\
                 etcd-0.etcd, etcd-1.etcd and etcd-2.etcd, that of server for etcd-client too.\n\
                 Upgrade one minor version at a time: a rolling update then needs no downtime."
            }
            Self::Backup => {
                "A snapshot every hour onto the claim `etcd-backup`; the last 48 stay.\n\
                 The claim is ReadWriteMany, because restore.yaml reads it on three nodes at once: its\n\
                 storage class must be one of a network, such as NFS or CephFS."
            }
            Self::Restore => {
                "Restores the newest snapshot of the claim `etcd-backup` into the volumes of all three\n\
                 members. What is there now is kept beside it, as before-restore-<time>.\n\
                 \u{20} kubectl scale statefulset etcd --replicas=0\n\
                 \u{20} kubectl create -f restore.yaml\n\
                 \u{20} kubectl wait --for=condition=complete --timeout=1h job/restore-etcd-{0,1,2}\n\
                 \u{20} kubectl delete -f restore.yaml\n\
                 \u{20} kubectl scale statefulset etcd --replicas=3\n\
                 Each Job runs on the node that its member's volume is on, and reads the backups through\n\
                 the network. While members run, the Jobs wait: they share no node with one.\n\
                 The snapshot may be of an older etcd: when the members start, all at the same time, their\n\
                 init containers take the data to TARGET_VERSION. Revisions rise by 1000000000, and clients\n\
                 that watched are told to list again."
            }
            Self::ApiServer => {
                "For `kubeadm init --config`: an etcd that kubeadm does not run itself."
            }
            Self::OperatorCluster => {
                "A cluster of the etcd operator that takes an image (etcd.database.coreos.com).\n\
                 It asks for the tag `v<version>`, so push the image with `--tag v<version>` too.\n\
                 Before an upgrade: operator-backup.yaml. One minor up is compatible: change `version` in\n\
                 place. Anything else is not: see operator-restore.yaml."
            }
            Self::OperatorBackup => {
                "A backup by the etcd operator, to be made before every upgrade of a cluster or of the\n\
                 operator. It is done once `status.succeeded` is true; each needs a `path` of its own."
            }
            Self::OperatorRestore => {
                "APPLYING THIS DELETES THE CLUSTER `etcd` AND ALL ITS DATA: the operator makes a new one of\n\
                 that name and specification from the backup. Only for an upgrade that is not compatible\n\
                 and for a cluster that is lost; check first that the backup in `path` is there."
            }
        }
    }
}

/// A name that no kind has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind `{0}`")]
pub struct UnknownKind(String);

impl FromStr for ManifestKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// A file of `manifests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub text: String,
    pub documents: Vec<Value>,
}

/// The files of one kind: static pods of several nodes are several.
pub fn files(kind: ManifestKind, setting: &Setting) -> Vec<File> {
    let named: Vec<(String, Vec<Value>)> = match kind {
        ManifestKind::StaticPod => {
            vec![("static-pod.yaml".into(), vec![static_pod::single(setting)])]
        }
        ManifestKind::StaticPodShell => {
            vec![("static-pod-shell.yaml".into(), vec![static_pod::shell(setting)])]
        }
        ManifestKind::StaticPodHa => (0..member::MEMBERS.len())
            .map(|i| {
                (format!("static-pod-ha-{i}.yaml"), vec![static_pod::one_of_three(setting, i)])
            })
            .collect(),
        ManifestKind::StaticPodShellHa => (0..member::MEMBERS.len())
            .map(|i| {
                let pod = static_pod::shell_of_three(setting, i);
                (format!("static-pod-shell-ha-{i}.yaml"), vec![pod])
            })
            .collect(),
        ManifestKind::StatefulSet => {
            vec![("statefulset.yaml".into(), stateful::documents(setting))]
        }
        ManifestKind::Backup => vec![("backup.yaml".into(), backup::backup(setting))],
        ManifestKind::Restore => vec![("restore.yaml".into(), backup::restore(setting))],
        ManifestKind::ApiServer => vec![
            ("kubeadm-static-pod.yaml".into(), vec![api_server::of_single()]),
            ("kubeadm-static-pod-ha.yaml".into(), vec![api_server::of_three()]),
            ("kubeadm-statefulset.yaml".into(), vec![api_server::of_stateful_set()]),
        ],
        ManifestKind::OperatorCluster => {
            vec![("operator-cluster.yaml".into(), vec![operator::cluster(setting)])]
        }
        ManifestKind::OperatorBackup => {
            vec![("operator-backup.yaml".into(), vec![operator::backup()])]
        }
        ManifestKind::OperatorRestore => {
            vec![("operator-restore.yaml".into(), vec![operator::restore()])]
        }
    };
    named.into_iter().map(|(name, documents)| file(kind, name, documents)).collect()
}

fn file(kind: ManifestKind, name: String, documents: Vec<Value>) -> File {
    let mut says = kind.says().to_owned();
    if kind == ManifestKind::ApiServer {
        let flags = api_server::flags(&documents[0]).join("\n  ");
        says = format!("{says}\nWithout kubeadm, flags of kube-apiserver:\n  {flags}");
    }
    let says = format!("# {}\n", says.replace('\n', "\n# "));
    let yaml = documents.iter().map(yaml).collect::<Vec<_>>().join("---\n");
    let text = format!(
        "{says}# Made by `etcdimg manifests`; change crates/kube-manifests instead.\n{yaml}"
    );
    File { name, text, documents }
}

fn yaml(document: &Value) -> String {
    let text = serde_yaml::to_string(document).expect("JSON values are YAML");
    format!("{}\n", text.trim_end())
}

/// `{"name": …, "value": …}`, as containers want their environment.
fn environment(pairs: &[(&str, String)]) -> Value {
    let pairs = pairs.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    Value::Array(pairs.collect())
}
