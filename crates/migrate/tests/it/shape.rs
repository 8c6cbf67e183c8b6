//! Data directories whose parts lie elsewhere: links, mounts, `--wal-dir`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::directory::Directory;
use crate::etcd::{Etcd, Real, Seed};
use crate::mount::Mount;

/// How one part of a data directory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A link to a directory on another disk.
    Link(&'static str),
    /// A file system of its own.
    Tmpfs(&'static str),
    /// The same file system, mounted a second time.
    Bind(&'static str),
    /// The log is in another directory, as an argument for etcd says.
    WalDirArgument,
    /// The same, as a variable says.
    WalDirVariable,
}

pub const SHAPES: [Shape; 9] = [
    Shape::Link("member"),
    Shape::Link("member/wal"),
    Shape::Link("member/snap"),
    Shape::Tmpfs("member/wal"),
    Shape::Tmpfs("member"),
    Shape::Bind("member/snap"),
    Shape::Bind("member"),
    Shape::WalDirArgument,
    Shape::WalDirVariable,
];

/// A copy of a seed in a shape. What is mounted goes before the directory that it lies in.
pub struct Shaped {
    mount: Option<Mount>,
    shape: Shape,
    pub directory: Directory,
}

impl Shaped {
    pub fn new(seed: &Seed, shape: Shape) -> Self {
        let directory = seed.copy();
        fs::create_dir(directory.path("disk")).unwrap();
        let mount = arrange(&directory, shape);
        Self { mount, shape, directory }
    }

    /// Where the files of the part really are.
    pub fn elsewhere(&self) -> PathBuf {
        self.directory.path("disk/part")
    }

    pub fn wal_dir(&self) -> Option<PathBuf> {
        let is_apart = matches!(self.shape, Shape::WalDirArgument | Shape::WalDirVariable);
        is_apart.then(|| self.elsewhere())
    }

    pub fn command(&self, wrapper: &[&str], to: &str, real: &Real) -> Command {
        let mut command = self.directory.command_under(wrapper, to, &real.bin_dir);
        let wal_dir = self.elsewhere();
        match self.shape {
            Shape::WalDirArgument => {
                let argument = format!("--wal-dir={}", wal_dir.display());
                // An argument of etcd comes before its variable.
                command.env("ETCD_CREDS", argument).env("ETCD_WAL_DIR", "/no/such/directory");
            }
            Shape::WalDirVariable => drop(command.env("ETCD_WAL_DIR", wal_dir)),
            Shape::Link(_) | Shape::Tmpfs(_) | Shape::Bind(_) => {}
        }
        command
    }

    pub fn start(&self, real: &Real, version: &str) -> Etcd {
        let flag = self.wal_dir().map(|path| format!("--wal-dir={}", path.display()));
        let more: Vec<_> = flag.as_deref().into_iter().collect();
        real.spawn_member(&self.directory, version, &more).ready(&self.directory)
    }

    /// Links are links, mounts are mounts, each with the data of its part, and there is nothing
    /// else.
    #[track_caller]
    pub fn check(&mut self, what: &str) {
        let data = self.directory.path("data");
        for path in below(&self.directory.0) {
            assert!(!path.ends_with(".migrate-swap"), "{what}: {}", path.display());
        }
        for name in ["restored", "staged", "replaced", "swap"] {
            assert!(!data.join(".migrate").join(name).exists(), "{what}: {name}");
        }
        match self.shape {
            Shape::Link(part) => {
                assert_eq!(fs::read_link(data.join(part)).unwrap(), self.elsewhere(), "{what}");
                assert_has_data(&self.elsewhere(), part, what);
            }
            Shape::Bind(part) => {
                assert_has_data(&self.elsewhere(), part, what);
                self.check_beneath(&data.join(part), what);
            }
            Shape::Tmpfs(part) => {
                assert_has_data(&data.join(part), part, what);
                self.check_beneath(&data.join(part), what);
            }
            Shape::WalDirArgument | Shape::WalDirVariable => {
                assert_has_data(&self.elsewhere(), "member/wal", what);
                assert!(!data.join("member/wal").exists(), "{what}");
            }
        }
    }

    /// Takes the mount away, beneath which nothing may have been written.
    #[track_caller]
    fn check_beneath(&mut self, place: &Path, what: &str) {
        let mounted = fs::read_dir(place).unwrap().count();
        assert!(mounted > 0, "{what}: the volume is empty");
        self.mount = None;
        let left: Vec<_> = fs::read_dir(place).unwrap().collect();
        assert_eq!(left.len(), 0, "{what}: it was not a mount point any more: {left:?}");
    }
}

fn arrange(directory: &Directory, shape: Shape) -> Option<Mount> {
    let elsewhere = directory.path("disk/part");
    let moved = |part: &str| {
        let path = directory.path("data").join(part);
        fs::rename(&path, &elsewhere).unwrap();
        path
    };
    match shape {
        Shape::Link(part) => {
            symlink(&elsewhere, moved(part)).unwrap();
            None
        }
        Shape::Bind(part) => {
            let place = moved(part);
            fs::create_dir(&place).unwrap();
            Some(Mount::new(&["--bind", elsewhere.to_str().unwrap()], &place))
        }
        Shape::Tmpfs(part) => {
            let place = moved(part);
            fs::create_dir(&place).unwrap();
            let mount = Mount::tmpfs("size=2g", &place);
            let mut copy = Command::new("cp");
            copy.args(["-a", "--sparse=always", "-T"]).arg(&elsewhere).arg(&place);
            assert!(copy.status().unwrap().success());
            fs::remove_dir_all(&elsewhere).unwrap();
            Some(mount)
        }
        Shape::WalDirArgument | Shape::WalDirVariable => {
            moved("member/wal");
            None
        }
    }
}

#[track_caller]
fn assert_has_data(place: &Path, part: &str, what: &str) {
    let paths = below(place);
    let has = |name: &str| paths.iter().any(|path| path.to_str().unwrap().ends_with(name));
    let is_there = match part {
        "member/wal" => has(".wal"),
        "member/snap" => has("/db"),
        _ => has("/snap/db") && has(".wal"),
    };
    assert!(is_there, "{what}: {} does not hold {part}", place.display());
}

/// Everything below a directory; links are not followed.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            paths.extend(below(&path));
        }
        paths.push(path);
    }
    paths
}
