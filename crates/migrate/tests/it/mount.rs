//! Small file systems for one test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Taken away when dropped, so it has to be declared after the directory it lies in.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts with the words of mount(8); says so when it may not.
    pub fn new(words: &[&str], at: &Path, test: &str) -> Option<Self> {
        let output = root("mount").args(words).arg(at).output();
        if output.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("skipped: {test} cannot mount {words:?}: {}", reason(output));
        None
    }

    pub fn tmpfs(options: &str, at: &Path, test: &str) -> Option<Self> {
        let options = format!("mode=1777,{options}");
        Self::new(&["-t", "tmpfs", "-o", &options, "tmpfs"], at, test)
    }

    /// A part of the tree that cannot be written to.
    pub fn read_only(at: &Path, test: &str) -> Option<Self> {
        let mount = Self::new(&["--bind", at.to_str()?], at, test)?;
        mount.remount("bind,ro");
        Some(mount)
    }

    /// A file system that shares blocks between files, in a file.
    pub fn xfs(image: &Path, at: &Path, test: &str) -> Option<Self> {
        let file = std::fs::File::create(image).unwrap();
        file.set_len(1 << 30).unwrap();
        let output = Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(image).output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            println!("skipped: {test} needs mkfs.xfs: {}", reason(output));
            return None;
        }
        let mount = Self::new(&["-o", "loop", image.to_str()?], at, test)?;
        assert!(root("chmod").arg("1777").arg(at).status().unwrap().success());
        Some(mount)
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

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    command
}

fn reason(output: std::io::Result<Output>) -> String {
    match output {
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    }
}
