//! Small file systems for one test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::require::{is_root, missing};

/// Taken away when dropped, so it has to be declared after the directory it lies in.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts with the words of mount(8).
    #[track_caller]
    pub fn new(words: &[&str], at: &Path) -> Self {
        run(root("mount").args(words).arg(at), "run it as root, or with sudo without a password");
        Self(at.to_owned())
    }

    #[track_caller]
    pub fn tmpfs(options: &str, at: &Path) -> Self {
        let options = format!("mode=1777,{options}");
        Self::new(&["-t", "tmpfs", "-o", &options, "tmpfs"], at)
    }

    /// A part of the tree that cannot be written to.
    #[track_caller]
    pub fn read_only(at: &Path) -> Self {
        let mount = Self::new(&["--bind", at.to_str().unwrap()], at);
        mount.remount("bind,ro");
        mount
    }

    /// A file system that shares blocks between files, in a file.
    #[track_caller]
    pub fn xfs(image: &Path, at: &Path) -> Self {
        let file = std::fs::File::create(image).unwrap();
        file.set_len(1 << 30).unwrap();
        let mut mkfs = Command::new("mkfs.xfs");
        mkfs.args(["-q", "-m", "reflink=1"]).arg(image);
        run(&mut mkfs, "`scripts/setup --test` installs xfsprogs; it is in /usr/sbin");
        let mount = Self::new(&["-o", "loop", image.to_str().unwrap()], at);
        assert!(root("chmod").arg("1777").arg(at).status().unwrap().success());
        mount
    }

    pub fn remount(&self, options: &str) {
        assert!(self.try_remount(options), "cannot remount with {options}");
    }

    fn try_remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        let output = root("mount").args(["-o", &options]).arg(&self.0).output();
        output.unwrap().status.success()
    }

    /// Leaves so many KiB beyond what is used in this moment, while others write.
    pub fn leave(&self, kilobytes: u64) {
        let shrinks = (0..100).any(|_| {
            let output = Command::new("df").args(["--output=used", "-k"]).arg(&self.0).output();
            let text = String::from_utf8(output.unwrap().stdout).unwrap();
            let used: u64 = text.lines().last().unwrap().trim().parse().unwrap();
            self.try_remount(&format!("size={}k", used + kilobytes))
        });
        assert!(shrinks, "{} grows too fast", self.0.display());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = root("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    command
}

#[track_caller]
fn run(command: &mut Command, how: &str) {
    let reason = match command.output() {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    missing(&format!("{command:?} to succeed ({reason})"), how);
}
