//! manifests/ is what the generator makes, and what Kubernetes understands.

use std::fs;
use std::process::Command;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use etcdimg::manifests::{ManifestKind, Setting, files};

pub fn setting(version: &str) -> Setting {
    Setting {
        image: format!("registry.example.com/etcd:{version}-0"),
        target: version.parse().unwrap(),
    }
}

#[test]
fn the_folder_holds_what_the_generator_makes() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_etcdimg"))
        .args(["manifests", "--out", folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |path: &str| {
        let mut files: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), fs::read_to_string(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    };
    let (committed, made) = (read("manifests"), read(folder.path().to_str().unwrap()));
    assert_eq!(committed, made, "`etcdimg manifests --out manifests` writes them again");
}

/// Reads a document as its Kubernetes type; whatever the type does not know is missing afterwards.
fn is_understood<T: DeserializeOwned + Serialize>(document: &Value) {
    let typed: T = serde_json::from_value(document.clone()).unwrap();
    let again = serde_json::to_value(&typed).unwrap();
    contains(&again, document, "");
}

#[track_caller]
fn contains(known: &Value, document: &Value, path: &str) {
    match (known, document) {
        (Value::Object(known), Value::Object(document)) => {
            for (name, value) in document {
                let inner = known.get(name);
                assert!(inner.is_some(), "Kubernetes knows no {path}/{name}");
                contains(inner.unwrap(), value, &format!("{path}/{name}"));
            }
        }
        (Value::Array(known), Value::Array(document)) => {
            assert_eq!(known.len(), document.len(), "{path}");
            for (index, (known, value)) in known.iter().zip(document).enumerate() {
                contains(known, value, &format!("{path}/{index}"));
            }
        }
        (known, document) => assert_eq!(known, document, "{path}"),
    }
}

#[test]
fn kubernetes_understands_every_field() {
    let mut documents = 0;
    for file in ManifestKind::ALL.iter().flat_map(|kind| files(*kind, &setting("3.7.1"))) {
        for document in &file.documents {
            documents += 1;
            match document["kind"].as_str().unwrap() {
                "Pod" => is_understood::<Pod>(document),
                "Service" => is_understood::<Service>(document),
                "StatefulSet" => is_understood::<StatefulSet>(document),
                "PodDisruptionBudget" => is_understood::<PodDisruptionBudget>(document),
                "CronJob" => is_understood::<CronJob>(document),
                "Job" => is_understood::<Job>(document),
                "PersistentVolumeClaim" => is_understood::<PersistentVolumeClaim>(document),
                // Types of kubeadm and of the operator, which Kubernetes itself does not have.
                "ClusterConfiguration" => is_understood::<types::Kubeadm>(document),
                "EtcdCluster" => is_understood::<types::Custom<types::EtcdClusterSpec>>(document),
                "EtcdBackup" => is_understood::<types::Custom<types::EtcdBackupSpec>>(document),
                "EtcdRestore" => is_understood::<types::Custom<types::EtcdRestoreSpec>>(document),
                other => panic!("{other}"),
            }
        }
    }
    assert_eq!(documents, 23);
}

#[test]
#[should_panic(expected = "Kubernetes knows no /spec/hostNetwrok")]
fn a_field_that_does_not_exist_is_noticed() {
    let mut pod = files(ManifestKind::StaticPod, &setting("3.7.1"))[0].documents[0].clone();
    pod["spec"]["hostNetwrok"] = serde_json::json!(true);
    is_understood::<Pod>(&pod);
}

#[test]
fn probes_ask_what_the_version_answers() {
    let path = |version: &str| {
        let pod = &files(ManifestKind::StaticPod, &setting(version))[0].documents[0];
        let probe = |name: &str| {
            pod["spec"]["containers"][0][name]["httpGet"]["path"].as_str().unwrap().to_owned()
        };
        (probe("livenessProbe"), probe("readinessProbe"))
    };
    let split = ("/livez".to_owned(), "/readyz".to_owned());
    let health = ("/health".to_owned(), "/health".to_owned());
    assert_eq!(path("3.4.28"), health);
    assert_eq!(path("3.4.29"), split);
    assert_eq!(path("3.5.10"), health);
    assert_eq!(path("3.5.11"), split);
    assert_eq!(path("3.6.0"), split);
}

#[test]
fn the_yaml_says_what_the_documents_say() {
    for file in ManifestKind::ALL.iter().flat_map(|kind| files(*kind, &setting("3.6.14"))) {
        let parsed: Vec<Value> =
            file.text.split("---\n").map(|text| serde_yaml::from_str(text).unwrap()).collect();
        assert_eq!(parsed, file.documents, "{}", file.name);
    }
}

/// Types that are no part of Kubernetes, with the fields that we may use.
mod types {
    use serde::{Deserialize, Serialize};

    /// `kubeadm.k8s.io/v1beta4`
    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct Kubeadm {
        api_version: String,
        kind: String,
        etcd: KubeadmEtcd,
    }

    #[derive(Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct KubeadmEtcd {
        external: External,
    }

    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct External {
        endpoints: Vec<String>,
        ca_file: Option<String>,
        cert_file: Option<String>,
        key_file: Option<String>,
    }

    /// `etcd.database.coreos.com/v1beta2`
    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct Custom<T> {
        api_version: String,
        kind: String,
        metadata: Named,
        spec: T,
    }

    #[derive(Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        name: String,
    }

    #[derive(Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct EtcdClusterSpec {
        size: u8,
        repository: String,
        version: String,
    }

    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct EtcdBackupSpec {
        etcd_endpoints: Vec<String>,
        storage_type: String,
        s3: S3Location,
    }

    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct EtcdRestoreSpec {
        etcd_cluster: Named,
        backup_storage_type: String,
        s3: S3Location,
    }

    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct S3Location {
        path: String,
        aws_secret: String,
    }
}

