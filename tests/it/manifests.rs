//! manifests/ is what the generator makes, and what Kubernetes understands.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use etcdimg::manifests::{ManifestKind, Setting, files};

use crate::stand_in;

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
    assert_eq!(committed, made, "`etcdimg manifests --out manifests` writes them again");
}

/// The script of a restore Job in folders of a test, with a `migrate` that does as a script says for
/// each of its commands.
struct RestoreJob {
    folder: tempfile::TempDir,
    script: String,
}

/// As `migrate restore` leaves it.
const RESTORES: &str = "mkdir -p $place/member && echo new > $place/member/new && \
    echo 3.5.33/etcd3 > $place/version.txt && mkdir -p $place/.migrate";
const IS_STOPPED: &str = r#"echo '{"data":{"auth":false,"isServed":false,"members":[]}}'"#;
const RESTORED: &str = "restored-snapshot-20260101T000000Z";

impl RestoreJob {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["bin", "data/member", "backup"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("data/member/old"), "old").unwrap();
        fs::write(path("data/version.txt"), "3.7.1/etcd3").unwrap();
        for snapshot in ["snapshot-20250101T000000Z.db", "snapshot-20260101T000000Z.db", "partial"]
        {
            fs::write(path("backup").join(snapshot), "snapshot").unwrap();
        }
        let jobs = files(ManifestKind::Restore, &setting("3.7.1"));
        let container = &jobs[0].documents[0]["spec"]["template"]["spec"]["containers"][0];
        let names =
            container["env"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
        for needed in ["TARGET_VERSION", "TARGET_STORAGE", "ETCD_NAME", "INITIAL_CLUSTER"] {
            assert!(names.clone().any(|name| name == needed), "{needed}");
        }
        let script = container["command"][2].as_str().unwrap();
        let script = script
            .replace("/var/lib/etcd", &path("data").display().to_string())
            .replace("/backup/", &format!("{}/", path("backup").display()));
        Self { folder, script }
    }

