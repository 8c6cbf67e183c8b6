//! What is in a data directory, and what happened to it: all that can be told without starting
//! anything or changing anything.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::backup;
use crate::bolt::Database;
use crate::downgrade::Swap;
use crate::failure::{Failure, Kind};
use crate::found::{self, Contents, Found};
use crate::journal::{self, Journal};
use crate::keys::{self, Keys};
use crate::lock;
use crate::series::Series;
use crate::shelf::Shelf;
use crate::version_pair::VersionPair;
use crate::wal;

#[derive(Debug)]
pub struct Status {
    pub data_dir: PathBuf,
    pub found: Found,
    /// Of a v3 database.
    pub details: Option<Details>,
    pub journal: Option<Journal>,
    /// A downgrade was killed while it moved the restored data into place; the next run goes on.
    pub is_being_moved: bool,
    pub backups: PathBuf,
    pub copies: Vec<Copied>,
    /// Another `migrate` that works here now.
    pub migrated_by: Option<String>,
}

#[derive(Debug)]
pub struct Details {
    pub keys: Keys,
    pub log_files: u64,
    pub log_bytes: u64,
    pub raft_snapshots: u64,
    /// The last minor version that can replay the log; `None` if every later one can.
    pub replayed_until: Option<Series>,
    /// An etcd server has the database open.
    pub is_served: bool,
}

/// A copy that a journey made before it changed the data.
#[derive(Debug)]
pub struct Copied {
    pub path: PathBuf,
    pub version: Option<VersionPair>,
    pub size_bytes: u64,
}

pub fn look(data_dir: &Path, shelf: &Shelf) -> Result<Status, Failure> {
    let is_being_moved = Swap::of(data_dir).is_pending();
    let found = if is_being_moved { Found::default() } else { found::look(data_dir)? };
    let details = match found.contents {
        Contents::Etcd3(_) => Some(details(&data_dir.join("member"))?),
        Contents::Nothing | Contents::Etcd2 => None,
    };
    let copies = shelf.copies().into_iter().map(copied).collect();
    Ok(Status {
        data_dir: data_dir.to_owned(),
        found,
        details,
        journal: journal::read(data_dir)?,
        is_being_moved,
        backups: shelf.directory.clone(),
        copies,
        migrated_by: lock::holder(data_dir),
    })
}

fn details(member: &Path) -> Result<Details, Failure> {
    let db = member.join("snap").join("db");
    let is_served = lock::is_served(&db);
    let file = File::open(&db).map_err(|error| Failure::file("open", &db, &error))?;
    let counted = Database::open(BufReader::new(file)).and_then(|mut db| keys::count(&mut db));
    let keys = counted.map_err(|error| {
        let failure = Failure::new(
            Kind::NotMigratable,
            format_args!("cannot read {}: {error}", db.display()),
        );
        if is_served { failure.hint("an etcd is writing to it: ask again") } else { failure }
    })?;
    let unreadable = |error| Failure::file("read the log in", member, &error);
    let (log_files, log_bytes) = files(&member.join("wal"), "wal").map_err(unreadable)?;
    let (raft_snapshots, _) = files(&member.join("snap"), "snap").map_err(unreadable)?;
    let replayed_until = wal::replayed_until(member).map_err(unreadable)?;
    Ok(Details { keys, log_files, log_bytes, raft_snapshots, replayed_until, is_served })
}

/// How many files of a kind there are, and how long they are together.
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

fn copied(path: PathBuf) -> Copied {
    Copied {
        version: found::read_version_file(&path).ok().flatten(),
        size_bytes: backup::size(&path).unwrap_or_default(),
        path,
    }
}
