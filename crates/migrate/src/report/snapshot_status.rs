//! What `migrate status --snapshot` reports. Starts nothing and changes nothing.

use std::path::{Path, PathBuf};

use crate::error::MigrateError;
use crate::inspect::contents::Contents;
use crate::inspect::snapshot::{self, Checksum, Snapshot};
use crate::report::Report;
use crate::report::json::{Json, SCHEMA_VERSION};
use crate::report::plan_text;
use crate::report::status;
use crate::report::status_text::{Lines, database_json, mebibytes, members_json};

/// The state of a snapshot.
#[derive(Debug)]
pub struct SnapshotStatus {
    pub path: PathBuf,
    pub snapshot: Snapshot,
    pub checksum: Checksum,
    pub contents: Contents,
}

/// Reads a snapshot twice: for its checksum, and what is in it.
pub fn look(path: &Path) -> Result<SnapshotStatus, MigrateError> {
    let snapshot = snapshot::read(path)?;
    let checksum = snapshot.checksum(path)?;
    let contents = status::read_contents(path).map_err(|failure| match checksum {
        Checksum::Wrong => snapshot::wrong_checksum(path),
        Checksum::Missing | Checksum::Valid => failure,
    })?;
    Ok(SnapshotStatus { path: path.to_owned(), snapshot, checksum, contents })
}

impl SnapshotStatus {
    /// The version of the data, or why it is not known.
    fn version(&self) -> String {
        match snapshot::version(self.snapshot.data.clone()) {
            Ok(origin) => plan_text::describe(&origin),
            Err(_) => "the snapshot does not say which etcd wrote it".to_owned(),
        }
    }
}

impl Report for SnapshotStatus {
    fn text(&self) -> String {
        let data = &self.snapshot.data;
        let mut lines = Lines::new(format!("snapshot {}", self.path.display()));
        lines.add("version", self.version());
        lines.add("file", mebibytes(self.snapshot.size_bytes));
        lines.add(
            "checksum",
            match self.checksum {
                Checksum::Missing => "none: it is a copied database",
                Checksum::Valid => "valid",
                Checksum::Wrong => "WRONG: the file is not what was saved",
            },
        );
        lines.database(data, &self.contents);
        lines.users_and_members(data, &self.contents);
        lines.print()
    }

    fn json(&self) -> Json {
        let data = &self.snapshot.data;
        let checksum = match self.checksum {
            Checksum::Missing => "missing",
            Checksum::Valid => "valid",
            Checksum::Wrong => "wrong",
        };
        let contents = database_json(data, &self.contents).into_iter().chain(members_json(data));
        Json::Object(vec![
            ("schemaVersion", Json::number(SCHEMA_VERSION)),
            ("snapshot", Json::text(self.path.display())),
            ("bytes", Json::number(self.snapshot.size_bytes)),
            ("checksum", Json::text(checksum)),
            ("version", Json::text(self.version())),
            ("data", Json::Object(contents.collect())),
        ])
    }
}