    /// Whether it succeeded, and what it said.
    fn run(&self, status: &str, restore: &str) -> (bool, String) {
        let (bin, data) = (self.folder.path().join("bin"), self.data());
        let backup = self.folder.path().join("backup/snapshot-20260101T000000Z.db");
        let migrate = format!(
            "#!/bin/sh\nplace={data}/{RESTORED}\ncase $* in\n\
             'status --json --data-dir {data}') {status} ;;\n\
             'restore --restore-only --snapshot {backup} --data-dir '$place' --bump-revision 1000000000') \
             {restore} ;;\n*) echo \"$*\"; exit 9 ;;\nesac\n",
            data = data.display(),
            backup = backup.display()
        );
        // No two runs at the same time of the clock, which has whole seconds.
        for (name, script) in [("migrate", migrate.as_str()), ("date", "#!/bin/sh\necho $$\n")] {
            fs::write(bin.join(name), script).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = stand_in::path_with(&bin);
        let output =
            Command::new("sh").args(["-c", &self.script]).env("PATH", path).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// The names in the volume, without times.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.data()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.split_once("-restore-").map_or(name.clone(), |(it, _)| it.to_owned()))
            .collect();
        names.sort();
        names
    }

    #[track_caller]
    fn is_restored(&self) {
        assert!(
            self.data().join("member/new").exists() && !self.data().join("member/old").exists()
        );
        let version = fs::read_to_string(self.data().join("version.txt")).unwrap();
        assert_eq!(version.trim(), "3.5.33/etcd3");
    }
}

#[test]
fn a_restore_goes_on_only_when_no_server_has_the_data_open() {
    for status in [IS_STOPPED, r#"echo '{"data":null}'"#] {
        let job = RestoreJob::new();
        let (went_on, said) = job.run(status, RESTORES);
        assert!(went_on, "{said}");
        job.is_restored();
        assert_eq!(job.names(), ["before", "member", "version.txt"]);
    }
    let refused = |status: &str| {
        let job = RestoreJob::new();
        let (went_on, said) = job.run(status, RESTORES);
        assert!(!went_on, "{said}");
        assert_eq!(job.names(), ["member", "version.txt"]);
        assert!(job.data().join("member/old").exists());
        said
    };
    let said = refused(r#"echo '{"data":{"isServed":true}}'"#);
    assert!(said.contains("--replicas=0"), "{said}");
    for status in [
        // It fails, whatever it had said before; it is not there; it says something else.
        r#"echo '{"data":{"isServed":false}}'; exit 1"#,
        "exit 127",
        "true",
        r"echo '{}'",
        r#"echo '{"data":{"isServed":null}}'"#,
        r#"echo '{"data":{"name":"\"isServed\":false"}}'"#,
    ] {
        let said = refused(status);
        assert!(said.contains("does not say"), "{status}: {said}");
    }
}

#[test]
fn a_restore_that_fails_touches_nothing_and_one_that_was_killed_is_repeated() {
    let job = RestoreJob::new();
    let (went_on, said) = job.run(IS_STOPPED, "exit 3");
    assert!(!went_on && job.data().join("member/old").exists(), "{said}");
    assert_eq!(job.names(), ["member", "version.txt"]);

    // After any command that changes something. What was there before is somewhere every time.
    let changing: Vec<_> = ["mv ", "rm -rf", "--bump-revision"].into();
    let places = job.script.match_indices('\n').map(|(end, _)| end);
    let is_after = |end: &usize| {
        let line = job.script[..*end].lines().last().unwrap_or_default();
        changing.iter().any(|word| line.contains(word)) && !line.ends_with('\\')
    };
    let mut kills = 0;
    for end in places.filter(is_after).collect::<Vec<_>>() {
        for before in ["", "member", "version.txt"] {
            let mut job = RestoreJob::new();
            let whole = job.script.clone();
            // Within the loop, and at the end of each command outside of it.
            let kill = format!("\n[ \"$name\" = '{before}' ] && kill -9 $$\n");
            let is_loop = whole[..end].lines().last().unwrap().contains("$name $kept/");
            let kill = if is_loop { kill } else { "\nkill -9 $$\n".to_owned() };
            job.script = format!("{}{kill}{}", &whole[..end], &whole[end..]);
            let (ended, said) = job.run(IS_STOPPED, RESTORES);
            kills += usize::from(!ended);
            job.script = whole;
            let (went_on, more) = job.run(IS_STOPPED, RESTORES);
            assert!(went_on, "{said}{more}");
            job.is_restored();
            let all = Command::new("find").arg(job.data()).args(["-name", "old"]).output().unwrap();
            assert_eq!(String::from_utf8(all.stdout).unwrap().lines().count(), 1, "{said}{more}");
            assert!(!job.names().iter().any(|name| name.starts_with("restored")), "{more}");
        }
    }
    assert!(kills >= 10, "{kills}");
}

#[test]
fn a_snapshot_that_is_not_whole_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("bin")).unwrap();
    fs::create_dir_all(path("backup")).unwrap();
    let write = |name: &str, script: String| {
        let program = path("bin").join(name);
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("etcdctl", "echo snapshot > $3".to_owned());
    let backup = path("backup").display().to_string();
    let job = documents(ManifestKind::Backup, "CronJob").remove(0);
    let container = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    let script = container["command"][2].as_str().unwrap().replace("/backup", &backup);
    let run = |code: u8| {
        let expected = format!("status --snapshot {backup}/partial");
        write("migrate", format!("[ \"$*\" = '{expected}' ] || exit 9\nexit {code}"));
        let path = stand_in::path_with(&path("bin"));
        let ended = Command::new("sh").args(["-c", &script]).env("PATH", path).output().unwrap();
        let names = fs::read_dir(&backup).unwrap().map(|it| it.unwrap().file_name());
        let names = names.map(|it| it.into_string().unwrap()).collect::<Vec<_>>();
        (ended.status.success(), names)
    };
    assert_eq!(run(3), (false, vec!["partial".to_owned()]));
    let (ended, names) = run(0);
    assert!(ended && names.len() == 1 && names[0].starts_with("snapshot-"), "{names:?}");
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

fn documents(kind: ManifestKind, of: &str) -> Vec<Value> {
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
