//! Signals to `migrate` while a server does not react, and a log that nobody reads.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::directory::Directory;
use crate::etcd::{Seed, real};
use crate::events::Running;
use crate::require::require;

/// A program in place of the servers. They run until they are killed, and tell nothing.
fn servers_that_hang(script: &str) -> Directory {
    let bin = Directory::new();
    for version in [5, 6].map(|minor| real().version(minor)) {
        let path = bin.path(&format!("etcd-{version}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\nexec sleep 1000\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin
}

fn start(seed: &Seed, wrapper: &[&str], bin_dir: &Path) -> Running {
    let mut command = seed.directory.command_under(wrapper, real().version(6), bin_dir);
    let mut running = Running::spawn(&mut command);
    running.wait_for_server();
    running
}

#[track_caller]
fn check_nothing_runs(directory: &Directory) {
    let pattern = directory.path("data").display().to_string();
    let found = Command::new("pgrep").args(["-f", "--", &pattern]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
#[ignore = "needs etcd servers"]
fn a_second_signal_kills_a_server_that_does_not_stop() {
    let real = real();
    let seed = real.seed(real.version(4));
    // What a shell ignores, its programs ignore, too.
    let bin = servers_that_hang("trap '' TERM");
    let mut running = start(&seed, &[], &bin.0);
    running.signal("TERM");
    running.wait_for_event("interrupted");
    running.signal("TERM");
    let (code, events) = running.end();
    assert_eq!(code, Some(143), "{events:?}");
    assert!(events.has("killed"), "{events:?}");
    check_nothing_runs(&seed.directory);
    real.migrate(&seed.directory, real.version(6), &[]);
    real.check(&seed.directory, real.version(6), &seed.contents);
}

#[test]
#[ignore = "needs etcd servers"]
fn a_closed_terminal_ends_migrate_in_order_unless_it_was_told_to_go_on() {
    let real = real();
    let seed = real.seed(real.version(4));
    let bin = servers_that_hang("");
    // Whoever runs this test may ignore the signal.
    let as_usual = ["env", "--default-signal=HUP"];
    require(&[&as_usual[..], &["true"]].concat());
    let running = start(&seed, &as_usual, &bin.0);
    running.signal("HUP");
    assert_eq!(running.end().0, Some(129));
    check_nothing_runs(&seed.directory);
    let running = start(&seed, &["nohup"], &bin.0);
    running.signal("HUP");
    running.signal("TERM");
    let (code, events) = running.end();
    assert_eq!(code, Some(143), "{events:?}");
    check_nothing_runs(&seed.directory);
}

#[test]
#[ignore = "needs etcd servers"]
fn a_log_that_nobody_reads_stops_nothing() {
    /// How much a pipe holds.
    const PIPE_BYTES: usize = 1 << 16;
    let real = real();
    let to = real.version(6);
    let seed = real.seed(real.version(4));
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b'x'; PIPE_BYTES]).unwrap();
    let mut command = seed.directory.command(to, &real.bin_dir);
    command.stderr(Stdio::from(writer.try_clone().unwrap()));
    let status = command.status().unwrap();
    drop((command, writer));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!((status.code(), text.len()), (Some(0), PIPE_BYTES), "{text}");
    real.check(&seed.directory, to, &seed.contents);
}
