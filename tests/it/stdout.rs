//! Standard output whose reader ends early, as `head` does.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::fetch::ui;

/// Starts itself again: the end of the reader ends the whole process.
#[test]
fn a_reader_that_leaves_is_no_error() {
    if std::env::var_os("ETCDIMG_TEST_STDOUT").is_some() {
        let ui = ui();
        for line in 0..1_000_000 {
            ui.out(format!("line {line}"));
        }
        panic!("the reader has left, but the process goes on");
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stdout::a_reader_that_leaves_is_no_error"])
        .env("ETCDIMG_TEST_STDOUT", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "line 7"));
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
