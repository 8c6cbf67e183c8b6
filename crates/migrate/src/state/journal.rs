//! What a run leaves behind for the next one, and for `status`: `.migrate/journal`.
//!
//! `version.txt` and the data say how far the journey has come. The journal says what they cannot:
//! that a step was under way, and which copy of the data is its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::files::durable;
use crate::state::lock::state_dir;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// `3.7.1/etcd3`.
    pub target: String,
    /// The step that was begun and not yet finished; empty when none was.
    pub step: String,
    /// The copy that was made before this journey changed anything.
    pub backup: Option<PathBuf>,
    /// `running`, `done` or the reason why it stopped.
    pub outcome: String,
}

pub fn read(data_dir: &Path) -> Result<Option<Journal>, Failure> {
    let path = path(data_dir);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(parse(&String::from_utf8_lossy(&bytes)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("read", &path, &error)),
    }
}

impl Journal {
    pub fn write(&self, data_dir: &Path) -> Result<(), Failure> {
        durable::replace(&path(data_dir), self.print().as_bytes())
    }

    pub fn is_unfinished(&self) -> bool {
        !self.step.is_empty()
    }

    fn print(&self) -> String {
        let backup = self.backup.as_ref().map(|path| path.display().to_string());
        let lines = [
            ("target", Some(self.target.clone())),
            ("step", Some(self.step.clone())),
            ("backup", backup),
            ("outcome", Some(self.outcome.clone())),
        ];
        let lines = lines.into_iter().filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty())?.replace('\n', " ");
            Some(format!("{name} {value}\n"))
        });
        lines.collect()
    }
}

/// Never fails: a line that means nothing is skipped, since every line only helps.
fn parse(text: &str) -> Journal {
    let mut journal = Journal::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        match name {
            "target" => value.clone_into(&mut journal.target),
            "step" => value.clone_into(&mut journal.step),
            "backup" => journal.backup = Some(value.into()),
            "outcome" => value.clone_into(&mut journal.outcome),
            _ => {}
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
    use crate::scratch::Scratch;

    #[test]
    fn a_journal_round_trips() {
        let scratch = Scratch::new();
        scratch.write(".migrate/lock", b"");
        assert_eq!(read(scratch.path()).unwrap(), None);
        let journal = Journal {
            target: "3.7.1/etcd3".to_owned(),
            step: "serve 3.6.14".to_owned(),
            backup: Some("/a path/with spaces".into()),
            outcome: "running".to_owned(),
        };
        journal.write(scratch.path()).unwrap();
        assert_eq!(read(scratch.path()).unwrap(), Some(journal));
    }

    #[test]
    fn damage_is_skipped() {
        assert_eq!(parse("\0\n\nstep\ntarget\nbackup"), Journal::default());
    }
}
