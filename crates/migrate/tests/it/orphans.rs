//! What a killed `migrate` leaves running.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::directory::{Directory, free_port, outcome};
use crate::etcd::{real, succeed};
use crate::events::{self, Running};
use crate::require::require;

/// A restore takes a tenth of a second, and has to be met.
const TRIES: usize = 20;

#[test]
#[ignore = "needs etcd servers"]
fn a_tool_that_outlived_its_migrate_does_not_write_beside_the_next_one() {
    let real = real();
    let [to, from] = [4, 5].map(|minor| real.version(minor));
    let seed = real.seed(from);
    let is_met = (0..TRIES).any(|_| {
        let directory = seed.copy();
        let mut command = directory.command(to, &real.bin_dir);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let Some(tool) = freeze_tool(&directory) else {
            child.wait().unwrap();
            return false;
        };
        child.kill().unwrap();
        child.wait().unwrap();
        let mut command = directory.command(to, &real.bin_dir);
        let events = succeed(&directory, &mut command, to);
        let stopped = events.messages("orphan");
        assert!(stopped.iter().any(|it| it.contains(&tool.to_string())), "{events:?}");
        real.check(&directory, to, &seed.contents);
        true
    });
    assert!(is_met, "no restore was met in {TRIES} downgrades");
}

/// Stops the restore into the directory, when there is one, from going on.
fn freeze_tool(directory: &Directory) -> Option<u32> {
    let target = directory.path("data/.migrate/restored").display().to_string();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) && !directory.version().starts_with("3.4.") {
        if let Some(id) = process_with("etcdctl-", &target) {
            let stop = Command::new("kill").args(["-STOP", &id.to_string()]).status().unwrap();
            // It may have ended in between.
            return (stop.success() && process_with("etcdctl-", &target) == Some(id)).then_some(id);
        }
    }
    None
}

fn process_with(program: &str, word: &str) -> Option<u32> {
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let words = fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        let is_program = words.split('\0').next()?.rsplit('/').next()?.starts_with(program);
        (is_program && words.split('\0').any(|known| known == word)).then_some(id)
    })
}

#[test]
#[ignore = "needs etcd servers"]
fn a_server_on_another_directory_of_the_same_relative_path_is_not_an_orphan() {
    let real = real();
    let [from, to] = [4, 6].map(|minor| real.version(minor));
    let seed = real.seed_with(from, 10);
    let [theirs, ours] = [(); 2].map(|()| seed.copy());
    let mut server = Command::new(real.program("etcd", from))
        .current_dir(&theirs.0)
        .args(["--data-dir=data", "--snapshot-count=1"])
        .arg(format!("--listen-client-urls=http://127.0.0.1:{}", free_port()))
        .arg("--advertise-client-urls=http://127.0.0.1:1")
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{}", free_port()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // As an interrupted run leaves it.
    ours.write("data/.migrate/lock", b"");
    ours.write("data/.migrate/journal", format!("target {to}/etcd3\nstep backup\n").as_bytes());
    let mut command = ours.command(to, &real.bin_dir);
    command.current_dir(&ours.0).env("DATA_DIRECTORY", "data");
    let (code, _, stderr) = outcome(&command.output().unwrap());
    let is_alive = server.try_wait().unwrap().is_none();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(is_alive, "{stderr}");
    real.check(&ours, to, &seed.contents);
}

/// As containers have it: each mounts its own volume at the same place.
#[test]
#[ignore = "needs etcd servers and root"]
fn a_server_on_another_volume_at_the_same_place_is_not_an_orphan() {
    const OWN_MOUNTS: [&str; 4] = ["unshare", "--mount", "sh", "-c"];
    let real = real();
    require(&[&OWN_MOUNTS[..], &["mount --bind /tmp /mnt"]].concat());
    let [from, to] = [4, 6].map(|minor| real.version(minor));
    let seed = real.seed_with(from, 10);
    let place = Directory::new();
    let volumes = [(); 2].map(|()| seed.copy());
    let command = |volume: &Directory| {
        let script = format!(
            "mount --bind {} {} && exec \"$0\" \"$@\"",
            volume.0.display(),
            place.0.display()
        );
        place.command_under(&[&OWN_MOUNTS[..], &[&script]].concat(), to, &real.bin_dir)
    };
    // Both are killed, and the server of the first one lives on. It would end with its next line,
    // which nobody reads, so it is stopped.
    let servers = volumes.each_ref().map(|volume| {
        let mut running = Running::spawn(&mut command(volume));
        running.wait_for_server();
        let server = child_of(running.child.id());
        assert!(kill("STOP", server));
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        server
    });
    assert!(kill("KILL", servers[1]));
    let (code, events) = events::run(&mut command(&volumes[1]));
    assert_eq!(code, Some(0), "{events:?}");
    assert!(!events.has("orphan"), "{events:?}");
    assert!(kill("KILL", servers[0]), "it was ended");
    let (code, events) = events::run(&mut command(&volumes[0]));
    assert_eq!(code, Some(0), "{events:?}");
    for volume in &volumes {
        real.check(volume, to, &seed.contents);
    }
}

fn child_of(id: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

fn kill(signal: &str, id: u32) -> bool {
    Command::new("kill").args(["-s", signal, &id.to_string()]).status().unwrap().success()
}
