//! Containers from the pods of a Kubernetes manifest, as a kubelet makes them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::container::{Container, RootFilesystem};
use super::error::CaseError;

/// Makes containers from a manifest, as a kubelet does: command, arguments, environment,
/// volumes, user and root.
#[derive(Clone, Debug)]
pub struct Kubelet {
    /// Folders by the name of their claim or secret.
    pub volumes: BTreeMap<String, PathBuf>,
    /// The file for /etc/hosts, with the names of pods and services.
    pub hosts: PathBuf,
}

/// A pod of a manifest.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    pub name: &'a str,
    /// The address of this pod. All pods share one network here, and each gets its own address in
    /// it.
    pub address: &'a str,
    pub spec: &'a Value,
}

impl Kubelet {
    pub fn init_containers(&self, pod: Template<'_>) -> Result<Vec<Container>, CaseError> {
        self.all(pod, &pod.spec["initContainers"])
    }

    pub fn containers(&self, pod: Template<'_>) -> Result<Vec<Container>, CaseError> {
        self.all(pod, &pod.spec["containers"])
    }

    fn all(&self, pod: Template<'_>, containers: &Value) -> Result<Vec<Container>, CaseError> {
        list(containers).map(|container| self.one(pod, container)).collect()
    }

    fn one(&self, pod: Template<'_>, spec: &Value) -> Result<Container, CaseError> {
        let environment = environment(pod, &spec["env"])?;
        let words = list(&spec["command"]).chain(list(&spec["args"]));
        let words = words.map(|word| Ok(at_address(pod, &expanded(text(word)?, &environment))));
        let mut container = Container::new(words.collect::<Result<Vec<_>, CaseError>>()?);
        container.environment = environment;
        container = container.volume(&self.hosts, "/etc/hosts");
        for mount in list(&spec["volumeMounts"]) {
            let folder = self.folder(pod, text(&mount["name"])?)?;
            container = container.volume(folder, text(&mount["mountPath"])?);
        }
        container.user = user(&pod.spec["securityContext"]);
        if spec["securityContext"]["readOnlyRootFilesystem"] == true {
            container.root = RootFilesystem::ReadOnly;
        }
        Ok(container)
    }

    /// The folder of a pod's volume. A volume that the pod does not define comes from a claim
    /// template of the StatefulSet, and is named after both.
    fn folder(&self, pod: Template<'_>, name: &str) -> Result<&PathBuf, CaseError> {
        let volume = list(&pod.spec["volumes"]).find(|volume| volume["name"] == name);
        let source = match volume {
            Some(volume) => volume["persistentVolumeClaim"]["claimName"]
                .as_str()
                .or_else(|| volume["secret"]["secretName"].as_str())
                .unwrap_or_default()
                .to_owned(),
            None => format!("{name}-{}", pod.name),
        };
        let missing =
            || CaseError::failed(format_args!("no claim and no secret is called `{source}`"));
        self.volumes.get(&source).ok_or_else(missing)
    }
}

fn environment(
    pod: Template<'_>,
    variables: &Value,
) -> Result<BTreeMap<String, String>, CaseError> {
    let mut known = BTreeMap::new();
    for variable in list(variables) {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => pod.name.to_owned(),
            Some(other) => {
                return Err(CaseError::failed(format_args!(
                    "this test cannot provide the field {other}"
                )));
            }
            None => at_address(pod, &expanded(text(&variable["value"])?, &known)),
        };
        known.insert(text(&variable["name"])?.to_owned(), value);
    }
    Ok(known)
}

/// `$(NAME)` becomes the variable's value; other text is not changed, so that shells can use `$`.
fn expanded(text: &str, known: &BTreeMap<String, String>) -> String {
    let replace = |text: String, (name, value): (&String, &String)| {
        text.replace(&format!("$({name})"), value)
    };
    known.iter().fold(text.to_owned(), replace)
}

fn at_address(pod: Template<'_>, text: &str) -> String {
    text.replace("0.0.0.0", pod.address)
}

fn user(security: &Value) -> Option<(u32, u32)> {
    let number = |name: &str| security[name].as_u64().and_then(|id| u32::try_from(id).ok());
    let user = number("runAsUser")?;
    Some((user, number("fsGroup").unwrap_or(user)))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Result<&str, CaseError> {
    value
        .as_str()
        .ok_or_else(|| CaseError::failed(format_args!("the manifest has {value} for a text")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_is_what_the_manifest_says() {
        let spec = json!({
            "securityContext": { "runAsUser": 7 },
            "volumes": [{ "name": "tls", "secret": { "secretName": "etcd-tls" } }],
            "containers": [{
                "command": ["/bin/sh", "-c"],
                "args": ["echo $(POD_NAME) $(date) 0.0.0.0"],
                "env": [
                    { "name": "POD_NAME",
                      "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                    { "name": "URL", "value": "https://$(POD_NAME).etcd" },
                ],
                "securityContext": { "readOnlyRootFilesystem": true },
                "volumeMounts": [
                    { "name": "tls", "mountPath": "/tls" },
                    { "name": "data", "mountPath": "/data" },
                ],
            }],
        });
        let volumes = [("etcd-tls", "/one"), ("data-etcd-1", "/two")];
        let volumes = volumes.map(|(name, path)| (name.to_owned(), path.into())).into();
        let kubelet = Kubelet { volumes, hosts: "/hosts".into() };
        let pod = Template { name: "etcd-1", address: "127.0.0.2", spec: &spec };
        let container = kubelet.containers(pod).unwrap().remove(0);
        assert_eq!(
            container.line(),
            "POD_NAME=etcd-1 URL=https://etcd-1.etcd /bin/sh -c echo etcd-1 $(date) 127.0.0.2"
        );
        let volumes: Vec<_> = container.volumes.iter().map(|it| (&it.host, &it.at)).collect();
        insta::assert_snapshot!(
            format!("{volumes:?} {:?} {:?}", container.user, container.root),
            @r#"[("/hosts", "/etc/hosts"), ("/one", "/tls"), ("/two", "/data")] Some((7, 7)) ReadOnly"#
        );
        let other = Template { name: "etcd-2", ..pod };
        assert!(matches!(kubelet.containers(other), Err(CaseError::Failed(it))
            if it.what == "no claim and no secret is called `data-etcd-2`"));
    }
}
