//! Shows that the steps have lost nothing: compares what clients had stored before the first one
//! with what is there after the last one, except for what the steps may change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::step_context::StepContext;
use crate::cli::options::Verify;
use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::contents::compare::{AllowedChanges, Comparison, ComparisonError, Rules};
use crate::inspect::contents::{self, Contents, Depth};
use crate::inspect::layout::DataLayout;
use crate::inspect::log::writes::{self, Writes};
use crate::inspect::member_data;
use crate::plan::changes::{self, ContentChange};
use crate::plan::steps::Step;
use crate::report::contents_text::{fields, figures, verdict};
use crate::state::baseline::Baseline;
use crate::state::journal::Journal;

/// Up to this size of the database a full comparison takes less than a second.
const FULL_UP_TO_BYTES: u64 = 512 << 20;

/// What is known of the time before this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    /// No earlier run has changed the data, or nothing tells what was there before it did.
    Untouched,
    /// The last run did not come to its end, and nobody has written to the data since.
    GoesOn,
    /// The last run did not come to its end, and others have written to the data since.
    Foreign,
    /// The last run was killed.
    Unknown,
}

/// The comparison of one run.
#[derive(Debug)]
pub struct Sameness {
    past: Past,
    /// What the log holds beyond the database before the first step. `None` if that is not known.
    writes: Option<Writes>,
    started: Instant,
}

impl Sameness {
    /// `journal` is that of an earlier run that has not come to its end, and `index` the last entry
    /// of the log now.
    pub fn after(journal: Option<&Journal>, index: Option<u64>) -> Self {
        let past = match journal {
            None => Past::Untouched,
            Some(journal) if is_untouched(journal) => Past::Untouched,
            Some(journal) => {
                match journal.baseline.as_ref().and_then(|baseline| baseline.left_at) {
                    None => Past::Unknown,
                    left_at if left_at == index => Past::GoesOn,
                    Some(_) => Past::Foreign,
                }
            }
        };
        Self { past, writes: None, started: Instant::now() }
    }

    /// Reads what is there before the first step, unless an earlier run did. An error if the data
    /// cannot be read.
    pub fn begin(
        &mut self,
        context: &StepContext<'_>,
        journal: &mut Journal,
        steps: &[Step],
    ) -> Result<(), MigrateError> {
        let log = context.server.log;
        let changes = changes::of(steps, context.members.len());
        if context.options.verify == Verify::Off {
            if !changes.is_empty() || journal.baseline.is_some() {
                log.info(
                    "verify",
                    "what clients have stored is not compared, as --verify=off asks",
                );
            }
            journal.baseline = None;
            return Ok(());
        }
        if !self.is_first() && journal.baseline.is_none() {
            // An earlier run had no comparison, but perhaps a copy.
            journal.baseline = journal.backup.as_deref().and_then(|copy| read_copy(context, copy));
            if journal.baseline.is_none() {
                self.past = Past::Untouched;
            }
        }
        if self.is_first() {
            return self.begin_anew(context, journal, changes.is_empty());
        }
        if let Some(baseline) = &mut journal.baseline {
            baseline.changes.extend(changes);
        }
        Ok(())
    }

    /// Whether this run is the first to change the data that is there.
    fn is_first(&self) -> bool {
        matches!(self.past, Past::Untouched | Past::Foreign)
    }

    fn begin_anew(
        &mut self,
        context: &StepContext<'_>,
        journal: &mut Journal,
        changes_nothing: bool,
    ) -> Result<(), MigrateError> {
        let contents = |baseline: Option<&Baseline>| baseline.map(|it| it.contents.clone());
        let before = contents(journal.baseline.as_ref());
        journal.baseline = if changes_nothing { None } else { Some(self.read(context)?) };
        // A copy that was put back is what it was.
        if self.past == Past::Foreign && before != contents(journal.baseline.as_ref()) {
            context.server.log.warn(
                "verify",
                "the data is not what the last run left, which had not come to its end: it is \
                 compared with what is there now, and not with what was there before that run",
            );
        }
        Ok(())
    }

    /// Notes that a step begins, before it does.
    pub fn step(context: &StepContext<'_>, journal: &mut Journal, step: &Step) {
        if let Some(baseline) = &mut journal.baseline {
            baseline.changes.extend(step.may_change(context.members.len()));
            baseline.left_at = baseline.left_at.filter(|_| !step.changes_data());
        }
    }

