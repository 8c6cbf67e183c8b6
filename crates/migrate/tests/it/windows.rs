//! `migrate.exe` and real etcd servers for Windows, under wine. `ETCDIMG_WINDOWS_PROGRAMS` names
//! the folder that `cargo xtask windows-programs` makes; compiling it takes minutes, so
//! `scripts/test --all` runs this.
//!
//! wine is not Windows: docs/migrate.md says what this does not prove.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::directory::{Directory, free_port};
use crate::etcd::real;
use crate::events::{self, Events};
use crate::require::missing;

const DATA: &str = r"D:\a data directory";
const KEYS: usize = 20;
const PATIENCE: Duration = Duration::from_mins(3);
const LIBRARY: &str = "bcryptprimitives.dll";

/// A Windows of its own: drive C: has the programs, drive D: the data.
struct Wine {
    prefix: Directory,
    /// In ascending order.
    versions: Vec<String>,
}

impl Wine {
    #[track_caller]
    fn new() -> Self {
        let Some(programs) = env::var_os("ETCDIMG_WINDOWS_PROGRAMS").map(PathBuf::from) else {
            missing(
                "etcd for Windows",
                "ETCDIMG_WINDOWS_PROGRAMS=$(cargo xtask windows-programs) names it",
            )
        };
        let wine = Self { prefix: Directory::new(), versions: versions_in(&programs) };
        assert!(wine.versions.len() > 3, "{} holds too few versions", programs.display());
        let made = wine.command(&["wineboot", "--init"]).status();
        assert!(made.is_ok_and(|made| made.success()), "`scripts/real-parts install` brings wine");
        let drive = wine.drive_c();
        fs::create_dir_all(drive.join("usr/local/bin")).unwrap();
        for entry in fs::read_dir(&programs).unwrap() {
            let entry = entry.unwrap();
            let to = drive.join("usr/local/bin").join(entry.file_name());
            fs::copy(entry.path(), to).unwrap();
        }
        let library = drive.join("windows/system32").join(LIBRARY);
        if !library.exists() {
            fs::copy(programs.join(LIBRARY), library).unwrap();
        }
        fs::create_dir(wine.prefix.path("d")).unwrap();
        let letter = wine.prefix.path("wine/dosdevices/d:");
        let _ = fs::remove_file(&letter);
        std::os::unix::fs::symlink(wine.prefix.path("d"), letter).unwrap();
        wine
    }

    fn drive_c(&self) -> PathBuf {
        self.prefix.path("wine/drive_c")
    }

    fn data(&self) -> PathBuf {
        self.prefix.path("d/a data directory")
    }

    fn version_file(&self) -> String {
        fs::read_to_string(self.data().join("version.txt")).unwrap_or_default()
    }

    fn command(&self, words: &[&str]) -> Command {
        let wine = env::var_os("WINE").filter(|path| !path.is_empty());
        let mut command = Command::new(wine.unwrap_or("wine".into()));
        command.args(words).env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.prefix.0).env("WINEPREFIX", self.prefix.path("wine"));
        command.env("WINEDEBUG", "-all").current_dir(&self.prefix.0);
        // Without menus, a browser engine and .NET.
        command.env("WINEDLLOVERRIDES", "winemenubuilder.exe,mscoree,mshtml=");
        command
    }

    fn migrate(&self, to: &str, more: &[&str]) -> Command {
        let versions = self.versions.join(",");
        let mut command = self.command(&[r"C:\usr\local\bin\migrate.exe", "--data-dir", DATA]);
        command.args(["--target-version", to, "--target-storage", "etcd3", "--name", "m"]);
        command.args(["--bundled-versions", &versions]).args(more);
        // Tests run side by side.
        command.arg(format!("--port={}", free_port()));
        command.arg(format!("--listen-peer-urls=http://127.0.0.1:{}", free_port()));
        command.env("DO_NOT_MOVE_BINARIES", "true");
        command
    }

    #[track_caller]
    fn succeed(&self, to: &str, more: &[&str]) -> Events {
        let (code, events) = events::run(&mut self.migrate(to, more));
        assert_eq!(code, Some(0), "{events:?}");
        assert_eq!(self.version_file(), format!("{to}/etcd3"));
        events
    }

    fn start(&self, version: &str) -> Etcd<'_> {
        self.start_with(version, &[])
    }

    fn start_with(&self, version: &str, more: &[&str]) -> Etcd<'_> {
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let program = format!(r"C:\usr\local\bin\etcd-{version}.exe");
        let log = fs::File::create(self.prefix.path("server.log")).unwrap();
        let child = self
            .command(&[&program, "--data-dir", DATA, "--name=m"])
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{}", free_port()))
            .args(["--initial-cluster=m=http://localhost:2380", "--logger=zap"])
            .args(["--initial-advertise-peer-urls=http://localhost:2380"])
            .args(["--log-outputs=stderr"])
            .args(more)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let etcd = Etcd { wine: self, child, endpoint, version: version.to_owned() };
        etcd.wait();
        etcd
    }

    /// The running programs of this name. wine's own list of tasks is empty, but each is a process
    /// of Linux, too.
    fn running(&self, image: &str) -> Vec<String> {
        let prefix = format!("WINEPREFIX={}/wine\0", self.prefix.0.display());
        let read = |id: &str, file: &str| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{id}/{file}")).unwrap_or_default())
                .into_owned()
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let is_it = |id: &String| {
            let program = read(id, "cmdline").split('\0').next().unwrap_or_default().to_owned();
            program.ends_with(&format!("\\{image}")) && read(id, "environ").contains(&prefix)
        };
        ids.filter(is_it).collect()
    }

    /// Ends them at once, as `TerminateProcess` does.
    fn end(&self, image: &str) {
        for id in self.running(image) {
            let _ = Command::new("kill").args(["-9", &id]).status();
        }
        let _ = comes_true(|| self.running(image).is_empty());
    }

    /// What clients see, after a write and its removal.
    #[track_caller]
    fn check(&self, version: &str, expected: &str) {
        let etcd = self.start(version);
        assert_eq!(etcd.contents(), expected, "{version}");
        etcd.ctl(&["put", "/probe", "x"]);
        etcd.ctl(&["del", "/probe"]);
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        // Everything of this prefix, and of no other.
        let mut server = Command::new("wineserver");
        server.args(["-k", "-w"]).env("WINEPREFIX", self.prefix.path("wine"));
        let _ = server.stderr(Stdio::null()).status();
    }
}

