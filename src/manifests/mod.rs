//! Kubernetes manifests that run the image, all from one source, so that versions, flags, ports
//! and paths agree. `manifests/` holds what this makes for the committed catalog.
//!
//! Pure: a `Setting` in, files out. Not responsible for applying them.

mod backup;
mod member;
mod operator;
mod stateful;
mod static_pod;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// One member as a static pod of the kubelet, migrate as its init container
    StaticPod,
    /// The same in the form of the old manifests: a shell runs migrate, then etcd
    StaticPodShell,
    /// Three static pods with TLS, one for each control plane node
    StaticPodHa,
    /// Three members with services, a disruption budget and anti-affinity
    StatefulSet,
    /// A snapshot every hour
    Backup,
    /// Jobs that restore a snapshot into the volumes of the StatefulSet
    Restore,
    /// What kubeadm tells the API server of an etcd outside of it
    ApiServer,
    /// Resources for the etcd operator that takes an image
    Operator,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::StaticPod,
        Self::StaticPodShell,
        Self::StaticPodHa,
        Self::StatefulSet,
        Self::Backup,
        Self::Restore,
        Self::ApiServer,
        Self::Operator,
    ];

    fn says(self) -> &'static str {
        match self {
            Self::StaticPod => {
                "A single member as a static pod of the kubelet. A failed migration stops the start."
            }
            Self::StaticPodShell => {
                "The form of the manifests of old, for those who keep it. It differs in one thing:\n\
                 a failed migration stops the start, where the old one went on regardless."
            }
            Self::StaticPodHa => {
                "One of three members, each a static pod on a control plane node of its own.\n\
                 Certificates are read from /etc/kubernetes/pki/etcd, as kubeadm lays them out.\n\
                 Upgrade node by node, one minor version at a time."
            }
            Self::StatefulSet => {
                "Three members. Certificates come from the secret `etcd-tls`: ca.crt, server.crt,\n\
                 server.key, peer.crt, peer.key, client.crt, client.key.\n\
                 Upgrade one minor version at a time: a rolling update then needs no downtime."
            }
            Self::Backup => "A snapshot every hour onto the claim `etcd-backup`; the last 48 stay.",
            Self::Restore => {
                "Restores the newest snapshot of the claim `etcd-backup` into all three volumes.\n\
                 First: kubectl scale statefulset etcd --replicas=0, and empty the volumes."
            }
            Self::ApiServer => {
                "For `kubeadm init --config`: the API server talks to the members of the\n\
                 StatefulSet or of the static pods, with its own client certificate."
            }
            Self::Operator => {
                "For the etcd operator whose clusters take an image (etcd.database.coreos.com).\n\
                 It asks for the tag `v<version>`, so push the image with `--tag v<version>` too.\n\
                 Back up first; change `version` in place by one minor; restore when that fails."
            }
        }
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
pub fn files(kind: Kind, setting: &Setting) -> Vec<File> {
    let named: Vec<(String, Vec<Value>)> = match kind {
        Kind::StaticPod => vec![("static-pod.yaml".into(), vec![static_pod::single(setting)])],
        Kind::StaticPodShell => {
            vec![("static-pod-shell.yaml".into(), vec![static_pod::shell(setting)])]
        }
        Kind::StaticPodHa => (0..member::MEMBERS.len())
            .map(|i| {
                (format!("static-pod-ha-{i}.yaml"), vec![static_pod::one_of_three(setting, i)])
            })
            .collect(),
        Kind::StatefulSet => vec![("statefulset.yaml".into(), stateful::documents(setting))],
        Kind::Backup => vec![("backup.yaml".into(), backup::backup(setting))],
        Kind::Restore => vec![("restore.yaml".into(), backup::restore(setting))],
        Kind::ApiServer => vec![("kubeadm.yaml".into(), vec![member::kubeadm()])],
        Kind::Operator => vec![("operator.yaml".into(), operator::documents(setting))],
    };
    named.into_iter().map(|(name, documents)| file(kind, name, documents)).collect()
}

fn file(kind: Kind, name: String, documents: Vec<Value>) -> File {
    let says = format!("# {}\n", kind.says().replace('\n', "\n# "));
    let yaml = documents.iter().map(yaml).collect::<Vec<_>>().join("---\n");
    let text =
        format!("{says}# Made by `etcdimg manifests`; change src/manifests instead.\n{yaml}");
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