pub fn documents(kind: ManifestKind, of: &str) -> Vec<Value> {
    let files = files(kind, &setting("3.7.1")).into_iter();
    files.flat_map(|file| file.documents).filter(|document| document["kind"] == of).collect()
}

#[test]
fn nobody_restores_by_applying_something_else() {
    for file in ManifestKind::ALL.iter().flat_map(|kind| files(*kind, &setting("3.7.1"))) {
        let is_restore = |document: &Value| {
            document["kind"] == "EtcdRestore"
                || (document["kind"] == "Job"
                    && document["metadata"]["name"].as_str().unwrap().starts_with("restore"))
        };
        let restores = file.documents.iter().filter(|it| is_restore(it)).count();
        assert_eq!(restores > 0, file.name.contains("restore"), "{}", file.name);
        assert!(restores == 0 || restores == file.documents.len(), "{}", file.name);
    }
    let restore = &files(ManifestKind::OperatorRestore, &setting("3.7.1"))[0];
    assert!(restore.text.starts_with("# APPLYING THIS DELETES THE CLUSTER `etcd`"));
    // Nor by printing everything.
    let everything = Command::new(env!("CARGO_BIN_EXE_etcdimg")).arg("manifests").output().unwrap();
    assert_eq!(everything.status.code(), Some(2));
}

/// Claims that a pod mounts.
fn claims(pod: &Value) -> Vec<&str> {
    let volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
    volumes.filter_map(|it| it["persistentVolumeClaim"]["claimName"].as_str()).collect()
}

#[test]
fn a_restore_runs_wherever_the_volumes_are() {
    let jobs = documents(ManifestKind::Restore, "Job");
    let claim = documents(ManifestKind::Backup, "PersistentVolumeClaim").remove(0);
    let set = documents(ManifestKind::StatefulSet, "StatefulSet").remove(0);
    let (mut own, mut shared) = (Vec::new(), Vec::new());
    for job in &jobs {
        let claims = claims(&job["spec"]["template"]);
        let (data, others): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|name| name.starts_with("data-etcd-"));
        own.extend(data);
        shared.push(others);
        // Two pods of one node may mount a volume that is ReadWriteOnce.
        let affinity = &job["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
        let apart = &affinity["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(apart["topologyKey"], "kubernetes.io/hostname");
        assert_eq!(
            apart["labelSelector"]["matchLabels"],
            set["spec"]["template"]["metadata"]["labels"]
        );
    }
    // A volume of a member is on one node, and is mounted there alone; all of them read the other.
    assert_eq!(own, ["data-etcd-0", "data-etcd-1", "data-etcd-2"]);
    assert_eq!(shared, [["etcd-backup"]; 3]);
    assert_eq!(claim["metadata"]["name"], "etcd-backup");
    assert_eq!(claim["spec"]["accessModes"], serde_json::json!(["ReadWriteMany"]));
}

/// Where the pods of a kind say that they are served.
fn advertised(kind: ManifestKind) -> String {
    let flags = files(kind, &setting("3.7.1"))
        .into_iter()
        .flat_map(|file| file.documents)
        .flat_map(|pod| pod["spec"]["containers"][0]["command"].as_array().unwrap().clone())
        .map(|word| word.as_str().unwrap().to_owned());
    let words = flags.flat_map(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let urls =
        words.filter_map(|it| it.strip_prefix("--advertise-client-urls=").map(str::to_owned));
    urls.collect::<Vec<_>>().join(",")
}

#[test]
fn an_api_server_is_told_where_the_members_are() {
    let service = documents(ManifestKind::StatefulSet, "Service").into_iter().find(|it| {
        // What has an address of its own, at which only members that are ready answer.
        it["spec"]["clusterIP"].is_null()
    });
    let service = service.unwrap();
    let of_service = format!(
        "https://{}:{}",
        service["metadata"]["name"].as_str().unwrap(),
        service["spec"]["ports"][0]["port"]
    );
    let [single, three, set] = &files(ManifestKind::ApiServer, &setting("3.7.1"))[..] else {
        panic!()
    };
    for (file, name, expected) in [
        (single, "kubeadm-static-pod.yaml", advertised(ManifestKind::StaticPod)),
        (single, "kubeadm-static-pod.yaml", advertised(ManifestKind::StaticPodShell)),
        (three, "kubeadm-static-pod-ha.yaml", advertised(ManifestKind::StaticPodHa)),
        (three, "kubeadm-static-pod-ha.yaml", advertised(ManifestKind::StaticPodShellHa)),
        (set, "kubeadm-statefulset.yaml", of_service),
    ] {
        assert_eq!(file.name, name);
        let external = &file.documents[0]["etcd"]["external"];
        let endpoints = external["endpoints"].as_array().unwrap().iter();
        let endpoints: Vec<_> = endpoints.map(|it| it.as_str().unwrap()).collect();
        assert_eq!(endpoints.join(","), expected, "{name}");
        let flags: Vec<_> =
            file.text.lines().filter_map(|line| line.strip_prefix("#   --etcd-")).collect();
        assert_eq!(flags[0], format!("servers={expected}"));
        // A certificate authority, a certificate and a key, or none of them.
        let is_secure = expected.starts_with("https");
        assert_eq!(flags.len(), if is_secure { 4 } else { 1 });
        assert_eq!(external["certFile"].is_string(), is_secure);
    }
}