fn versions_in(programs: &Path) -> Vec<String> {
    let entries = fs::read_dir(programs).unwrap().map(|entry| entry.unwrap().file_name());
    let version = |name: String| Some(name.strip_prefix("etcd-")?.strip_suffix(".exe")?.to_owned());
    let mut versions: Vec<_> =
        entries.filter_map(|name| version(name.into_string().ok()?)).collect();
    versions.sort();
    versions
}

/// A server for Windows. It is ended as Windows ends a program, without being asked.
struct Etcd<'a> {
    wine: &'a Wine,
    child: Child,
    endpoint: String,
    version: String,
}

impl Etcd<'_> {
    /// The client need not be one for Windows.
    fn try_ctl(&self, words: &[&str]) -> Option<String> {
        let real = real();
        let mut command = Command::new(real.program("etcdctl", real.version(6)));
        command.env_clear().args(["--endpoints", &self.endpoint]).args(words);
        let output = command.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    #[track_caller]
    fn ctl(&self, words: &[&str]) -> String {
        self.try_ctl(words).unwrap_or_else(|| panic!("{words:?} with {}", self.version))
    }

    fn wait(&self) {
        let log = || fs::read_to_string(self.wine.prefix.path("server.log")).unwrap();
        let is_up = || self.try_ctl(&["get", "none"]).is_some();
        assert!(comes_true(is_up), "{}: {}", self.version, log());
    }

    /// Every key with its revisions, and the revision of the store.
    #[track_caller]
    fn contents(&self) -> String {
        let text = self.ctl(&["get", "/registry", "--prefix", "-w=json"]);
        let (header, keys) = text.split_once("\"kvs\"").expect(&text);
        let revision = header.split("\"revision\":").nth(1).unwrap().split(',').next().unwrap();
        format!("{revision}{keys}")
    }
}

impl Drop for Etcd<'_> {
    fn drop(&mut self) {
        self.wine.end(&format!("etcd-{}.exe", self.version));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn comes_true(is_true: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !is_true() {
        if started.elapsed() > PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(100));
    }
    true
}

/// Data of the oldest version, and what is in it.
fn seed(wine: &Wine) -> String {
    let oldest = &wine.versions[0];
    wine.succeed(oldest, &[]);
    let etcd = wine.start(oldest);
    for key in 0..KEYS {
        etcd.ctl(&["put", &format!("/registry/{key}"), "value"]);
    }
    etcd.ctl(&["put", "/registry/0", "changed"]);
    etcd.ctl(&["del", "/registry/1"]);
    etcd.contents()
}

/// The complete copies.
fn copies(wine: &Wine) -> usize {
    let entries = fs::read_dir(wine.prefix.path("d/a data directory.bak")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("partial")).count()
}

