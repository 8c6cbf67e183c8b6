//! Reads a data directory: its database and `version.txt`.
//!
//! Starts nothing and changes nothing. Does not decide what to do about it.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::tree;
use crate::inspect::layout::DataLayout;
use crate::inspect::member_data::{self, MemberData};
use crate::inspect::raft_snapshot;
use crate::inspect::version_pair::{Storage, VersionPair};

/// The directory of this program, with its lock and its journal. It is inside the data directory,
/// because that may be a mount point on a read-only root file system.
pub const STATE_DIR: &str = ".migrate";

/// Entries of a directory that still counts as empty: those of a new file system, our own, and the
/// certificates that etcd writes (`--peer-auto-tls`) before it makes `member`.
const IGNORED: &[&str] = &[
    tree::LOST_AND_FOUND,
    "System Volume Information",
    "$RECYCLE.BIN",
    "version.txt",
    "version.txt-next",
    "fixtures",
];

/// A data directory as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DataDir {
    pub contents: DataDirContents,
    /// What `version.txt` says; `None` if it is missing or empty.
    pub file: Option<VersionPair>,
    /// Whether this program has worked here. If not, `version.txt` may be of the old image, which
    /// recorded the next minor version whatever the version of the data was.
    pub is_ours: bool,
}

/// What kind of data there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum DataDirContents {
    /// No etcd has started here: the directory is missing or counts as empty.
    #[default]
    Empty,
    /// A write-ahead log without a v3 database.
    Etcd2,
    /// A v3 database with its write-ahead log.
    Etcd3(Box<MemberData>),
}

/// Reads a data directory, which need not exist.
pub fn read(layout: &DataLayout) -> Result<DataDir, MigrateError> {
    let data_dir = &*layout.data_dir;
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DataDir::default()),
        Err(error) => return Err(MigrateError::file("read the data directory", data_dir, &error)),
    };
    let mut is_fresh = true;
    for entry in entries {
        let path = entry.map_err(|error| MigrateError::file("read", data_dir, &error))?.path();
        // Of an etcd that has not started yet, too.
        let is_for_log = layout.has_log_apart() && layout.wal.starts_with(&path);
        is_fresh &= is_ignored(&path) || is_for_log;
    }
    let file = read_version_file(data_dir)?;
    let contents = if is_fresh {
        refuse_set_aside(data_dir)?;
        refuse_log_alone(layout)?;
        DataDirContents::Empty
    } else {
        look_at_member(layout, file.as_ref())?
    };
    let is_ours = data_dir.join(STATE_DIR).join("lock").exists();
    Ok(DataDir { contents, file, is_ours })
}

/// Whether an entry does not count. Hidden entries such as `.snapshot` belong to a file system or
/// a volume, unless they are data directories themselves.
fn is_ignored(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let is_hidden = name.as_encoded_bytes().starts_with(b".") && !path.join("member").exists();
    is_hidden || IGNORED.iter().any(|known| name == *known)
}

/// Whether a file in `member/snap` is half a file that an etcd left when it was killed. etcd
/// removes it or passes it over.
pub fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_in_snap = path.parent().and_then(Path::file_name).is_some_and(|parent| parent == "snap");
    let is_half =
        name.starts_with("tmp") || name.starts_with("db.tmp") || name.ends_with(".snap.broken");
    is_in_snap && is_half && !path.is_dir()
}

/// An error if there is no `member`, but the data that a downgrade had moved away is still there:
/// it is the only data then.
fn refuse_set_aside(data_dir: &Path) -> Result<(), MigrateError> {
    let replaced = data_dir.join(STATE_DIR).join("replaced");
    if !replaced.exists() {
        return Ok(());
    }
    let what = format_args!("{} holds data, and there is no `member`", replaced.display());
    let hint = "move it to `member`, or remove it to start with no data";
    Err(MigrateError::new(MigrateErrorKind::NotMigratable, what).hint(hint))
}

/// An error if there is nothing but a log, in the place that `--wal-dir` names.
fn refuse_log_alone(layout: &DataLayout) -> Result<(), MigrateError> {
    if !layout.has_log_apart() || !has_wal(&layout.wal)? {
        return Ok(());
    }
    let (wal, data_dir) = (layout.wal.display(), layout.data_dir.display());
    let what = format_args!("{wal} holds a log, as --wal-dir says, and {data_dir} no database");
    Err(MigrateError::new(MigrateErrorKind::NotMigratable, what)
        .hint("is the volume the right one? the log of another member does not fit"))
}

