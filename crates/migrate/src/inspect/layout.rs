//! Where the parts of a data directory really lie. `member`, the database in `member/snap` and the
//! log in `member/wal` may be links or mount points, and with `--wal-dir` the log is somewhere
//! else.
//!
//! Everything that reads, copies, replaces or counts the data goes by it. Changes nothing.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::mounts;

/// The directory of this program inside of a part that cannot be renamed, on the file system of
/// that part.
pub const WORK_DIR: &str = ".migrate-swap";

/// The paths by which etcd finds its data. They need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataLayout {
    pub data_dir: PathBuf,
    pub member: PathBuf,
    /// The database and the raft snapshots.
    pub snap: PathBuf,
    /// The write-ahead log.
    pub wal: PathBuf,
}

/// A part of `member` whose content a downgrade by snapshot replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Snap,
    Wal,
}

/// How a part lies in the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A directory, or nothing yet.
    Plain,
    /// A link, and what it leads to.
    Link(PathBuf),
    MountPoint,
    /// `--wal-dir` names another directory.
    Apart,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("is a directory"),
            Self::Link(target) => write!(f, "is a link to {}", target.display()),
            Self::MountPoint => f.write_str("is a mount point"),
            Self::Apart => f.write_str("holds the log, as --wal-dir says"),
        }
    }
}

impl Part {
    pub const ALL: [Self; 2] = [Self::Snap, Self::Wal];

    /// The directory of this part below `member`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snap => "snap",
            Self::Wal => "wal",
        }
    }

    /// Whether etcd has written an entry of this name. Everything else belongs to somebody else.
    pub fn is_of_etcd(self, name: &OsStr) -> bool {
        let name = name.to_string_lossy();
        match self {
            Self::Snap => {
                name == "db"
                    || name.contains(".snap") && !name.starts_with('.')
                    || name.starts_with("tmp")
                    || name.starts_with("db.tmp")
            }
            Self::Wal => {
                [".wal", ".tmp", ".broken"].iter().any(|suffix| name.ends_with(suffix))
                    && !name.starts_with('.')
            }
        }
    }
}

impl DataLayout {
    /// `wal_dir` is what the operator says by `--wal-dir`.
    pub fn of(data_dir: &Path, wal_dir: Option<&Path>) -> Self {
        let member = data_dir.join("member");
        let own = member.join(Part::Wal.name());
        let wal = wal_dir.filter(|given| !leads_to_same(given, &own)).unwrap_or(&own);
        Self {
            data_dir: data_dir.to_owned(),
            snap: member.join(Part::Snap.name()),
            wal: wal.to_owned(),
            member,
        }
    }

    pub fn db(&self) -> PathBuf {
        self.snap.join("db")
    }

    pub fn directory(&self, part: Part) -> &Path {
        match part {
            Part::Snap => &self.snap,
            Part::Wal => &self.wal,
        }
    }

    /// Whether the log is not in `member`, as `--wal-dir` says.
    pub fn has_log_apart(&self) -> bool {
        self.wal != self.member.join(Part::Wal.name())
    }

    /// The parts that are not plain directories.
    pub fn unusual(&self) -> Vec<(&Path, Shape)> {
        let parts = [&*self.member, &*self.snap, &*self.wal];
        let shapes = parts.into_iter().map(|path| (path, self.shape(path)));
        shapes.filter(|(_, shape)| *shape != Shape::Plain).collect()
    }

    /// Whether `member` can be replaced by renaming it: all parts are plain directories, and
    /// nothing is mounted below, which would move along and be removed.
    pub fn can_be_renamed(&self) -> bool {
        self.unusual().is_empty() && mounts::below(&self.member).is_empty()
    }

    /// What etcd has written, for whoever does not follow links: `member`, and the entries of parts
    /// that lie elsewhere.
    pub fn written_by_etcd(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = fs::canonicalize(&self.member).into_iter().collect();
        for part in Part::ALL {
            let directory = self.directory(part);
            if self.shape(directory) != Shape::Plain {
                paths.extend(part_entries(part, directory).unwrap_or_default());
            }
        }
        paths
    }

    /// How a part lies.
    pub fn shape(&self, path: &Path) -> Shape {
        if path == self.wal && self.has_log_apart() {
            return Shape::Apart;
        }
        shape(path)
    }

    /// An error if a part is a link that leads nowhere: an etcd would start without that part.
    pub fn refuse_broken_links(&self) -> Result<(), MigrateError> {
        for (path, shape) in self.unusual() {
            if !matches!(shape, Shape::Link(_)) || path.exists() {
                continue;
            }
            let what = format_args!("{} {shape}, which is not there", path.display());
            return Err(MigrateError::new(MigrateErrorKind::NotMigratable, what)
                .hint("is the volume that it leads to mounted?"));
        }
        Ok(())
    }

    /// An error if the content of the parts cannot be replaced without touching what is not ours: a
    /// link or a mount in the place of a file of etcd.
    pub fn refuse_to_replace(&self) -> Result<(), MigrateError> {
        let hint =
            "make it a file again while no etcd runs, or restore a snapshot of the older version";
        if leads_to_same(&self.snap, &self.wal) {
            let what =
                format!("{} and {} are one directory", self.snap.display(), self.wal.display());
            return Err(MigrateError::new(MigrateErrorKind::NotMigratable, what)
                .hint("give the log a directory of its own"));
        }
        for part in Part::ALL {
            let directory = self.directory(part);
            let failed = |error| MigrateError::file("read", directory, &error);
            for path in part_entries(part, directory).map_err(failed)? {
                let shape = shape(&path);
                if shape == Shape::Plain {
                    continue;
                }
                let what = format_args!(
                    "{} {shape}: a downgrade by snapshot cannot replace it so that a kill loses \
                     nothing",
                    path.display()
                );
                return Err(MigrateError::new(MigrateErrorKind::NotMigratable, what).hint(hint));
            }
        }
        Ok(())
    }
}

/// What etcd has written into the directory of a part.
pub fn part_entries(part: Part, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if part.is_of_etcd(&entry.file_name()) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

fn shape(path: &Path) -> Shape {
    match fs::read_link(path) {
        Ok(target) => Shape::Link(target),
        Err(_) if mounts::is_mount_point(path) => Shape::MountPoint,
        Err(_) => Shape::Plain,
    }
}

fn leads_to_same(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one)
            .is_ok_and(|real| fs::canonicalize(other).is_ok_and(|it| it == real))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
