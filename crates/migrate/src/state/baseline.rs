//! What clients had stored before the first step. It stays in the journal until it was compared
//! with what is there after the last one, in this run or in a later one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::inspect::contents::Contents;
use crate::plan::changes::ContentChange;

/// The contents before a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    pub contents: Contents,
    /// The backup that holds the same.
    pub copy: Option<PathBuf>,
    /// What the steps may change that have begun, in all runs; empty if none has.
    pub changes: BTreeSet<ContentChange>,
    /// The last entry of the log when the last run ended. If it still is, nobody has written
    /// since. `None` while steps change the data, and after a run that was killed then.
    pub left_at: Option<u64>,
    /// What the last run has found to differ.
    pub difference: Option<String>,
}

impl Baseline {
    pub fn new(contents: Contents) -> Self {
        Self { contents, copy: None, changes: BTreeSet::new(), left_at: None, difference: None }
    }

    /// Its lines in the journal: names and values.
    pub fn lines(&self) -> [(&'static str, Option<String>); 5] {
        let changes: Vec<_> = self.changes.iter().map(|change| change.name()).collect();
        [
            ("before", Some(self.contents.to_string())),
            ("before-copy", self.copy.as_ref().map(|path| path.display().to_string())),
            ("may-change", Some(changes.join(" "))),
            ("left-at", self.left_at.map(|index| index.to_string())),
            ("difference", self.difference.clone()),
        ]
    }

    /// Takes a line of the journal into the baseline. `before` comes first; without it there is
    /// none.
    pub fn read_line(baseline: &mut Option<Self>, name: &str, value: &str) {
        if name == "before" {
            *baseline = value.parse().ok().map(Self::new);
        }
        let Some(baseline) = baseline else { return };
        match name {
            "before-copy" => baseline.copy = Some(value.into()),
            "may-change" => {
                baseline.changes = value.split(' ').filter_map(ContentChange::named).collect();
            }
            "difference" => baseline.difference = Some(value.to_owned()),
            "left-at" => baseline.left_at = value.parse().ok(),
            _ => {}
        }
    }
}
