//! What some tests need on the machine. Such a test is ignored, and its reason names the part. When
//! it is run with `--include-ignored`, a missing part is a failure that says how to get it.

use std::env;
use std::process::{Command, Stdio};

#[track_caller]
pub fn missing(part: &str, how: &str) -> ! {
    panic!("this test needs {part}, missing here: {how}")
}

/// A part that `scripts/real-parts run` names in the environment.
#[track_caller]
pub fn part(name: &str) -> String {
    match env::var(name) {
        Ok(part) if !part.is_empty() => part,
        _ => missing(name, "`scripts/real-parts run COMMAND…` provides it"),
    }
}

/// The engine, the registry and the tools of `scripts/real-parts run`.
#[track_caller]
pub fn real_parts() {
    part("ETCDIMG_REAL");
}

/// A command that must succeed on this machine.
#[track_caller]
pub fn program(command: &[&str]) {
    if !succeeds(command) {
        missing(
            &format!("`{}` to succeed", command.join(" ")),
            "`scripts/setup --test` installs the programs; some need root",
        );
    }
}

#[track_caller]
pub fn root() {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        missing("root", "run it as root, for it mounts or becomes another user");
    }
}

/// Programs of another platform: by qemu, or by the machine itself.
#[track_caller]
pub fn emulator(platform: &str) {
    if platform != "linux/amd64"
        && !part("ETCDIMG_TEST_EMULATED").split(' ').any(|it| it == platform)
    {
        missing(&format!("an emulator for {platform}"), "`scripts/real-parts run` registers qemu");
    }
}

/// A browser that draws pages without a screen.
#[track_caller]
pub fn browser() -> &'static str {
    const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
    let found = NAMES.into_iter().find(|name| succeeds(&[name, "--version"]));
    found.unwrap_or_else(|| missing("a browser", "install chromium or Google Chrome"))
}

fn succeeds(command: &[&str]) -> bool {
    let mut program = Command::new(command[0]);
    program.args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null());
    program.status().is_ok_and(|status| status.success())
}
