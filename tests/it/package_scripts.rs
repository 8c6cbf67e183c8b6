//! The scripts of the packages: what they tell `migrate`, which is a stand-in here that only says
//! what it was told.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Prints its words, and the variables that the scripts set.
const MIGRATE: &str = "#!/bin/sh
for word; do printf '<%s> ' \"$word\"; done
echo
env | grep -E '^(DATA_DIRECTORY|DO_NOT_MOVE|ETCD_|INITIAL_|LISTEN_|TARGET_)' | sort
";

struct Host {
    folder: TempDir,
}

/// What a run says on both outputs, and its exit code if that is not 0.
fn said(host: &Host, command: &mut Command) -> String {
    let output = command.env_clear().env("PATH", "/usr/bin:/bin");
    let output = output.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let code = output.status.code().filter(|code| *code != 0);
    let code = code.map(|code| format!("exit {code}\n")).unwrap_or_default();
    let said = text(&output.stdout) + &text(&output.stderr) + &code;
    said.replace(&host.folder.path().canonicalize().unwrap().display().to_string(), "/HOST")
        .replace(&host.folder.path().display().to_string(), "/HOST")
}

impl Host {
    /// A host with the package in a folder that has a space, and an etcd of a version.
    fn new(version: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("host-").tempdir().unwrap();
        let host = Self { folder };
        for name in ["before-start", "before-kubelet", "etcd-migrate"] {
            let text = fs::read_to_string(format!("src/package/host/{name}.sh")).unwrap();
            host.program(&host.home().join(name), &text);
        }
        host.program(&host.home().join("bin/migrate"), MIGRATE);
        let list = host.home().join("share/etcdimg/bundled-versions");
        fs::create_dir_all(list.parent().unwrap()).unwrap();
        fs::write(list, "3.4.21\n3.5.3\n3.5.33\n3.6.14\n").unwrap();
        host.program(&host.etcd(), &format!("#!/bin/sh\necho 'etcd Version: {version}'\n"));
        fs::create_dir_all(host.data()).unwrap();
        host
    }