/// An error if `--wal-dir` names a place without a log, and the log is in `member/wal`.
fn refuse_other_log(layout: &DataLayout) -> Result<(), MigrateError> {
    let inside = layout.member.join("wal");
    if !layout.has_log_apart() || !has_wal(&inside)? {
        return Ok(());
    }
    let what = format_args!(
        "the log is in {}, and {}, which --wal-dir names, has none",
        inside.display(),
        layout.wal.display()
    );
    Err(MigrateError::new(MigrateErrorKind::NotMigratable, what)
        .hint("move all files of the log there while no etcd runs, or leave --wal-dir away"))
}

fn look_at_member(
    layout: &DataLayout,
    file: Option<&VersionPair>,
) -> Result<DataDirContents, MigrateError> {
    let refuse = |what: &str| MigrateError::new(MigrateErrorKind::NotMigratable, what);
    layout.refuse_broken_links()?;
    let data_dir = &layout.data_dir;
    let db = layout.db();
    if db.is_file() && has_wal(&layout.wal)? {
        return Ok(DataDirContents::Etcd3(Box::new(member_data::read(layout)?)));
    }
    if has_wal(&layout.wal)? {
        return match file {
            Some(pair) if pair.storage == Storage::Etcd3 => {
                Err(refuse(&format!("the database {} is missing", db.display()))
                    .hint("restore a copy or a snapshot: the log alone does not have all keys"))
            }
            _ => Ok(DataDirContents::Etcd2),
        };
    }
    if !layout.member.exists() {
        let others = foreign_entries(data_dir)?;
        let what =
            format!("{} is not an etcd data directory: it holds {others}", data_dir.display());
        return Err(refuse(&what)
            .hint("is the volume the right one? etcd's data is in a directory `member`"));
    }
    refuse_other_log(layout)?;
    if has_raft_snapshots(&layout.snap)? || !is_unused(&db)? {
        return Err(refuse(&format!(
            "{} has a database but no write-ahead log: an etcd would start as a new, empty cluster",
            data_dir.display()
        ))
        .hint("if this is a copied database, restore it with `etcdutl snapshot restore` instead")
        .hint("if the log is elsewhere, say so: `--wal-dir` or ETCD_WAL_DIR"));
    }
    // The first start of a new etcd has failed, and etcd starts here as if nothing had been.
    Ok(DataDirContents::Empty)
}

/// Whether a database is missing, empty, or one in which no etcd has stored anything.
fn is_unused(db: &Path) -> Result<bool, MigrateError> {
    match fs::metadata(db) {
        Ok(metadata) if metadata.len() == 0 => Ok(true),
        Ok(_) => Ok(member_data::read_db(db)?.is_unused()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(MigrateError::file("read", db, &error)),
    }
}

fn has_raft_snapshots(snap_dir: &Path) -> Result<bool, MigrateError> {
    match raft_snapshot::names(snap_dir) {
        Ok(names) => Ok(!names.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(MigrateError::file("read", snap_dir, &error)),
    }
}

/// The first entries of a directory that do not belong to etcd, as a list for people.
fn foreign_entries(data_dir: &Path) -> Result<String, MigrateError> {
    const SHOWN: usize = 5;
    let entries = fs::read_dir(data_dir)
        .map_err(|error| MigrateError::file("read the data directory", data_dir, &error))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut names: Vec<_> = paths
        .filter(|path| !is_ignored(path))
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("`{}`", name.escape_debug())
        })
        .collect();
    names.sort();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let listed = names.join(", ");
    Ok(if more == 0 { listed } else { format!("{listed} and {more} more") })
}

fn has_wal(directory: &Path) -> Result<bool, MigrateError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(MigrateError::file("read", directory, &error)),
    };
    let mut paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths.any(|path| path.extension().is_some_and(|extension| extension == "wal")))
}

/// Reads `version.txt`; `None` if it is missing or empty.
pub fn read_version_file(data_dir: &Path) -> Result<Option<VersionPair>, MigrateError> {
    let path = data_dir.join("version.txt");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(MigrateError::file("read", &path, &error)),
    };
    // A version is shorter than this, and the text may be printed in an error.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(128)]);
    if text.trim().is_empty() {
        // The old image left an empty file when the disk was full.
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: String| {
        MigrateError::new(
            MigrateErrorKind::NotMigratable,
            format_args!(
                "failed to parse etcd '<version>/<storage-version>' string from version.txt file \
                 contents '{}': {error}",
                text.trim().escape_debug()
            ),
        )
        .hint("remove version.txt, and the version is read from the data")
    })
}

#[cfg(test)]
#[path = "data_dir_tests.rs"]
mod tests;
