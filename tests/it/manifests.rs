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

use etcdimg::manifests::{Kind, Setting, files};

fn setting(version: &str) -> Setting {
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
    assert_eq!(committed, made, "`etcdimg manifests --out manifests` brings them up to date");
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
    for file in Kind::ALL.iter().flat_map(|kind| files(*kind, &setting("3.7.1"))) {
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
                "ClusterConfiguration" | "EtcdCluster" | "EtcdBackup" | "EtcdRestore" => {}
                other => panic!("{other}"),
            }
        }
    }
    assert!(documents >= 15, "{documents}");
}

#[test]
#[should_panic(expected = "Kubernetes knows no /spec/hostNetwrok")]
fn a_field_that_does_not_exist_is_noticed() {
    let mut pod = files(Kind::StaticPod, &setting("3.7.1"))[0].documents[0].clone();
    pod["spec"]["hostNetwrok"] = serde_json::json!(true);
    is_understood::<Pod>(&pod);
}

#[test]
fn probes_ask_what_the_version_answers() {
    let path = |version: &str| {
        let pod = &files(Kind::StaticPod, &setting(version))[0].documents[0];
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
    for file in Kind::ALL.iter().flat_map(|kind| files(*kind, &setting("3.6.14"))) {
        let parsed: Vec<Value> =
            file.text.split("---\n").map(|text| serde_yaml::from_str(text).unwrap()).collect();
        assert_eq!(parsed, file.documents, "{}", file.name);
    }
}
