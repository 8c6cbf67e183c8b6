//! A directory for one test, with the program to run on it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

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

    /// `migrate` on `data` with an otherwise empty environment.
    pub fn command(&self, target: &str, bin_dir: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
        command.env_clear().env("ETCD_NAME", "m").env("DO_NOT_MOVE_BINARIES", "true");
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

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Exit code, stdout, stderr.
pub fn outcome(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
