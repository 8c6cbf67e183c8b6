//! Members as static pods of the kubelet.

use serde_json::{Value, json};

use super::Setting;
use super::member::{DATA, MemberSettings};

pub(super) fn single(setting: &Setting) -> Value {
    pod(setting, &MemberSettings::single())
}

pub(super) fn one_of_three(setting: &Setting, index: usize) -> Value {
    pod(setting, &MemberSettings::on_node(index))
}

fn pod(setting: &Setting, member: &MemberSettings) -> Value {
    let migrate = json!({
        "name": "migrate",
        "image": setting.image,
        "command": ["/usr/local/bin/migrate"],
        "env": member.migrate_environment(setting),
        "volumeMounts": mounts(member),
    });
    let command: Vec<_> =
        std::iter::once("/usr/local/bin/etcd".to_owned()).chain(member.server_flags()).collect();
    let mut pod = frame(member, &container(setting, member, &json!(command)));
    pod["spec"]["initContainers"] = json!([migrate]);
    pod
}

pub(super) fn shell(setting: &Setting) -> Value {
    shell_pod(setting, &MemberSettings::single())
}

pub(super) fn shell_of_three(setting: &Setting, index: usize) -> Value {
    shell_pod(setting, &MemberSettings::on_node(index))
}

fn shell_pod(setting: &Setting, member: &MemberSettings) -> Value {
    // The environment, which both programs see, names it; etcd refuses to be told twice.
    let flags: Vec<_> =
        member.server_flags().into_iter().filter(|flag| !flag.starts_with("--name=")).collect();
    let script = format!(
        "set -o errexit; if [ -e /usr/local/bin/migrate-if-needed.sh ]; then \
         /usr/local/bin/migrate-if-needed.sh; fi; exec /usr/local/bin/etcd {}",
        flags.join(" ")
    );
    let mut container = container(setting, member, &json!(["/bin/sh", "-c", script]));
    container["env"] = member.migrate_environment(setting);
    frame(member, &container)
}

fn container(setting: &Setting, member: &MemberSettings, command: &Value) -> Value {
    let mut container = json!({
        "name": "etcd",
        "image": setting.image,
        "command": command,
        "resources": { "requests": { "cpu": "100m", "memory": "100Mi" } },
        "volumeMounts": mounts(member),
    });
    for (name, probe) in member.probes(setting) {
        container[name] = probe;
    }
    container
}

fn frame(member: &MemberSettings, container: &Value) -> Value {
    let mut volumes = vec![json!({
        "name": "data",
        "hostPath": { "path": DATA, "type": "DirectoryOrCreate" },
    })];
    if let Some(tls) = member.tls {
        volumes.push(json!({ "name": "tls", "hostPath": { "path": tls, "type": "Directory" } }));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            // The kubelet adds the node's name.
            "name": member.name,
            "namespace": "kube-system",
            "labels": { "component": "etcd", "tier": "control-plane" },
        },
        "spec": {
            "hostNetwork": true,
            "priorityClassName": "system-node-critical",
            "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [container],
            "volumes": volumes,
        },
    })
}

fn mounts(member: &MemberSettings) -> Value {
    let mut mounts = vec![json!({ "name": "data", "mountPath": DATA })];
    if let Some(tls) = member.tls {
        mounts.push(json!({ "name": "tls", "mountPath": tls, "readOnly": true }));
    }
    Value::Array(mounts)
}
