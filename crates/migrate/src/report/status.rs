//! Collects what `migrate status` reports. Starts nothing and changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::tree;
use crate::inspect::contents::{self, Contents, Depth};
use crate::inspect::data_dir::{self, DataDir, DataDirContents};
use crate::inspect::layout::DataLayout;
use crate::inspect::version_pair::VersionPair;
use crate::state::backup_store::BackupStore;
use crate::state::journal::{self, Journal};
use crate::state::lock;
use crate::state::swap::Swap;

/// The state of a data directory.
#[derive(Debug)]
pub struct Status {
    pub data_dir: PathBuf,
    pub found: DataDir,
    /// `None` if there is no v3 database.
    pub details: Option<StatusDetails>,
    pub journal: Option<Journal>,
    /// A downgrade was killed while it moved the restored data into place. The next run finishes
    /// it.
    pub is_being_moved: bool,
    /// The directory of the backups. It need not exist.
    pub backups: PathBuf,
    pub copies: Vec<BackupCopy>,
    /// The `migrate` that works here now, as `process <id> on <host>`.
    pub migrated_by: Option<String>,
}

/// What is read from the database and the log only for the status.
#[derive(Debug)]
pub struct StatusDetails {
    pub contents: Contents,
    pub log_files: u64,
    pub log_bytes: u64,
    pub raft_snapshots: u64,
    /// An etcd server has the database open.
    pub is_served: bool,
}

/// A backup.
#[derive(Debug)]
pub struct BackupCopy {
    pub path: PathBuf,
    pub version: Option<VersionPair>,
    pub size_bytes: u64,
}

/// Reads the state of a data directory.
pub fn look(layout: &DataLayout, store: &BackupStore) -> Result<Status, MigrateError> {
    let data_dir = &*layout.data_dir;
    let is_being_moved = Swap::of(layout).is_pending();
    let found = if is_being_moved { DataDir::default() } else { data_dir::read(layout)? };
    let details = match found.contents {
        DataDirContents::Etcd3(_) => Some(details(layout)?),
        DataDirContents::Empty | DataDirContents::Etcd2 => None,
    };
    let copies = store.copies().into_iter().map(copied).collect();
    Ok(Status {
        data_dir: data_dir.to_owned(),
        found,
        details,
        journal: journal::read(data_dir)?,
        is_being_moved,
        backups: store.directory.clone(),
        copies,
        migrated_by: lock::holder(data_dir),
    })
}

fn details(layout: &DataLayout) -> Result<StatusDetails, MigrateError> {
    let db = layout.db();
    let is_served = lock::is_served(&db);
    let contents = read_contents(&db).map_err(|failure| {
        if is_served {
            failure.hint("an etcd server is writing to it: run the command again")
        } else {
            failure
        }
    })?;
    let unreadable = |error| MigrateError::file("read the log in", &layout.wal, &error);
    let (log_files, log_bytes) = files(&layout.wal, "wal").map_err(unreadable)?;
    let (raft_snapshots, _) = files(&layout.snap, "snap").map_err(unreadable)?;
    Ok(StatusDetails { contents, log_files, log_bytes, raft_snapshots, is_served })
}

/// Counts what clients have stored in a database.
pub fn read_contents(db: &Path) -> Result<Contents, MigrateError> {
    contents::read(db, Depth::Full, None).map_err(|error| {
        let what = format_args!("cannot read {}: {error}", db.display());
        MigrateError::new(MigrateErrorKind::NotMigratable, what)
    })
}

/// The number of files with an extension, and their size together in bytes.
fn files(directory: &Path, kind: &str) -> std::io::Result<(u64, u64)> {
    let mut total = (0, 0);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == kind) {
            total = (total.0 + 1, total.1 + entry.metadata()?.len());
        }
    }
    Ok(total)
}

fn copied(path: PathBuf) -> BackupCopy {
    BackupCopy {
        version: data_dir::read_version_file(&path).ok().flatten(),
        size_bytes: tree::size_bytes(&path, &|_| false).unwrap_or_default(),
        path,
    }
}
