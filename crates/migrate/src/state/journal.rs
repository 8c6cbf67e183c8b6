//! The file `.migrate/journal`, which one run leaves for the next one and for `status`.
//!
//! `version.txt` and the data say which version was reached. The journal adds what they cannot say:
//! which step was begun and not finished, and which backup belongs to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::MigrateError;
use crate::files::durable;
use crate::state::baseline::Baseline;
use crate::state::lock::state_dir;

/// The last migration of a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// Such as `3.7.1/etcd3`.
    pub target: String,
    /// The step that was begun and not finished; empty if there is none.
    pub step: String,
    /// The backup that was made before this migration changed anything.
    pub backup: Option<PathBuf>,
    /// The snapshot that the data was restored from, as `restore` names it; empty if it was not.
    pub snapshot: String,
    /// What is still to be compared with the data after the last step.
    pub baseline: Option<Baseline>,
    /// `running`, `restored`, `done` or the error that ended it.
    pub outcome: String,
    /// What the data was when this program last wrote to it; empty while a step is being taken. If
    /// it is the same at the next run, no other etcd has served it.
    pub data: String,
}

/// The outcome of a migration that has reached its target.
pub const DONE: &str = "done";
/// The outcome of a restore that was to leave the data at the version of the snapshot.
pub const RESTORED: &str = "restored";

/// Reads it; `None` if there is none.
pub fn read(data_dir: &Path) -> Result<Option<Journal>, MigrateError> {
    let path = path(data_dir);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(parse(&String::from_utf8_lossy(&bytes)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(MigrateError::file("read", &path, &error)),
    }
}

impl Journal {
    /// Writes it; afterwards it is durable.
    pub fn write(&self, data_dir: &Path) -> Result<(), MigrateError> {
        durable::replace(&path(data_dir), self.print().as_bytes())
    }

    /// Whether a step was begun and not finished.
    pub fn is_unfinished(&self) -> bool {
        !self.step.is_empty()
    }

    /// Whether the data is being restored from a snapshot, or was and has not reached its target.
    pub fn is_restoring(&self) -> bool {
        !self.snapshot.is_empty() && self.outcome != DONE
    }

    fn print(&self) -> String {
        let backup = self.backup.as_ref().map(|path| path.display().to_string());
        let lines = [
            ("target", Some(self.target.clone())),
            ("step", Some(self.step.clone())),
            ("backup", backup),
            ("snapshot", Some(self.snapshot.clone())),
            ("outcome", Some(self.outcome.clone())),
            ("data", Some(self.data.clone())),
        ];
        let baseline = self.baseline.iter().flat_map(Baseline::lines);
        let lines = lines.into_iter().chain(baseline).filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty())?.replace('\n', " ");
            Some(format!("{name} {value}\n"))
        });
        lines.collect()
    }
}

/// Never fails: an unknown line is skipped, and what is missing stays empty.
fn parse(text: &str) -> Journal {
    let mut journal = Journal::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        match name {
            "target" => value.clone_into(&mut journal.target),
            "step" => value.clone_into(&mut journal.step),
            "backup" => journal.backup = Some(value.into()),
            "snapshot" => value.clone_into(&mut journal.snapshot),
            "outcome" => value.clone_into(&mut journal.outcome),
            "data" => value.clone_into(&mut journal.data),
            _ => Baseline::read_line(&mut journal.baseline, name, value),
        }
    }
    journal
}

fn path(data_dir: &Path) -> PathBuf {
    state_dir(data_dir).join("journal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::contents::Contents;
    use crate::plan::changes::ContentChange;
    use crate::scratch::ScratchDirectory;

    #[test]
    fn a_journal_round_trips() {
        let scratch = ScratchDirectory::new();
        scratch.write(".migrate/lock", b"");
        assert_eq!(read(scratch.path()).unwrap(), None);
        let contents = Contents::default();
        let baseline = Baseline {
            copy: Some("/another path".into()),
            changes: [ContentChange::LogReplay, ContentChange::LeaseEnd].into(),
            left_at: Some(7),
            difference: Some("the lease 7 is missing".to_owned()),
            ..Baseline::new(contents.clone())
        };
        for baseline in [None, Some(Baseline::new(contents)), Some(baseline)] {
            let journal = Journal {
                target: "3.7.1/etcd3".to_owned(),
                step: "serve 3.6.14".to_owned(),
                backup: Some("/a path/with spaces".into()),
                snapshot: "/a snapshot of 7 bytes".to_owned(),
                data: "0123456789abcdef".to_owned(),
                baseline,
                outcome: "running".to_owned(),
            };
            journal.write(scratch.path()).unwrap();
            assert_eq!(read(scratch.path()).unwrap(), Some(journal));
        }
    }

    #[test]
    fn damage_is_skipped() {
        assert_eq!(parse("\0\n\nstep\ntarget\nbackup"), Journal::default());
        let text = "left-at 3\nbefore depth=full keys=1\nbefore-copy /x\nmay-change compaction\n";
        assert_eq!(parse(text), Journal::default());
    }
}
