//! Compares the history of two databases, revision by revision.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};

use super::difference::{ComparisonError, Difference};
use super::record::{self, Revision};
use crate::inspect::bolt::{Cursor, Database, Error};

/// The revisions between which both histories are compared, and what may be missing.
pub struct Limits<'a> {
    /// The newest revision of the first database.
    pub until: u64,
    /// Up to this revision the second one may have been thinned out by a compaction, which keeps of
    /// each key its newest revision, unless that is a deletion.
    pub mark: u64,
    /// Whether a key may have been deleted after `until`, so that nothing of it is left.
    pub may_be_deleted: &'a dyn Fn(&[u8]) -> bool,
}

/// How many revisions a compaction has removed, or the first difference.
pub fn compare(
    before: &mut Database<File>,
    after: &mut Database<File>,
    limits: &Limits<'_>,
) -> Result<u64, ComparisonError> {
    let mut merge = Merge { limits, removed: 0, owed: Owed::default() };
    let buckets = (before.bucket("key")?, after.bucket("key")?);
    if let (Some(old), new) = &buckets {
        let mut old = before.cursor(old, &[])?;
        let mut new = new.as_ref().map(|bucket| after.cursor(bucket, &[])).transpose()?;
        while merge.step(&mut old, new.as_mut())? {}
    }
    let mut owed: Vec<_> = merge.owed.revisions.into_values().collect();
    owed.sort_unstable();
    for revision in owed {
        let missing = missing(before, &revision)?;
        if limits.mark <= limits.until || !(limits.may_be_deleted)(missing.key()) {
            return Err(missing.into());
        }
    }
    Ok(merge.removed)
}

/// The keys of which the newest revision up to the mark has not been found yet, by their hash. So
/// this takes little memory for each of them.
#[derive(Default)]
struct Owed {
    hasher: RandomState,
    revisions: HashMap<u64, [u8; 17]>,
}

struct Merge<'a> {
    limits: &'a Limits<'a>,
    removed: u64,
    owed: Owed,
}

impl Merge<'_> {
    /// Compares the next revision of both; false if there is none.
    fn step(
        &mut self,
        old: &mut Cursor<'_, File>,
        new: Option<&mut Cursor<'_, File>>,
    ) -> Result<bool, ComparisonError> {
        let Some(new) = new else { return self.old_only(old) };
        let order = match (old.entry()?, new.entry()?) {
            (None, None) => return Ok(false),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        match order {
            Ordering::Less => self.old_only(old),
            Ordering::Greater => {
                if let Some((key, record)) = new.entry()? {
                    self.new_only(key, record)?;
                }
                new.advance()?;
                Ok(true)
            }
            Ordering::Equal => {
                if let (Some((key, one)), Some((_, other))) = (old.entry()?, new.entry()?) {
                    self.both(key, one, other)?;
                }
                old.advance()?;
                new.advance()?;
                Ok(true)
            }
        }
    }

    fn old_only(&mut self, old: &mut Cursor<'_, File>) -> Result<bool, ComparisonError> {
        let Some((key, record)) = old.entry()? else { return Ok(false) };
        let revision = Revision::parse(key)?;
        if revision.main > self.limits.mark {
            return Err(difference(key, record, "is missing")?.into());
        }
        self.removed += 1;
        self.owed.pay(record);
        if !revision.is_deletion && !record::is_mark(record) {
            self.owed.owe(key, record);
        }
        old.advance()?;
        Ok(true)
    }

    fn new_only(&mut self, key: &[u8], record: &[u8]) -> Result<(), ComparisonError> {
        let revision = Revision::parse(key)?;
        if revision.main <= self.limits.until {
            return Err(difference(key, record, "was not there before")?.into());
        }
        if revision.main <= self.limits.mark {
            self.owed.pay(record);
        }
        Ok(())
    }

    fn both(&mut self, key: &[u8], one: &[u8], other: &[u8]) -> Result<(), ComparisonError> {
        if one != other {
            return Err(difference(key, one, "has another content")?.into());
        }
        if Revision::parse(key)?.main <= self.limits.mark {
            self.owed.pay(one);
        }
        Ok(())
    }
}

impl Owed {
    fn owe(&mut self, revision: &[u8], record: &[u8]) {
        if let Some(revision) = revision.first_chunk() {
            self.revisions.insert(self.hasher.hash_one(record::key(record)), *revision);
        }
    }

    /// A later revision of the key was found.
    fn pay(&mut self, record: &[u8]) {
        self.revisions.remove(&self.hasher.hash_one(record::key(record)));
    }
}

fn difference(revision: &[u8], record: &[u8], what: &'static str) -> Result<Difference, Error> {
    let revision = Revision::parse(revision)?.main;
    Ok(Difference::Revision { key: record::key(record).to_vec(), revision, what })
}

/// The difference for a revision that was found to be missing later.
fn missing(before: &mut Database<File>, revision: &[u8]) -> Result<Missing, Error> {
    let Some(bucket) = before.bucket("key")? else { return Err(Error::Damaged("it has changed")) };
    let cursor = before.cursor(&bucket, revision)?;
    let record = cursor.entry()?.map(|(_, record)| record).unwrap_or_default();
    Ok(Missing { key: record::key(record).to_vec(), revision: Revision::parse(revision)?.main })
}

struct Missing {
    key: Vec<u8>,
    revision: u64,
}

impl Missing {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

impl From<Missing> for ComparisonError {
    fn from(Missing { key, revision }: Missing) -> Self {
        Difference::Revision { key, revision, what: "is missing" }.into()
    }
}