    fn program(&self, path: &Path, text: &str) {
        assert!(path.starts_with(self.folder.path()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("etcd migrate")
    }

    fn etcd(&self) -> PathBuf {
        self.folder.path().join("etcd")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `before-start` with words of ExecStart= and the variables of a unit.
    fn before_start(&self, words: &[&str], variables: &[(&str, &str)]) -> String {
        let set: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut with = Command::new("env");
        with.args(set).arg(self.home().join("before-start")).arg(self.etcd()).args(words);
        said(self, &mut with)
    }
}

#[test]
fn variables_of_the_unit_say_where_the_data_is() {
    let host = Host::new("3.5.33");
    let data = host.data().display().to_string();
    let variables = [("ETCD_DATA_DIR", data.as_str()), ("ETCD_NAME", "m1")];
    insta::assert_snapshot!(host.before_start(&[], &variables), @"
    <--bin-dir> </HOST/etcd migrate/bin> 
    DATA_DIRECTORY=/HOST/data
    DO_NOT_MOVE_BINARIES=true
    ETCD_CREDS=
    ETCD_DATA_DIR=/HOST/data
    ETCD_NAME=m1
    TARGET_STORAGE=etcd3
    TARGET_VERSION=3.5.33
    ");
}

#[test]
fn flags_count_as_etcd_reads_them() {
    let host = Host::new("3.6.14");
    let data = host.data().display().to_string();
    let words = [
        "-data-dir",
        &data,
        "--name=it's me",
        "--peer-client-cert-auth",
        "--peer-cert-file",
        "/etc/a b.crt",
        "--initial-cluster=m1=http://a:2380,m2=http://b:2380",
        "-listen-peer-urls=http://a:2380",
        "--initial-advertise-peer-urls",
        "http://a:2380",
    ];
    let variables = [("MIGRATE_FLAGS", "--v2-content=drop --defrag")];
    insta::assert_snapshot!(host.before_start(&words, &variables), @"
    <--v2-content=drop> <--defrag> <--bin-dir> </HOST/etcd migrate/bin> 
    DATA_DIRECTORY=/HOST/data
    DO_NOT_MOVE_BINARIES=true
    ETCD_CREDS= '--peer-client-cert-auth' '--peer-cert-file' '/etc/a b.crt'
    ETCD_NAME=it's me
    INITIAL_ADVERTISE_PEER_URLS=http://a:2380
    INITIAL_CLUSTER=m1=http://a:2380,m2=http://b:2380
    LISTEN_PEER_URLS=http://a:2380
    TARGET_STORAGE=etcd3
    TARGET_VERSION=3.6.14
    ");
}

#[test]
fn with_a_configuration_file_etcd_ignores_the_rest() {
    let host = Host::new("3.5.33");
    let config = host.folder.path().join("etcd.yaml");
    let text = "name: \"m 1\"\n# data-dir: /no\ndata-dir: DATA # the volume\ninitial-cluster: 'm 1=http://a:2380'\n\
                client-transport-security:\n  data-dir: /nested\n";
    fs::write(&config, text.replace("DATA", &host.data().display().to_string())).unwrap();
    let flag = format!("--config-file={}", config.display());
    insta::assert_snapshot!(host.before_start(&[&flag, "--name=other"], &[("ETCD_NAME", "no")]), @"
    <--bin-dir> </HOST/etcd migrate/bin> 
    DATA_DIRECTORY=/HOST/data
    DO_NOT_MOVE_BINARIES=true
    ETCD_CREDS=
    ETCD_INITIAL_CLUSTER_TOKEN=
    ETCD_NAME=m 1
    ETCD_WAL_DIR=
    INITIAL_CLUSTER=m 1=http://a:2380
    TARGET_STORAGE=etcd3
    TARGET_VERSION=3.5.33
    ");
}

#[test]
fn a_version_that_is_not_bundled_is_stood_for_by_its_minor() {
    let target = |version: &str, variables: &[(&str, &str)]| {
        let host = Host::new(version);
        let data = format!("--data-dir={}", host.data().display());
        let said = host.before_start(&[&data], variables);
        let target = said.lines().find(|line| line.starts_with("TARGET_VERSION=")).unwrap();
        target.strip_prefix("TARGET_VERSION=").unwrap().to_owned()
    };
    assert_eq!(target("3.5.16", &[]), "3.5.33");
    assert_eq!(target("3.5.3", &[]), "3.5.3");
    assert_eq!(target("3.6.14", &[]), "3.6.14");
    // `migrate` refuses what no bundled version stands for, and says why.
    assert_eq!(target("3.3.25", &[]), "3.3.25");
    assert_eq!(target("3.50.1", &[]), "3.50.1");
    assert_eq!(target("3.5.16", &[("TARGET_VERSION", "3.4.21")]), "3.4.21");
    assert_eq!(target("3.5.16", &[("TARGET_VERSION", "3.6.5")]), "3.6.14");
}

#[test]
fn what_is_not_known_stops_the_start_and_says_what_to_do() {
    let host = Host::new("");
    let data = format!("--data-dir={}", host.data().display());
    insta::assert_snapshot!(host.before_start(&[], &[]), @"
    before-start: error: the data directory is not known
    before-start: hint: set ETCD_DATA_DIR= in the unit, or --data-dir
    exit 2
    ");
    insta::assert_snapshot!(host.before_start(&[&data], &[]), @"
    before-start: error: /HOST/etcd does not say its version
    before-start: hint: name the program of ExecStart=, or set TARGET_VERSION=
    exit 1
    ");
    insta::assert_snapshot!(host.before_start(&["--config-file=/none"], &[]), @"
    before-start: error: /none cannot be read
    before-start: hint: etcd would not start either
    exit 1
    ");
    // The exit code of migrate is that of the start.
    host.program(&host.home().join("bin/migrate"), "#!/bin/sh\nexit 3\n");
    let variables = [("TARGET_VERSION", "3.5.33")];
    assert_eq!(host.before_start(&[&data], &variables), "exit 3\n");
}

#[test]
fn a_directory_that_is_not_there_is_left_to_etcd() {
    let host = Host::new("3.5.33");
    fs::remove_dir(host.data()).unwrap();
    let data = format!("--data-dir={}", host.data().display());
    let said = host.before_start(&[&data], &[]);
    assert_eq!(said, "before-start: /HOST/data is not there yet: nothing to do\n");
    assert!(!host.data().exists());
}

/// As kubeadm 1.34 writes it, shortened.
const MANIFEST: &str = r#"
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://10.0.0.1:2379
    - --data-dir=DATA
    - --feature-gates=InitialCorruptCheck=true
    - --initial-cluster=cp-1=https://10.0.0.1:2380
    - "--name=cp-1"
    - --peer-client-cert-auth=true
    image: registry.k8s.io:443/etcd:v3.6.5-0@sha256:0123
    livenessProbe:
      httpGet:
        host: 127.0.0.1
"#;

#[test]
fn a_manifest_of_kubeadm_has_version_and_flags() {
    let host = Host::new("3.4.21");
    let manifest = host.folder.path().join("etcd.yaml");
    fs::write(&manifest, MANIFEST.replace("DATA", &host.data().display().to_string())).unwrap();
    let before_kubelet = || {
        let mut command = Command::new(host.home().join("before-kubelet"));
        said(&host, command.arg(&manifest))
    };
    insta::assert_snapshot!(before_kubelet(), @"
    <--bin-dir> </HOST/etcd migrate/bin> 
    DATA_DIRECTORY=/HOST/data
    DO_NOT_MOVE_BINARIES=true
    ETCD_CREDS= '--advertise-client-urls=https://10.0.0.1:2379' '--feature-gates=InitialCorruptCheck=true' '--peer-client-cert-auth=true'
    ETCD_NAME=cp-1
    INITIAL_CLUSTER=cp-1=https://10.0.0.1:2380
    TARGET_STORAGE=etcd3
    TARGET_VERSION=3.6.14
    before-start: etcd 3.6.5 is not bundled: 3.6.14 stands for it
    ");
    fs::write(&manifest, MANIFEST.replace(":v3.6.5-0@sha256:0123", ":latest")).unwrap();
    insta::assert_snapshot!(before_kubelet(), @"
    before-kubelet: error: the image `registry.k8s.io:443/etcd:latest` in /HOST/etcd.yaml does not say its version
    before-kubelet: hint: set TARGET_VERSION=
    exit 2
    ");
    fs::remove_file(&manifest).unwrap();
    assert_eq!(before_kubelet(), "before-kubelet: there is no /HOST/etcd.yaml: nothing to do\n");
}