    fn read(&mut self, context: &StepContext<'_>) -> Result<Baseline, MigrateError> {
        let db = context.options.layout.db();
        let unreadable = |error| MigrateError::file("read", &db, &error);
        let size_bytes = fs::metadata(&db).map_err(unreadable)?.len();
        let contents = contents::read(&db, depth(context.options.verify, size_bytes), None);
        let contents = contents.map_err(|error| {
            MigrateError::new(
                MigrateErrorKind::NotMigratable,
                format_args!("cannot read {}: {error}", db.display()),
            )
            .hint("restore a backup or a snapshot; `--verify=off` goes on all the same")
        })?;
        self.writes = Some(read_writes(&context.options.layout)?);
        let how = match (context.options.verify, contents.depth) {
            (Verify::BySize, Depth::Quick) => {
                "in parts, since the database is large; `--verify=full` reads all of it"
            }
            (Verify::BySize, Depth::Full) => "in full, which takes less than a second at this size",
            (_, Depth::Quick) => "in parts",
            (_, Depth::Full) => "in full",
        };
        let took = self.started.elapsed().as_millis();
        let log = context.server.log;
        log.info(
            "verify",
            format_args!(
                "{}: compared with what is there after the last step, {how} ({took} ms)",
                figures(&contents)
            ),
        );
        Ok(Baseline::new(contents))
    }

    /// Notes a copy of what is there before the first step.
    pub fn copied(&self, journal: &mut Journal, copy: &Path) {
        if let Some(baseline) = &mut journal.baseline
            && self.is_first()
        {
            baseline.copy = Some(copy.to_owned());
        }
    }

    /// Compares after the last step. An error if something is not the same that must be.
    pub fn end(&self, context: &StepContext<'_>, baseline: &Baseline) -> Result<(), MigrateError> {
        let started = Instant::now();
        let db = context.options.layout.db();
        let before = &baseline.contents;
        let copy = baseline.copy.as_ref().filter(|copy| copy.is_dir());
        if let (Past::GoesOn, None, Some(difference)) = (self.past, copy, &baseline.difference) {
            // What the log held before the first step is not known any more.
            return Err(not_the_same(difference, copy));
        }
        let after = contents::read(&db, before.depth, Some(before)).map_err(|error| {
            let what = format_args!("after the last step {} is damaged: {error}", db.display());
            not_the_same(what, copy)
        })?;
        let is_open =
            self.past == Past::Unknown || baseline.changes.contains(&ContentChange::OtherMembers);
        let needs_copy = self.writes.is_none() && !is_open;
        let from_copy = copy
            .filter(|_| needs_copy)
            .and_then(|copy| read_writes(&DataLayout::of(copy, None)).ok());
        let writes = self.writes.as_ref().filter(|_| !is_open).or(from_copy.as_ref());
        let demands = writes.is_some_and(|writes| !writes.puts.is_empty());
        let left = if demands { Some(read_writes(&context.options.layout)?) } else { None };
        let rules = Rules {
            writes,
            left: left.as_ref(),
            served: self.is_first().then(|| self.started.elapsed()),
            converts: baseline.changes.contains(&ContentChange::V2Conversion),
        };
        let allowed = compare(context, (before, &after), copy, &rules).map_err(|difference| {
            let what = "after the last step the data is not what it was before the first one";
            not_the_same(format_args!("{what}: {difference}"), copy)
        })?;
        let took = started.elapsed().as_millis();
        let message = format!("{} ({took} ms)", verdict(&after, &allowed));
        context.server.log.info_with("verified", message, fields(&after, &allowed));
        Ok(())
    }

    /// Notes where a run ends that has failed, so that the next one knows whether others write to
    /// the data meanwhile.
    pub fn leave(&self, layout: &DataLayout, journal: &mut Journal) {
        if let Some(baseline) = &mut journal.baseline
            && self.past != Past::Unknown
        {
            baseline.left_at = last_entry(layout);
        }
    }
}

/// The last entry of the log, which changes with everything that somebody writes.
pub fn last_entry(layout: &DataLayout) -> Option<u64> {
    read_writes(layout).ok().map(|writes| writes.last_entry)
}

/// Whether an earlier run ended while it made its copy, before a step that changes the data.
fn is_untouched(journal: &Journal) -> bool {
    journal.step == Step::Backup.to_string()
        && journal.baseline.as_ref().is_none_or(|baseline| baseline.changes.is_empty())
}

