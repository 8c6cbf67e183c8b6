//! How `etcdimg test` itself behaves: leftovers after it was stopped, its message on a machine
//! where no image can run, and the report of a failure.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::acceptance::{image, results};
use crate::acceptance_mutants::{MIGRATE, NEWEST, check, copy, false_migrate, with_bytes};
use crate::mutable_image::MutableImage;
use crate::run::run;

/// How long anything here may take.
const WAIT_TIMEOUT: Duration = Duration::from_mins(2);

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < WAIT_TIMEOUT, "waited for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// `etcdimg test` of a layout with temporary files in a folder.
fn started(layout: &Path, folder: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_etcdimg"))
        .arg("test")
        .arg(layout)
        .args(arguments)
        .env("TMPDIR", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(sent.unwrap().success());
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Processes and mounts, of any namespace, that mention a folder.
fn traces(folder: &Path) -> Vec<String> {
    let name = folder.to_str().unwrap();
    let processes = files(Path::new("/proc")).into_iter().filter(|path| path.join("exe").exists());
    let places =
        processes.flat_map(|path| ["cmdline", "environ", "mounts"].map(|it| path.join(it)));
    let read = |path: &PathBuf| {
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).contains(name)
    };
    places.filter(read).map(|path| path.display().to_string()).collect()
}

/// A case whose server is up.
fn in_the_middle(folder: &Path) -> Child {
    let child = started(image(), folder, &["--runtime=rootfs", "--case=operate/five-members"]);
    let is_up = || {
        let run = files(folder).into_iter().next().unwrap_or_default();
        files(&run.join("operate-five-members")).iter().any(|it| it.join("member/wal").exists())
    };
    until("a member to write", is_up);
    child
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_signal_ends_a_run_and_nothing_is_left() {
    for name in ["INT", "TERM", "HUP"] {
        let folder = tempfile::tempdir().unwrap();
        let child = in_the_middle(folder.path());
        assert!(!traces(folder.path()).is_empty());
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        assert!(stderr.contains("interrupted"), "{name}: {stderr}");
        assert_eq!(files(folder.path()), Vec::<PathBuf>::new(), "{name}");
        until("its processes to end", || traces(folder.path()).is_empty());
    }
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = in_the_middle(folder.path());
    signal(&child, "KILL");
    child.wait().unwrap();
    assert_eq!(files(folder.path()).len(), 1);
    until("its processes to end", || traces(folder.path()).is_empty());
    let next = started(image(), folder.path(), &["--runtime=rootfs", "--case=run/shell"]);
    let output = next.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

fn docker(arguments: &[&str]) -> BTreeSet<String> {
    run("docker", arguments).lines().map(str::to_owned).collect()
}

/// Containers and images of tests.
fn in_the_engine() -> (BTreeSet<String>, BTreeSet<String>) {
    let containers = docker(&["ps", "-aq", "--filter", "label=dev.etcdimg.test"]);
    let images = docker(&["images", "etcdimg-test", "--format", "{{.Repository}}:{{.Tag}}"]);
    (containers, images)
}

#[test]
#[ignore = "needs an engine, compilers and the network"]
fn a_program_that_hangs_in_an_engine_does_not_keep_a_run_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    let layout = copy(folder.path());
    with_bytes(&mut MutableImage::open(&layout), NEWEST, "usr/local/bin/etcdctl-3.7.1", |_| {
        b"#!/bin/sh\nsleep 1000000\n".to_vec()
    });
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let before = in_the_engine();
    let arguments = ["--runtime=docker", "--case=run/versions"];
    let hangs = |child: &Child, known: &BTreeSet<String>| {
        until("a program to hang", || {
            let ours = docker(&["ps", "-q", "--filter", "label=dev.etcdimg.test"]);
            let mut ours = ours.difference(known);
            ours.any(|id| {
                // It may have ended since.
                let top = Command::new("docker").args(["top", id]).output().unwrap();
                String::from_utf8_lossy(&top.stdout).contains("sleep 1000000")
            })
        });
        assert!(Path::new(&format!("/proc/{}", child.id())).exists());
    };
    let child = started(&layout, &temporary, &arguments);
    hangs(&child, &before.0);
    let at = Instant::now();
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(at.elapsed() < Duration::from_secs(30), "{:?}", at.elapsed());
    assert_eq!(in_the_engine(), before);

    // What cannot remove anything any more leaves it to the next, which leaves others' alone.
    let other = started(&layout, &temporary, &arguments);
    hangs(&other, &before.0);
    let others = in_the_engine();
    let mut killed = started(&layout, &temporary, &arguments);
    hangs(&killed, &others.0);
    signal(&killed, "KILL");
    killed.wait().unwrap();
    assert_ne!(in_the_engine(), others);
    let next = started(&layout, &temporary, &["--runtime=docker", "--case=run/shell"]);
    let output = next.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(in_the_engine(), others);
    signal(&other, "INT");
    assert_eq!(other.wait_with_output().unwrap().status.code(), Some(1));
    assert_eq!(in_the_engine(), before);
    assert_eq!(files(&temporary), Vec::<PathBuf>::new());
}

/// A run for which `unshare` is a script.
fn with_unshare(folder: &Path, script: &str) -> (Option<i32>, Value, String) {
    let fake = folder.join("unshare");
    fs::write(&fake, script).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap());
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_etcdimg"))
        .args(["test", "--runtime=rootfs", "--case=run/shell", "--format=json"])
        .arg(image())
        .env("PATH", path)
        .output()
        .unwrap();
    let results = serde_json::from_slice(&stdout).unwrap_or_default();
    (status.code(), results, String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_machine_that_runs_no_containers_is_not_the_images_fault() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = "#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n";
    let (code, results, stderr) = with_unshare(folder.path(), refuses);
    assert_eq!((code, results), (Some(5), Value::Null), "{stderr}");
    assert!(stderr.contains("unshare failed: Operation not permitted"), "{stderr}");
    assert!(stderr.contains("hint: install util-linux"), "{stderr}");

    // It lets the first two through, which are the look before the cases.
    let count = folder.path().join("count");
    let real = "PATH=${PATH#*:} exec unshare \"$@\"";
    let later = format!(
        "#!/bin/sh\necho x >>{count}\n[ $(wc -l <{count}) -gt 2 ] || {real}\n{}",
        refuses.split_once('\n').unwrap().1,
        count = count.display(),
    );
    let (code, results, stderr) = with_unshare(folder.path(), &later);
    let what = results["cases"][0]["why"]["what"].as_str().unwrap_or_default();
    assert!(what.starts_with("could not run: "), "{stderr}\n{results:#}");
    assert_eq!(code, Some(5), "{stderr}");
    assert!(stderr.contains("1 of 1 cases could not run"), "{stderr}");
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn suites_that_are_named_twice_run_once() {
    let twice = ["--suite=run", "--suite=run", "--case=shell", "--case=run/shell"];
    let (code, results, stderr) = results(image(), &[&["--runtime=rootfs"], &twice[..]].concat());
    assert_eq!((code, results["cases"].as_array().unwrap().len()), (Some(0), 1), "{stderr}");
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_failure_shows_the_command_and_what_the_members_said() {
    let folder = tempfile::tempdir().unwrap();
    let layout = copy(folder.path());
    let lost = false_migrate(folder.path(), "let _ = fs::remove_dir_all(data.join(\"member\"));");
    with_bytes(&mut MutableImage::open(&layout), MIGRATE, "usr/local/bin/migrate", |_| {
        lost.clone()
    });
    let (code, results, stderr) =
        results(&layout, &["--runtime=rootfs", "--case=migrate/up-3.6.14-3.7.1"]);
    assert_eq!(code, Some(9), "{stderr}");
    let why = &results["cases"][0]["why"];
    assert_eq!(why["what"], "there are no keys any more");
    let command = why["command"].as_str().unwrap();
    assert!(command.contains("etcdctl-3.7.1") && command.contains("/registry"), "{command}");
    let log: Vec<_> = why["log"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(log[0], "/usr/local/bin/etcd-3.7.1 --name=member0 said:");
    assert!(log.len() > 3 && log[1].contains("\"level\":"), "{log:?}");
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_variable_that_nobody_promised_fails_structure() {
    check(&["structure/config"], &[], |image, _| {
        let variables = image.config["config"]["Env"].as_array_mut().unwrap();
        variables.push(json!("ETCD_UNSUPPORTED_ARCH=amd64"));
        image.save();
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn an_image_without_a_path_fails_structure_and_run() {
    let fails = ["structure/config", "structure/verify", "run/plain-names"];
    check(&fails, &[], |image, _| {
        image.config["config"]["Env"] = json!([]);
        image.save();
    });
}
