//! Compares the contents of a database before and after, and says what was allowed to change.

use std::path::Path;

pub use super::difference::{AllowedChanges, ComparisonError, Difference, Rules};
use super::history::Limits;
use super::{Contents, added, history, leases, open, users};
use crate::inspect::log::writes::Writes;

/// Both databases, the figures of both, and what may differ. The first database is missing if no
/// copy of it was made.
#[derive(Debug)]
pub struct Comparison<'a> {
    pub before: &'a Contents,
    pub after: &'a Contents,
    pub before_db: Option<&'a Path>,
    pub after_db: &'a Path,
    pub rules: &'a Rules<'a>,
}

impl Comparison<'_> {
    /// What has changed and was allowed to, or the first difference that was not.
    pub fn run(&self) -> Result<AllowedChanges, ComparisonError> {
        let mut allowed = AllowedChanges::default();
        self.marks()?;
        self.history(&mut allowed)?;
        self.added(&mut allowed)?;
        self.leases(&mut allowed)?;
        self.users(&mut allowed)?;
        Ok(allowed)
    }

    fn marks(&self) -> Result<(), Difference> {
        let Self { before, after, .. } = self;
        for (what, before, after) in [
            ("revision", before.revision, after.revision),
            ("compaction", before.compacted, after.compacted),
            ("compaction", before.scheduled, after.scheduled),
        ] {
            if after < before {
                return Err(Difference::WentBack { what, before, after });
            }
        }
        Ok(())
    }

    fn history(&self, allowed: &mut AllowedChanges) -> Result<(), ComparisonError> {
        let Self { before, after, .. } = self;
        if before.history == after.history {
            return Ok(());
        }
        if let Some(copy) = self.before_db {
            let may_be_deleted = |key: &[u8]| self.rules.may_be_written(key);
            let limits = Limits {
                until: before.revision,
                mark: after.mark(),
                may_be_deleted: &may_be_deleted,
            };
            allowed.removed =
                history::compare(&mut open(copy)?, &mut open(self.after_db)?, &limits)?;
            return Ok(());
        }
        if after.mark() > before.compacted {
            allowed.unproven.push("the history, of which a compaction has removed a part");
            return Ok(());
        }
        let (before, after) = (before.revisions, after.revisions - after.added);
        Err(Difference::Numbers { what: "revisions", before, after }.into())
    }

    fn added(&self, allowed: &mut AllowedChanges) -> Result<(), ComparisonError> {
        let Some(writes) = self.rules.writes else {
            allowed.replayed = self.after.added;
            return Ok(());
        };
        let place = added::Place {
            db: self.after_db,
            copy: self.before_db,
            until: self.before.revision,
            mark: self.after.mark(),
        };
        if self.after.added > 0 {
            added::explain(&place, self.rules, allowed)?;
        }
        added::all_written(&place, &writes.puts, self.rules.left)
    }

    fn leases(&self, allowed: &mut AllowedChanges) -> Result<(), ComparisonError> {
        let Self { before, after, .. } = self;
        if before.leases_digest == after.leases_digest {
            return Ok(());
        }
        if let Some(copy) = self.before_db {
            return leases::compare(
                &mut open(copy)?,
                &mut open(self.after_db)?,
                self.rules,
                allowed,
            );
        }
        let (before, after) = (before.leases, after.leases);
        // Without a copy nobody knows which of them have ended.
        if after < before
            || self.rules.converts
            || self.rules.writes.is_none_or(Writes::changes_leases)
        {
            allowed.unproven.push("the leases, some of which may have ended");
            return Ok(());
        }
        Err(Difference::Numbers { what: "leases", before, after }.into())
    }

    fn users(&self, allowed: &mut AllowedChanges) -> Result<(), ComparisonError> {
        let Self { before, after, .. } = self;
        if before.users_digest == after.users_digest {
            return Ok(());
        }
        if self.rules.writes.is_none_or(|writes| writes.changes_users) {
            allowed.unproven.push("users and roles, which were changed meanwhile");
            return Ok(());
        }
        if let Some(copy) = self.before_db {
            return users::compare(&mut open(copy)?, &mut open(self.after_db)?);
        }
        let (before, after) = (before.users + before.roles, after.users + after.roles);
        Err(Difference::Numbers { what: "users and roles", before, after }.into())
    }
}
