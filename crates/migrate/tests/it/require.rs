//! What some tests need of the machine. Such a test is ignored, with the part in its reason. When
//! it is run all the same (`--include-ignored`), a missing part is a failure that says how to get
//! it.

use std::process::{Command, Stdio};

#[track_caller]
pub fn missing(part: &str, how: &str) -> ! {
    panic!("this test needs {part}, missing here: {how}")
}

/// A command that must succeed on this machine.
#[track_caller]
pub fn require(command: &[&str]) {
    let mut program = Command::new(command[0]);
    program.args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null());
    if !program.status().is_ok_and(|status| status.success()) {
        missing(
            &format!("`{}` to succeed", command.join(" ")),
            "`scripts/setup --test` installs the programs; some need root",
        );
    }
}

#[track_caller]
pub fn require_root() {
    if !is_root() {
        missing("root", "run it as root, for it becomes another user");
    }
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}
