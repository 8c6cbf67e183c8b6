//! `migrate check`: what it finds before anything starts, and what it makes of a manifest.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::directory::{Directory, outcome};
use crate::etcd::{Real, real};
use crate::schema::CHECK;

const BUNDLED: &str = "--bundled-versions=3.4.27,3.5.33,3.6.14,3.7.1";

fn check(directory: &Directory, target: &str) -> Command {
    let mut command = directory.command(target, &directory.path("bin"));
    command.args(["check", BUNDLED]);
    command
}

/// Exit code, and the findings by their words.
#[track_caller]
fn findings(command: &mut Command) -> (Option<i32>, Vec<String>) {
    let (code, stdout, stderr) = outcome(&command.arg("--json").output().unwrap());
    assert!(stdout.starts_with('{'), "{stderr}");
    let document = CHECK.read(&stdout);
    let list = document["findings"].as_array().unwrap();
    let ids = list.iter().map(|finding| {
        let text = |name: &str| finding[name].as_str().unwrap().to_owned();
        assert!(!text("message").is_empty() && finding["hints"].is_array(), "{finding}");
        format!("{} {}", text("severity"), text("id"))
    });
    (code, ids.collect())
}

#[test]
fn a_directory_that_can_go_has_no_findings_and_another_says_why() {
    let directory = Directory::new();
    assert_eq!(findings(&mut check(&directory, "3.7.1")), (Some(0), vec![]));
    assert!(!directory.path("data").exists());
    let ids = |command: &mut Command| {
        let (code, ids) = findings(command);
        assert_eq!(code, Some(3));
        ids.join(", ")
    };
    assert_eq!(ids(&mut check(&directory, "3.7.9")), "error not-bundled");
    let extra = "--etcd-server-extra-args=--force-new-cluster";
    assert_eq!(ids(check(&directory, "3.7.1").arg(extra)), "error usage");
    directory.write("data/notes.txt", b"");
    assert_eq!(ids(&mut check(&directory, "3.7.1")), "error not-migratable");
    let (code, stdout, stderr) = outcome(&check(&directory, "3.7.1").output().unwrap());
    assert_eq!(code, Some(3));
    assert!(stdout.contains("error: ") && stdout.ends_with(" to 3.7.1: errors: 1, warnings: 0\n"));
    assert!(stderr.contains("cannot go to 3.7.1"), "{stderr}");
    let snapshot = directory.path("snapshot");
    fs::write(&snapshot, b"cut off").unwrap();
    let snapshot = format!("--snapshot={}", snapshot.display());
    assert_eq!(ids(check(&directory, "3.7.1").arg(snapshot)), "error not-migratable");
}

#[test]
fn a_manifest_comes_from_a_file_or_a_pipe_and_goes_to_a_pipe() {
    let directory = Directory::new();
    let before = "command:\n- etcd\n- --enable-v2 # old\n- --name=x\n";
    directory.write("etcd.yaml", before.as_bytes());
    let manifest = format!("--manifest={}", directory.path("etcd.yaml").display());
    let program = env!("CARGO_BIN_EXE_migrate");
    let command = |words: &[&str]| {
        let mut command = Command::new(program);
        command.args(["check", "--target-version=3.7.1"]).args(words);
        command
    };
    assert_eq!(findings(&mut command(&[&manifest])), (Some(3), vec!["error flag-refused".into()]));
    let (code, stdout, stderr) = outcome(&command(&[&manifest, "--fix"]).output().unwrap());
    assert_eq!((code, stdout.as_str()), (Some(0), "command:\n- etcd\n# old\n- --name=x\n"));
    assert!(stderr.contains("line 3: etcd 3.7.1 refuses --enable-v2"), "{stderr}");
    assert_eq!(fs::read_to_string(directory.path("etcd.yaml")).unwrap(), before);

    let mut piped = command(&["--manifest=-", "--fix"]);
    let mut child =
        piped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdout.as_bytes()).unwrap();
    assert_eq!(outcome(&child.wait_with_output().unwrap()).1, stdout);

    assert_eq!(findings(&mut command(&["--args=--name x"])), (Some(0), vec![]));
    assert_eq!(
        findings(&mut command(&["--args=nothing"])),
        (Some(0), vec!["warning no-settings".into()])
    );
    for wrong in [&["--args=--name x", &manifest][..], &["--fix"], &["--manifest=/no/such/file"]] {
        let (code, _, _) = outcome(&command(wrong).output().unwrap());
        assert_eq!(code, Some(if wrong[0].ends_with("file") { 1 } else { 2 }), "{wrong:?}");
    }
}

/// What kubeadm, the script of the GCE cluster and others have written over the years.
const WRITTEN: &[&str] = &[
    "--experimental-initial-corrupt-check=true --experimental-watch-progress-notify-interval=5s \
     --snapshot-count=10000",
    "--feature-gates=InitialCorruptCheck=true --watch-progress-notify-interval=5s",
    "--enable-v2=true --proxy off --experimental-peer-skip-client-san-verification=true \
     --experimental-compaction-batch-limit 100",
    "--debug --log-output=stderr --experimental-compact-hash-check-enabled=true \
     --experimental-compact-hash-check-time=1m",
];

/// Whether an etcd gets further than its flags.
fn starts(real: &Real, version: &str, arguments: &str) -> bool {
    let directory = Directory::new();
    let words: Vec<_> = arguments.split_whitespace().collect();
    real.spawn_member(&directory, version, &words).starts()
}

#[test]
#[ignore = "needs etcd servers"]
fn every_version_starts_with_what_was_mended_for_it() {
    let real = real();
    let mut refused = 0;
    for version in real.versions.values() {
        for arguments in WRITTEN {
            let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
            command.args(["check", "--fix", "--target-version", version, "--args", arguments]);
            let (code, fixed, stderr) = outcome(&command.output().unwrap());
            assert_eq!(code, Some(0), "{stderr}");
            assert!(starts(real, version, &fixed), "{version}: {fixed}");
            if fixed != **arguments {
                refused += 1;
                assert!(!starts(real, version, arguments), "{version} takes {arguments}");
            }
        }
    }
    assert!(refused >= 8, "only {refused} were refused");
}

#[test]
fn the_table_in_the_image_counts_more_than_the_one_that_was_compiled_in() {
    let directory = Directory::new();
    let text = include_str!("../../../etcd-version/etcd-versions.json");
    let mut table: Value = serde_json::from_str(text).unwrap();
    let flags = table["flags"].as_array_mut().unwrap();
    let flag = flags.iter_mut().find(|flag| flag["name"] == "enable-v2").unwrap();
    // As if etcd 3.7 had it again.
    flag.as_object_mut().unwrap().remove("until");
    let bin_dir = format!("--bin-dir={}", directory.path("bin").display());
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
        command.args(["check", "--args=--enable-v2", "--target-version=3.7.1", &bin_dir]);
        command
    };
    let place = "share/etcdimg/etcd-versions.json";
    assert_eq!(findings(&mut check()).0, Some(3));
    directory.write(place, table.to_string().as_bytes());
    assert_eq!(findings(&mut check()), (Some(0), vec![]));
    directory.write(place, b"{}");
    let (code, _, stderr) = outcome(&check().output().unwrap());
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("etcd-versions.json cannot be used"), "{stderr}");
}
