//! What scripts rely on: the flags, and the JSON documents of a directory in which no etcd has
//! started. Those of a directory with data are looked at by the tests that have servers.

use std::collections::BTreeSet;
use std::fs;

use crate::directory::{Directory, outcome};

const FLAGS: &str = "--allow-multi-step-downgrade --args --backup-dir --backup-retain --bin-dir \
    --bump-revision \
    --bundled-versions --data-dir --data-dir-mode --defrag --etcd-data-prefix --etcd-server-extra-args --fix --help \
    --initial-advertise-peer-urls --initial-cluster --initial-cluster-token --json \
    --listen-client-urls --listen-peer-urls --log-format --manifest --metrics-file --name --no-backup --peer-port --plan \
    --plan-format --port --restore-only --scratch-dir --show-server-log --snapshot --start-timeout --stop-timeout --target-storage \
    --target-version --termination-log --trust --ttl-keys-directory --v2-content --verify --version --wal-dir";

fn stdout(directory: &Directory, arguments: &[&str]) -> String {
    let mut command = directory.command("3.7.1", &directory.path("bin"));
    command.arg("--bundled-versions=3.7.1").args(arguments);
    let (code, stdout, stderr) = outcome(&command.output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    stdout.replace(&directory.0.display().to_string(), "DIR")
}

#[test]
fn help_names_every_flag() {
    let text = stdout(&Directory::new(), &["--help"]);
    let is_of_a_flag = |c: char| c == '-' || c.is_ascii_lowercase() || c.is_ascii_digit();
    let words = text.split(|c| !is_of_a_flag(c)).filter(|word| word.starts_with("--"));
    let flags: BTreeSet<_> = words.collect();
    assert_eq!(flags, FLAGS.split(' ').collect());
}

#[test]
fn json_of_an_empty_directory_is_the_same_in_every_byte() {
    let directory = Directory::new();
    fs::create_dir(directory.path("data")).unwrap();
    assert_eq!(
        stdout(&directory, &["--plan", "--json"]),
        "{\"schemaVersion\":1,\"dataDirectory\":\"DIR/data\",\"from\":null,\"target\":\"3.7.1/etcd3\",\
         \"steps\":[{\"action\":\"record\",\"version\":\"3.7.1\"}]}\n"
    );
    assert_eq!(
        stdout(&directory, &["status", "--json"]),
        "{\"schemaVersion\":1,\"dataDirectory\":\"DIR/data\",\"storage\":null,\
         \"version\":\"no etcd has started here yet\",\"versionFile\":null,\"data\":null,\
         \"migratedBy\":null,\"isBeingMoved\":false,\"lastJourney\":null,\"copies\":[]}\n"
    );
}