#[test]
#[ignore = "needs wine and etcd for Windows"]
fn data_goes_up_and_back_on_windows() {
    let wine = Wine::new();
    let (oldest, newest) = (&wine.versions[0], wine.versions.last().unwrap());
    let contents = seed(&wine);
    let up = wine.succeed(newest, &[]);
    assert_eq!(up.started(), wine.versions[1..wine.versions.len() - 1]);
    assert!(up.has("verified"), "{up:?}");
    assert_eq!(copies(&wine), 1);
    wine.check(newest, &contents);
    // The probe has moved the revision on.
    let etcd = wine.start(newest);
    let contents = etcd.contents();
    drop(etcd);
    let down = wine.succeed(oldest, &["--allow-multi-step-downgrade"]);
    assert!(down.has("verified"), "{down:?}");
    let keys = |contents: &str| contents.split_once(':').unwrap().1.to_owned();
    let etcd = wine.start(oldest);
    assert_eq!(keys(&etcd.contents()), keys(&contents));
    etcd.ctl(&["put", "/probe", "y"]);
}

#[test]
#[ignore = "needs wine and etcd for Windows"]
fn a_killed_migrate_is_noticed_and_goes_on_on_windows() {
    let wine = Wine::new();
    let newest = wine.versions.last().unwrap();
    let contents = seed(&wine);
    let mut first = wine.migrate(newest, &[]);
    let mut child = first.stderr(Stdio::null()).spawn().unwrap();
    let second = format!("{}/etcd3", wine.versions[1]);
    assert!(comes_true(|| wine.version_file() == second));
    let of_the_next = format!("etcd-{}.exe", wine.versions[2]);
    assert!(comes_true(|| !wine.running(&of_the_next).is_empty()));
    wine.end("migrate.exe");
    let _ = child.kill();
    child.wait().unwrap();
    // Its server has nobody who asks it to stop, and nobody may touch the data as long as it runs.
    if !wine.running(&of_the_next).is_empty() {
        let (code, events) = events::run(&mut wine.migrate(newest, &[]));
        assert_eq!(code, Some(5), "{events:?}");
        let hints = events.error().hints;
        assert!(hints.iter().any(|hint| hint.contains("an earlier run has left")), "{hints:?}");
        wine.end(&of_the_next);
    }
    wine.succeed(newest, &[]);
    wine.check(newest, &contents);
}

#[test]
#[ignore = "needs wine and etcd for Windows"]
fn a_server_or_an_open_file_keeps_migrate_away_on_windows() {
    let wine = Wine::new();
    let newest = wine.versions.last().unwrap();
    let contents = seed(&wine);
    let etcd = wine.start(&wine.versions[0]);
    let (code, events) = events::run(&mut wine.migrate(newest, &[]));
    assert_eq!(code, Some(5), "{events:?}");
    drop(etcd);
    let log = wine.data().join("member/wal/0000000000000000-0000000000000000.wal");
    assert!(log.exists());
    let of_windows = format!(r"{DATA}\member\wal\0000000000000000-0000000000000000.wal");
    let reading = format!("etcdctl-{newest}.exe");
    let mut reader = hold(&wine, &log, &reading);
    let (code, events) = events::run(&mut wine.migrate(newest, &[]));
    assert_eq!(code, Some(5), "{events:?}");
    let said = events.error().message;
    assert!(said.contains(&of_windows) && said.contains("another process has"), "{said}");
    wine.end(&reading);
    let _ = reader.kill();
    reader.wait().unwrap();
    wine.succeed(newest, &[]);
    wine.check(newest, &contents);
}

/// A server that is terminated may have everything in its log alone, and a snapshot is made of the
/// database.
#[test]
#[ignore = "needs wine and etcd for Windows"]
fn what_only_the_log_has_is_not_lost_on_windows() {
    const KEEPS_ALL_BACK: &str = "--backend-batch-interval=1h";
    let wine = Wine::new();
    let [oldest, next] = [0, 1].map(|at| wine.versions[at].clone());
    seed(&wine);
    wine.succeed(&next, &[]);
    drop(wine.start(&next));
    let etcd = wine.start_with(&next, &[KEEPS_ALL_BACK]);
    etcd.ctl(&["put", "/registry/late", "value"]);
    drop(etcd);
    wine.succeed(&oldest, &["--etcd-server-extra-args", KEEPS_ALL_BACK]);
    let etcd = wine.start(&oldest);
    assert!(etcd.ctl(&["get", "/registry/late"]).contains("value"));
}

/// Lets a program that waits for ever have a file open, as programs on Windows mostly do: so that
/// nobody can move it meanwhile.
fn hold(wine: &Wine, file: &Path, image: &str) -> Child {
    let name = file.file_name().unwrap().to_str().unwrap();
    let line =
        format!(r"C:\usr\local\bin\{image} --endpoints=http://127.0.0.1:1 watch none <{name}");
    let mut command = wine.command(&["cmd", "/c", &line]);
    command.current_dir(file.parent().unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    assert!(comes_true(|| !wine.running(image).is_empty()));
    child
}
