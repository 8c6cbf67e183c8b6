//! How an API server is configured for each kind of cluster: for kubeadm as an external etcd, for
//! others as flags.

use serde_json::{Value, json};

use super::member::{MEMBERS, MemberSettings};
use super::stateful::CLIENT_URL;

const PKI: &str = "/etc/kubernetes/pki";

/// The one on its own node.
pub(super) fn of_single() -> Value {
    kubeadm(&[MemberSettings::single().advertise_client], false)
}

/// Those on control plane nodes; each API server knows all of them.
pub(super) fn of_three() -> Value {
    let members: Vec<_> = (0..MEMBERS.len()).map(MemberSettings::on_node).collect();
    kubeadm(&members.into_iter().map(|it| it.advertise_client).collect::<Vec<_>>(), true)
}

/// The StatefulSet, which listens on no node: through its service.
pub(super) fn of_stateful_set() -> Value {
    kubeadm(&[CLIENT_URL.to_owned()], true)
}

fn kubeadm(endpoints: &[String], is_secure: bool) -> Value {
    let mut external = json!({ "endpoints": endpoints });
    if is_secure {
        external["caFile"] = json!(format!("{PKI}/etcd/ca.crt"));
        external["certFile"] = json!(format!("{PKI}/apiserver-etcd-client.crt"));
        external["keyFile"] = json!(format!("{PKI}/apiserver-etcd-client.key"));
    }
    json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "etcd": { "external": external },
    })
}

/// The same as flags of `kube-apiserver`.
pub(super) fn flags(kubeadm: &Value) -> Vec<String> {
    let external = &kubeadm["etcd"]["external"];
    let endpoints = external["endpoints"].as_array().into_iter().flatten();
    let endpoints: Vec<_> = endpoints.filter_map(Value::as_str).collect();
    let files = [("cafile", "caFile"), ("certfile", "certFile"), ("keyfile", "keyFile")];
    let files = files.into_iter().filter_map(|(flag, field)| {
        external[field].as_str().map(|path| format!("--etcd-{flag}={path}"))
    });
    std::iter::once(format!("--etcd-servers={}", endpoints.join(","))).chain(files).collect()
}
