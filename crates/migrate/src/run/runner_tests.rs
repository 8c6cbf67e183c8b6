//! A step with a double of etcd, which leaves in its log what the test wants.

use std::ffi::OsString;
use std::process::Command;

use super::*;
use crate::cli::arguments::Arguments;
use crate::cli::options::Port;
use crate::cli::reader::OptionReader;
use crate::inspect::bolt::sample::{Pairs, database};
use crate::report::event::EventLog;
use crate::report::format::OutputFormat;
use crate::run::command::Purpose;
use crate::run::ports::free_port;
use crate::run::signal::StopSignal;
use crate::scratch::ScratchDirectory;

/// Answers as a healthy etcd of 3.5, writes a raft snapshot, and ends with SIGTERM. Says at once
/// that it was told to stop: otherwise it would be started three times.
const DOUBLE: &str = r#"
use std::io::{Read, Write};
fn value(name: &str) -> String {
    let all: Vec<String> = std::env::args().collect();
    all.iter().filter_map(|it| it.strip_prefix(name)).last().unwrap().to_owned()
}
fn main() {
    eprintln!("received signal; shutting down");
    let snap = value("--data-dir=") + "/member/snap/0000000000000002-00000000000000ff.snap";
    std::fs::write(snap, "").unwrap();
    let listener = std::net::TcpListener::bind(value("--listen-client-urls=http://")).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let body = r"{'health':'true','etcdserver':'3.5.33','etcdcluster':'3.5.0'}".replace('\'', "\"");
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\n{body}");
    }
}
"#;

/// A log with one request: 10 bytes, in an entry with index 4, in a record without padding.
fn log(request: &[u8; 10]) -> Vec<u8> {
    let entry = [&[8, 0, 16, 1, 24, 4, 0x22, 10][..], request].concat();
    let record = [&[8, 2, 16, 0, 0x1a, 18][..], &entry].concat();
    [&24_u64.to_le_bytes()[..], &record, &[0; 64]].concat()
}

/// Serves with the double, on data with this log.
fn served(log: &[u8]) -> Result<(), MigrateError> {
    let scratch = ScratchDirectory::new();
    scratch.write("double.rs", DOUBLE.as_bytes());
    scratch.write("data/member/wal/0000000000000000-0000000000000000.wal", log);
    let cluster: Pairs<'_> = &[("clusterVersion", b"3.5.0")];
    scratch.write("data/member/snap/db", &database(&[("cluster", true, cluster)]));
    fs::create_dir_all(scratch.path().join("data/.migrate")).unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2021", "-o", "etcd-3.5.33", "double.rs"]).current_dir(scratch.path());
    assert!(rustc.status().unwrap().success());

    let serve = Step::Serve("3.5.33".parse().unwrap());
    take(&scratch, &mut Journal::default(), &[serve])
}

/// Takes steps on `data`; the journal goes on and is what the next run finds.
fn take(
    scratch: &ScratchDirectory,
    journal: &mut Journal,
    steps: &[Step],
) -> Result<(), MigrateError> {
    let place = scratch.path().display();
    // The tests run side by side, and each needs a port of its own.
    let port = free_port(Port::Preferred(0)).unwrap();
    let line = format!(
        "--name n --port {port} --data-dir {place}/data --bin-dir {place} --target-version 3.7.1 \
         --target-storage etcd3 --verify off"
    );
    let arguments = Arguments::parse(line.split_whitespace().map(OsString::from)).unwrap();
    let reader = OptionReader { arguments: &arguments, environment: &|_| None };
    let options = &reader.options().unwrap();
    let mut runner = Runner {
        context: StepContext {
            options,
            server: ServerContext {
                purpose: Purpose::Upgrade,
                options: &options.member,
                timeouts: &options.timeouts,
                server_log: options.server_log,
                stop: &StopSignal::default(),
                log: EventLog::new(OutputFormat::Text),
            },
            members: &[],
            from: None,
        },
        store: &BackupStore::of(&options.data_dir, None),
        journal: journal.clone(),
        sameness: Sameness::after(None, None),
        has_begun: false,
        has_current_backup: false,
    };
    let taken = runner.take(steps);
    runner.remember_data();
    *journal = runner.journal;
    taken
}

#[test]
fn a_server_that_leaves_a_log_which_the_next_minor_cannot_replay_ends_the_migration() {
    // QGET, the health check of etcd 3.4, which etcd 3.6 panics on.
    let failure = served(&log(b"\x08\x07\x12\x04QGET\x1a\x00")).unwrap_err();
    assert_eq!(failure.kind, MigrateErrorKind::StepFailed);
    assert_eq!(
        failure.cause,
        "etcd 3.5.33 has stopped, but left requests in the log that etcd 3.6 cannot replay"
    );
}

#[test]
fn a_server_that_leaves_only_requests_of_the_v3_api_has_done_its_step() {
    served(&log(b"\x22\x0812345678")).unwrap();
}

#[test]
fn a_migration_that_is_tried_again_copies_the_data_only_after_somebody_has_written_to_it() {
    let scratch = ScratchDirectory::new();
    scratch.write("data/member/snap/db", b"first");
    scratch.write("data/member/wal/0.wal", b"");
    scratch.write("data/.migrate/lock", b"");
    let mut journal = Journal::default();
    let mut copies_after = |change: &dyn Fn(&mut Journal)| {
        change(&mut journal);
        // The program of the second step is missing.
        let serve = Step::Serve("3.6.14".parse().unwrap());
        assert!(take(&scratch, &mut journal, &[Step::Backup, serve]).is_err());
        let copies = BackupStore::of(&scratch.path().join("data"), None).copies();
        // Always the first one, from before the first step.
        let first = journal.backup.clone().unwrap();
        assert_eq!(fs::read(first.join("member/snap/db")).unwrap(), b"first");
        copies
    };
    let [one, again] = [copies_after(&|_| {}), copies_after(&|_| {})];
    assert_eq!((one.len(), &one), (1, &again));
    scratch.write("data/member/snap/db", b"second");
    let two = copies_after(&|_| {});
    assert_eq!(two.len(), 2);
    assert_eq!(fs::read(two[1].join("member/snap/db")).unwrap(), b"second");
    assert_eq!(copies_after(&|_| {}), two);
    // A run that was killed in a step does not know what it has left.
    assert_ne!(copies_after(&|journal| journal.data.clear()), two);
    // Nobody says what a copy is that has been removed.
    fs::remove_dir_all(scratch.path().join("data.bak")).unwrap();
    scratch.write("data/member/snap/db", b"first");
    assert_eq!(copies_after(&|_| {}).len(), 1);
}

#[test]
fn what_the_data_is_counts_only_if_there_is_a_copy_of_it() {
    let scratch = ScratchDirectory::new();
    scratch.write("data/member/snap/db", b"first");
    scratch.write("data/member/wal/0.wal", b"");
    scratch.write("data/.migrate/lock", b"");
    let mut journal = Journal { backup: Some(scratch.path().into()), ..Journal::default() };
    take(&scratch, &mut journal, &[]).unwrap();
    assert_eq!(journal.data, "");
    // While a step is taken nobody knows what the data is.
    journal.data = "0123456789abcdef".to_owned();
    let serve = Step::Serve("3.6.14".parse().unwrap());
    assert!(take(&scratch, &mut journal, &[serve]).is_err());
    assert_eq!(journal.data, "");
}
