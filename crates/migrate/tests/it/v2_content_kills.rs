//! `migrate` is killed while it converts content of the v2 API; the next run has the same result as
//! one that was not disturbed.
//!
//! `ETCDIMG_REAL_KILLS` is the number of kills, as in `kills.rs`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::directory::Directory;
use crate::etcd::{Seed, amount, real, side_by_side, spread, succeed};
use crate::require::require;
use crate::v2_content::{check_keys, check_leases, content};

/// The calls from the first request that writes to the last: `sendto` and which one it is. Before
/// and after them a server is only asked how it is, which other tests disturb.
fn requests(log: &str) -> Vec<usize> {
    let sent: Vec<_> = log.lines().filter(|line| line.starts_with("sendto(")).collect();
    let writes = |line: &&str| line.contains("\"POST") || line.contains("\"DELETE");
    let first = sent.iter().position(writes).expect("there are requests that write");
    let last = sent.iter().rposition(writes).expect("there are requests that write");
    // `strace` counts from 1, and one more is behind the last one.
    (first + 1..=last + 2).collect()
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_kill_between_any_two_requests_changes_nothing_in_the_result() {
    let real = real();
    require(&["strace", "-o", "/dev/null", "true"]);
    let [from, to] = [5, 6].map(|minor| real.version(minor));
    let content = content(real, from, &[]);
    let converted = content.converted;
    let seed = Seed { directory: content.directory, contents: String::new() };
    let command = |directory: &Directory, wrapper: &[&str]| -> Command {
        let mut command = directory.command_under(wrapper, to, &real.bin_dir);
        command.arg("--v2-content=convert");
        command
    };
    let directory = seed.copy();
    let log = directory.path("calls");
    let wrapper = ["strace", "-qq", "-o", log.to_str().unwrap(), "-e", "trace=sendto", "-s", "8"];
    succeed(&directory, &mut command(&directory, &wrapper), to);
    let all = requests(&fs::read_to_string(log).unwrap());
    assert!(all.len() > 10, "only {} requests", all.len());
    let kills = amount("ETCDIMG_REAL_KILLS", 6);
    let chosen = if kills >= 300 { all.clone() } else { spread(&all, kills) };
    let survived = AtomicUsize::new(0);
    side_by_side(&chosen, |count| {
        let directory = seed.copy();
        let inject = format!("inject=sendto:signal=KILL:when={count}");
        let wrapper = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", &inject];
        let output = command(&directory, &wrapper).output().unwrap();
        // A run may have asked its server less often than the one that was counted.
        survived.fetch_add(usize::from(output.status.signal() == Some(9)), Ordering::Relaxed);
        succeed(&directory, &mut command(&directory, &[]), to);
        let etcd = real.start(&directory, to);
        check_keys(&etcd, &converted);
        check_leases(&etcd);
    });
    let survived = survived.into_inner();
    println!("{survived} kills survived, of {} requests", all.len());
    assert!(survived * 2 >= chosen.len(), "only {survived} of {} happened", chosen.len());
}
