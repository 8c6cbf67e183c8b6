//! Three members as a StatefulSet, with services and a disruption budget.

use serde_json::{Value, json};

use super::Setting;
use super::member::{DATA, MEMBERS, MemberSettings};

/// Any member that is ready.
pub(super) const CLIENT_URL: &str = "https://etcd-client:2379";

pub(super) fn labels() -> Value {
    json!({ "app.kubernetes.io/name": "etcd" })
}

pub(super) fn documents(setting: &Setting) -> Vec<Value> {
    vec![service("etcd", true), service("etcd-client", false), budget(), stateful_set(setting)]
}

/// Members must find each other before they are ready.
fn service(name: &str, is_headless: bool) -> Value {
    let port = |name: &str, port: u16| json!({ "name": name, "port": port, "targetPort": port });
    let mut spec = json!({ "selector": labels(), "ports": [port("client", 2379)] });
    if is_headless {
        spec["clusterIP"] = json!("None");
        spec["publishNotReadyAddresses"] = json!(true);
        spec["ports"] = json!([port("client", 2379), port("peer", 2380)]);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "labels": labels() },
        "spec": spec,
    })
}

fn budget() -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": { "name": "etcd", "labels": labels() },
        // Of three, two make a quorum.
        "spec": { "maxUnavailable": 1, "selector": { "matchLabels": labels() } },
    })
}

fn stateful_set(setting: &Setting) -> Value {
    let member = MemberSettings::stateful();
    let tls = member.tls.unwrap_or_default();
    let mounts = json!([
        { "name": "data", "mountPath": DATA },
        { "name": "tls", "mountPath": tls, "readOnly": true },
    ]);
    // Before those that use it: Kubernetes expands `$(POD_NAME)` in order.
    let name = json!({
        "name": "POD_NAME",
        "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } },
    });
    let mut migrate_environment = vec![name.clone()];
    if let Value::Array(pairs) = member.migrate_environment(setting) {
        migrate_environment.extend(pairs);
    }
    let command: Vec<_> =
        std::iter::once("/usr/local/bin/etcd".to_owned()).chain(member.server_flags()).collect();
    let mut etcd = json!({
        "name": "etcd",
        "image": setting.image,
        "command": command,
        "env": [name],
        "ports": [
            { "name": "client", "containerPort": 2379 },
            { "name": "peer", "containerPort": 2380 },
            { "name": "metrics", "containerPort": 2381 },
        ],
        "resources": { "requests": { "cpu": "100m", "memory": "256Mi" } },
        "securityContext": security(),
        "volumeMounts": mounts,
    });
    for (name, probe) in member.probes(setting) {
        etcd[name] = probe;
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": "etcd", "labels": labels() },
        "spec": {
            "serviceName": "etcd",
            "replicas": MEMBERS.len(),
            // A new cluster needs two of three to be ready at all.
            "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": labels() },
            "template": {
                "metadata": { "labels": labels() },
                "spec": {
                    "affinity": anti_affinity(),
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "terminationGracePeriodSeconds": 60,
                    "initContainers": [{
                        "name": "migrate",
                        "image": setting.image,
                        "command": ["/usr/local/bin/migrate"],
                        "env": migrate_environment,
                        "securityContext": security(),
                        "volumeMounts": mounts,
                    }],
                    "containers": [etcd],
                    "volumes": [{ "name": "tls", "secret": { "secretName": "etcd-tls" } }],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": { "name": "data" },
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": { "requests": { "storage": "20Gi" } },
                },
            }],
        },
    })
}

pub(super) fn security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

/// On no node that a member is on.
pub(super) fn anti_affinity() -> Value {
    json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": { "matchLabels": labels() },
    }] } })
}