fn depth(verify: Verify, size_bytes: u64) -> Depth {
    match verify {
        Verify::Full => Depth::Full,
        Verify::BySize if size_bytes <= FULL_UP_TO_BYTES => Depth::Full,
        Verify::BySize | Verify::Quick | Verify::Off => Depth::Quick,
    }
}

/// What the log of a data directory or of a copy holds beyond its database.
fn read_writes(layout: &DataLayout) -> Result<Writes, MigrateError> {
    let data = member_data::read_db(&layout.db())?;
    let mut writes = writes::after(&layout.wal, data.consistent_index.unwrap_or(0))
        .map_err(|error| MigrateError::file("read the log in", &layout.wal, &error))?;
    // An alarm, or what a user may, decides what becomes of a request when it is replayed.
    if !data.alarms.is_empty() || data.needs_credentials {
        writes.puts.clear();
    }
    Ok(writes)
}

/// The contents of the copy of an earlier run, which had no comparison.
fn read_copy(context: &StepContext<'_>, copy: &Path) -> Option<Baseline> {
    let db = DataLayout::of(copy, None).db();
    let size_bytes = fs::metadata(&db).ok()?.len();
    let contents = contents::read(&db, depth(context.options.verify, size_bytes), None).ok()?;
    Some(Baseline { copy: Some(copy.to_owned()), ..Baseline::new(contents) })
}

/// Compares with the copy if one is needed, and without it if it cannot be read.
fn compare(
    context: &StepContext<'_>,
    (before, after): (&Contents, &Contents),
    copy: Option<&PathBuf>,
    rules: &Rules<'_>,
) -> Result<AllowedChanges, String> {
    let before_db = copy.map(|copy| DataLayout::of(copy, None).db());
    let after_db = context.options.layout.db();
    let compare =
        |before_db| Comparison { before, after, before_db, after_db: &after_db, rules }.run();
    let compared = match (compare(before_db.as_deref()), &before_db) {
        (Err(ComparisonError::Unreadable(error)), Some(copy)) => {
            let what = format_args!("{} cannot be compared with: {error}", copy.display());
            context.server.log.warn("verify", what);
            compare(None)
        }
        (compared, _) => compared,
    };
    compared.map_err(|stop| match stop {
        ComparisonError::Differs(difference) => difference.to_string(),
        ComparisonError::Unreadable(error) => error.to_string(),
    })
}

fn not_the_same(what: impl fmt::Display, copy: Option<&PathBuf>) -> MigrateError {
    let failure = MigrateError::new(MigrateErrorKind::NotTheSame, what);
    let failure = match copy {
        Some(copy) => failure.hint(format_args!(
            "start no etcd on it: move `member` and `version.txt` away, and copy both back from {}, \
             which holds the data from before the first step",
            copy.display()
        )),
        None => failure.hint("start no etcd on it; no copy was made, so restore a backup or a snapshot"),
    };
    failure.hint("if the data is right as it is, run migrate again with --verify=off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_left_decides_with_what_this_one_compares() {
        let past = |step: &str, baseline: Option<Baseline>, index| {
            let journal = Journal { step: step.to_owned(), baseline, ..Journal::default() };
            Sameness::after(Some(&journal), index).past
        };
        let baseline = |changes: &[ContentChange], left_at| {
            let changes = changes.iter().copied().collect();
            Some(Baseline { changes, left_at, ..Baseline::new(Contents::default()) })
        };
        let changed = &[ContentChange::LogReplay];
        assert_eq!(Sameness::after(None, Some(7)).past, Past::Untouched);
        assert_eq!(past("backup", None, Some(7)), Past::Untouched);
        assert_eq!(past("backup", baseline(&[], None), Some(7)), Past::Untouched);
        // The second run was killed while it made a copy of its own.
        assert_eq!(past("backup", baseline(changed, None), Some(7)), Past::Unknown);
        assert_eq!(past("serve 3.6.14", None, Some(7)), Past::Unknown);
        assert_eq!(past("serve 3.6.14", baseline(changed, None), None), Past::Unknown);
        assert_eq!(past("compare", baseline(changed, Some(7)), Some(7)), Past::GoesOn);
        assert_eq!(past("compare", baseline(changed, Some(7)), Some(8)), Past::Foreign);
        assert_eq!(past("compare", baseline(changed, Some(7)), None), Past::Foreign);
    }
}
