//! `migrate status --snapshot`: what is in a snapshot, and whether it is what was saved.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::directory::{Directory, outcome};
use crate::etcd::{real, side_by_side};
use crate::restore::{SnapshotSeed, refused, restore};
use crate::schema::{CHECK, STATUS};

/// Exit code, what is printed, and the error.
fn status(snapshot: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
    command.env_clear().args(["status", "--snapshot"]).arg(snapshot).args(more);
    outcome(&command.output().unwrap())
}

#[track_caller]
fn json(snapshot: &Path, code: i32) -> Value {
    let (actual, stdout, stderr) = status(snapshot, &["--json"]);
    assert_eq!(actual, Some(code), "{stderr}");
    STATUS.read(&stdout)
}

#[test]
#[ignore = "needs etcd servers"]
fn a_snapshot_of_any_version_says_what_is_in_it() {
    let real = real();
    let versions: Vec<_> = real.versions.values().map(String::as_str).collect();
    side_by_side(&versions, |version| {
        let seed = SnapshotSeed::new(real, version);
        let saved = json(&seed.path(), 0);
        let copied = json(&seed.directory.path("db"), 0);
        assert_eq!(saved["bytes"], fs::metadata(seed.path()).unwrap().len(), "{saved}");
        assert_eq!(saved["checksum"], "valid");
        assert_eq!(copied["checksum"], "missing");
        for data in [&saved["data"], &copied["data"]] {
            assert_eq!(data["series"].as_str(), Some(&version[..3]), "{data}");
            let counts = ["keys", "leases", "users", "compactRevision"].map(|name| &data[name]);
            assert_eq!(counts.map(|it| it.as_u64().unwrap()), [300, 1, 0, 3], "{data}");
            assert_eq!(data["members"][0]["name"], "m", "{data}");
            let revision = data["revision"].to_string();
            assert!(seed.contents.starts_with(&format!("{revision}:")), "{data} {}", seed.contents);
        }
        let (_, text, _) = status(&seed.path(), &[]);
        assert!(text.contains("  checksum     valid\n"), "{text}");
        assert!(text.contains("300 keys at revision "), "{text}");
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn a_damaged_snapshot_is_printed_and_ends_with_3() {
    let real = real();
    let (_, highest) = real.ends();
    let seed = SnapshotSeed::new(real, highest);
    let bytes = fs::read(seed.path()).unwrap();
    let file = seed.directory.path("damaged");
    // In a value, which no reader of the database notices.
    let mut damaged = bytes.clone();
    let at = bytes.windows(9).position(|window| window == b"value-299").unwrap();
    damaged[at] ^= 1;
    fs::write(&file, damaged).unwrap();
    assert_eq!(json(&file, 3)["checksum"], "wrong");
    let (_, text, stderr) = status(&file, &[]);
    assert!(text.contains("WRONG") && stderr.contains("is damaged"), "{text}{stderr}");
    // Before it is tried.
    let directory = Directory::new();
    let mut check = directory.command(highest, &real.bin_dir);
    check.args(["check", "--json", "--snapshot"]).arg(&file);
    let (code, stdout, _) = outcome(&check.output().unwrap());
    assert_eq!(code, Some(3), "{stdout}");
    assert_eq!(CHECK.read(&stdout)["findings"][0]["id"], "wrong-checksum");
    refused(&mut restore(real, &directory, &file, highest), 3, "expected sha256");
    // Cut off, which `etcdutl snapshot status` does not notice.
    for length in [bytes.len() - 1, bytes.len() - 512, bytes.len() / 4096 * 2048, 0] {
        fs::write(&file, &bytes[..length]).unwrap();
        let (code, text, stderr) = status(&file, &["--json"]);
        assert_eq!(code, Some(3), "{length} bytes: {text}{stderr}");
    }
}

#[test]
fn a_file_that_is_no_snapshot_is_an_error() {
    let directory = Directory::new();
    directory.write("text", b"no snapshot");
    assert_eq!(status(&directory.path("text"), &[]).0, Some(3));
    assert_eq!(status(&directory.path("none"), &[]).0, Some(1));
    assert_eq!(status(Path::new(""), &[]).0, Some(2));
}
