//! Packages of this machine's own distribution.

use std::fs;

use crate::command::{Cmd, find};
use crate::error::{Result, TaskError};
use crate::workspace::say;

/// Installs packages, and says so.
pub fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !is_here() {
        return Err(TaskError::new(format!(
            "this system has no apt, and these are missing: {names}"
        ))
        .hint("install them by your own means and run this again"));
    }
    say(format_args!("installing with apt: {names}"));
    if Cmd::root("apt-get").args(["-q", "update"]).run().is_err() {
        crate::interrupt::check()?;
        say("apt-get update failed; using the package lists that are already here");
    }
    Cmd::root("env")
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "install"])
        .arg("--no-install-recommends")
        .args(packages)
        .run()
}

pub fn is_here() -> bool {
    find("apt-get").is_some()
}

/// This machine's architecture, as Debian calls it.
pub fn architecture() -> Result<String> {
    Cmd::new("dpkg").arg("--print-architecture").text()
}

/// A value of /etc/os-release; `None` if the file does not have it.
pub fn os_release(key: &str) -> Option<String> {
    value(&fs::read_to_string("/etc/os-release").ok()?, key)
}

/// The suite of this machine, which Debian's codename is.
pub fn suite() -> Result<String> {
    os_release("VERSION_CODENAME").ok_or_else(|| {
        TaskError::new("/etc/os-release does not name the suite of this system")
            .hint("use --suite, as in --suite bookworm")
    })
}

fn value(text: &str, key: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once('='));
    let found = values.into_iter().find(|(name, _)| *name == key)?;
    Some(found.1.trim_matches('"').to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_with_quotes_or_without() {
        let text = "NAME=\"Some Linux\"\nID=debian\nVERSION_CODENAME=bookworm\nEMPTY=\n";
        assert_eq!(value(text, "ID").as_deref(), Some("debian"));
        assert_eq!(value(text, "NAME").as_deref(), Some("Some Linux"));
        assert_eq!(value(text, "EMPTY"), None);
        assert_eq!(value(text, "VERSION"), None);
    }
}
