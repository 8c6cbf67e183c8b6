//! Servers that do not start and servers that do not stop.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::directory::{Directory, free_port};
use crate::etcd::{real, succeed};
use crate::events::{Running, run};
use crate::require::require;

#[test]
#[ignore = "needs etcd servers"]
fn a_server_that_does_not_start_in_time_is_reported_and_the_next_run_goes_on() {
    let real = real();
    let [from, through, to] = [4, 5, 6].map(|minor| real.version(minor));
    let seed = real.seed(from);
    let directory = &seed.directory;
    let bin = Directory::new();
    for name in [format!("etcd-{from}"), format!("etcd-{to}")] {
        symlink(real.program("etcd", &name[5..]), bin.path(&name)).unwrap();
    }
    let slow = bin.path(&format!("etcd-{through}"));
    fs::write(&slow, "#!/bin/sh\necho still thinking >&2\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = directory.command(to, &bin.0);
    // A person is told every ten seconds.
    let (code, events) = run(command.arg("--start-timeout=11s"));
    assert_eq!(code, Some(4), "{events:?}");
    assert_eq!(events.messages("waiting").len(), 1, "{events:?}");
    let error = events.error();
    let message = format!("etcd {through} ran for 11 s, waiting for the cluster to be healthy");
    assert!(error.message.contains(&message), "{error:?}");
    assert!(error.message.contains("\n  still thinking"), "{error:?}");
    assert!(error.hints.iter().any(|hint| hint.starts_with("--start-timeout gives")), "{error:?}");
    real.migrate(directory, to, &[]);
    real.check(directory, to, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_server_that_does_not_stop_in_time_is_killed_and_loses_nothing() {
    let real = real();
    // The first signal that migrate sends comes so late that its server is frozen by then.
    let delay = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=kill:delay_enter=8s:when=1"];
    require(&[&delay[..], &["true"]].concat());
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = &seed.directory;
    let port = free_port();
    let mut command = directory.command_under(&delay, highest, &real.bin_dir);
    command.arg(format!("--port={port}")).arg("--stop-timeout=1s");
    let mut running = Running::spawn(&mut command);
    running.wait_for_server();
    let server = server_on(directory);
    let started = Instant::now();
    while !ask(port).contains("\"etcdcluster\":\"3.5.0\"") {
        assert!(started.elapsed() < Duration::from_mins(1), "etcd 3.5 is not ready");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(500));
    assert!(Command::new("kill").args(["-STOP", &server]).status().unwrap().success());
    let (code, events) = running.end();
    assert_eq!(code, Some(0), "{events:?}");
    assert!(events.has("killed"), "{events:?}");
    succeed(directory, &mut directory.command(highest, &real.bin_dir), highest);
    real.check(directory, highest, &seed.contents);
}

/// The process that serves the directory.
fn server_on(directory: &Directory) -> String {
    let pattern = format!("etcd-.*--data-dir={}", directory.path("data").display());
    // `strace` and `migrate` have the directory in their environment only.
    let found = Command::new("pgrep").args(["-f", "--", &pattern]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let mut processes = found.lines();
    let process = processes.next().expect("a server runs").to_owned();
    assert_eq!(processes.next(), None, "more than one server");
    process
}

fn ask(port: u16) -> String {
    let mut answer = String::new();
    let _ = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.write_all(b"GET /version HTTP/1.0\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    answer
}
