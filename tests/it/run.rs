//! Runs a command that must go well. One that may fail is started by the test itself.

use std::process::{Command, Output};

/// Standard output of a program. A failure shows the command line and all that it said.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    said(&output, &format!("{program} {}", arguments.join(" ")))
}

/// Standard output of a command that has ended, without spaces and line ends around it.
#[track_caller]
pub fn ok(output: &Output) -> String {
    said(output, "the command").trim().to_owned()
}

#[track_caller]
fn said(output: &Output, what: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{what} ended with {}\n{stdout}{stderr}", output.status);
    stdout
}
