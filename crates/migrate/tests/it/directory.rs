//! A directory for one test, with the program to run on it.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use crate::schema::STATUS;

pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("migrate-it-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn version(&self) -> String {
        fs::read_to_string(self.path("data/version.txt")).unwrap_or_default()
    }

    /// What `migrate status --json` says of `data`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
        command.args(["status", "--json", "--data-dir"]).arg(self.path("data"));
        let (code, stdout, stderr) = outcome(&command.output().unwrap());
        assert_eq!(code, Some(0), "{stderr}");
        STATUS.read(&stdout)
    }

    /// `migrate` on `data` with an otherwise empty environment.
    pub fn command(&self, target: &str, bin_dir: &Path) -> Command {
        self.command_under(&[], target, bin_dir)
    }

    /// The same, started by another program: `strace`, `prlimit`, `unshare`.
    pub fn command_under(&self, wrapper: &[&str], target: &str, bin_dir: &Path) -> Command {
        let program = env!("CARGO_BIN_EXE_migrate");
        self.command_in_place_of(&[wrapper, &[program]].concat(), target, bin_dir)
    }

    /// The same with another copy of the program, as the last of the words.
    pub fn command_in_place_of(&self, words: &[&str], target: &str, bin_dir: &Path) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.env_clear().env("ETCD_NAME", "m").env("DO_NOT_MOVE_BINARIES", "true");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("DATA_DIRECTORY", self.path("data"));
        command.env("TARGET_VERSION", target).env("TARGET_STORAGE", "etcd3");
        // Tests run side by side.
        command.env("LISTEN_PEER_URLS", format!("http://127.0.0.1:{}", free_port()));
        command.arg(format!("--port={}", free_port())).arg("--bin-dir").arg(bin_dir);
        command
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Below the ports that the kernel gives to connections, and never the same twice.
pub fn free_port() -> u16 {
    const RANGE: u16 = 20_000;
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 97).unwrap() * 200;
    let mut ports = std::iter::from_fn(|| {
        let count = COUNT.fetch_add(1, Ordering::Relaxed) % RANGE;
        Some(10_000 + (start + count) % RANGE)
    });
    // Nobody listens there. Listening to find out would lend the port to every process that is
    // started meanwhile.
    ports.find(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()).unwrap()
}

/// Exit code, stdout, stderr.
pub fn outcome(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
