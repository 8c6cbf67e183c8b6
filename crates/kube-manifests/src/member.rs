//! What every manifest says of a member: names, addresses, flags, probes.

use serde_json::{Value, json};

use crate::{Setting, environment};

/// Name and address of each member on a node of its own.
pub(super) const MEMBERS: [(&str, &str); 3] =
    [("etcd-0", "10.0.0.10"), ("etcd-1", "10.0.0.11"), ("etcd-2", "10.0.0.12")];

pub(super) const DATA: &str = "/var/lib/etcd";
const METRICS_PORT: u16 = 2381;

/// Where a member listens and what it is called.
pub(super) struct MemberSettings {
    pub name: String,
    pub listen_client: String,
    pub advertise_client: String,
    pub listen_peer: String,
    pub advertise_peer: String,
    pub initial_cluster: String,
    /// Where the probes of the kubelet find it.
    pub metrics_host: &'static str,
    /// The folder of the certificates, if there are any.
    pub tls: Option<&'static str>,
}

impl MemberSettings {
    /// The only one.
    pub fn single() -> Self {
        let peer = "http://127.0.0.1:2380".to_owned();
        Self {
            name: "etcd-0".to_owned(),
            listen_client: "http://127.0.0.1:2379".to_owned(),
            advertise_client: "http://127.0.0.1:2379".to_owned(),
            initial_cluster: format!("etcd-0={peer}"),
            listen_peer: peer.clone(),
            advertise_peer: peer,
            metrics_host: "127.0.0.1",
            tls: None,
        }
    }

    /// One of those on nodes.
    pub fn on_node(index: usize) -> Self {
        let (name, address) = MEMBERS[index];
        let all = MEMBERS.map(|(name, address)| format!("{name}=https://{address}:2380"));
        Self {
            name: name.to_owned(),
            listen_client: format!("https://127.0.0.1:2379,https://{address}:2379"),
            advertise_client: format!("https://{address}:2379"),
            listen_peer: format!("https://{address}:2380"),
            advertise_peer: format!("https://{address}:2380"),
            initial_cluster: all.join(","),
            metrics_host: "127.0.0.1",
            tls: Some("/etc/kubernetes/pki/etcd"),
        }
    }

    /// One of the StatefulSet's, by the name that Kubernetes gives it.
    pub fn stateful() -> Self {
        let all = MEMBERS.map(|(name, _)| format!("{name}=https://{name}.etcd:2380"));
        Self {
            name: "$(POD_NAME)".to_owned(),
            listen_client: "https://0.0.0.0:2379".to_owned(),
            advertise_client: "https://$(POD_NAME).etcd:2379".to_owned(),
            listen_peer: "https://0.0.0.0:2380".to_owned(),
            advertise_peer: "https://$(POD_NAME).etcd:2380".to_owned(),
            initial_cluster: all.join(","),
            metrics_host: "0.0.0.0",
            tls: Some("/etc/etcd/tls"),
        }
    }

    pub fn server_flags(&self) -> Vec<String> {
        let metrics = format!("http://{}:{METRICS_PORT}", self.metrics_host);
        let mut flags = vec![
            format!("--name={}", self.name),
            format!("--data-dir={DATA}"),
            format!("--listen-client-urls={}", self.listen_client),
            format!("--advertise-client-urls={}", self.advertise_client),
            format!("--listen-peer-urls={}", self.listen_peer),
            format!("--initial-advertise-peer-urls={}", self.advertise_peer),
            format!("--initial-cluster={}", self.initial_cluster),
            format!("--listen-metrics-urls={metrics}"),
            "--snapshot-count=10000".to_owned(),
        ];
        if let Some(tls) = self.tls {
            flags.extend([
                format!("--cert-file={tls}/server.crt"),
                format!("--key-file={tls}/server.key"),
                format!("--trusted-ca-file={tls}/ca.crt"),
                "--client-cert-auth=true".to_owned(),
            ]);
            flags.extend(peer_flags(tls));
        }
        flags
    }

    pub fn migrate_environment(&self, setting: &Setting) -> Value {
        let mut pairs = vec![
            ("TARGET_VERSION", setting.target.to_string()),
            ("TARGET_STORAGE", "etcd3".to_owned()),
            ("DATA_DIRECTORY", DATA.to_owned()),
            ("ETCD_NAME", self.name.clone()),
            ("INITIAL_CLUSTER", self.initial_cluster.clone()),
            ("LISTEN_PEER_URLS", self.listen_peer.clone()),
            ("INITIAL_ADVERTISE_PEER_URLS", self.advertise_peer.clone()),
            ("DO_NOT_MOVE_BINARIES", "true".to_owned()),
        ];
        if let Some(tls) = self.tls {
            pairs.push(("ETCD_CREDS", peer_flags(tls).join(" ")));
        }
        environment(&pairs)
    }

    /// Asked by the kubelet, without certificates, on the port for metrics.
    pub fn probes(&self, setting: &Setting) -> [(&'static str, Value); 3] {
        let (live, ready) =
            if has_split_probes(setting) { ("/livez", "/readyz") } else { ("/health", "/health") };
        let ask = |path: &str| {
            let mut get = json!({ "path": path, "port": METRICS_PORT });
            if self.metrics_host == "127.0.0.1" {
                get["host"] = json!("127.0.0.1");
            }
            get
        };
        [
            // A member that catches up takes its time: four minutes, as kubeadm gives it.
            (
                "startupProbe",
                json!({ "httpGet": ask(ready), "periodSeconds": 10, "failureThreshold": 24,
                        "timeoutSeconds": 15 }),
            ),
            (
                "livenessProbe",
                json!({ "httpGet": ask(live), "periodSeconds": 10, "failureThreshold": 8,
                        "timeoutSeconds": 15 }),
            ),
            (
                "readinessProbe",
                json!({ "httpGet": ask(ready), "periodSeconds": 5, "failureThreshold": 3,
                        "timeoutSeconds": 15 }),
            ),
        ]
    }
}

/// `/livez` and `/readyz` came with 3.4.29 and 3.5.11 (etcd-io/etcd#16007).
fn has_split_probes(setting: &Setting) -> bool {
    let target = &setting.target;
    let first_patch = match target.minor() {
        ..=3 => return false,
        4 => 29,
        5 => 11,
        _ => 0,
    };
    target.patch() >= first_patch
}

fn peer_flags(tls: &str) -> [String; 4] {
    [
        format!("--peer-cert-file={tls}/peer.crt"),
        format!("--peer-key-file={tls}/peer.key"),
        format!("--peer-trusted-ca-file={tls}/ca.crt"),
        "--peer-client-cert-auth=true".to_owned(),
    ]
}
