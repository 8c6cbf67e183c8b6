//! Revisions that are newer than all that was there before: who may have written them, and which
//! must be there.

use std::collections::BTreeMap;
use std::path::Path;

use super::difference::{AllowedChanges, ComparisonError, Difference, Rules};
use super::record::{self, Revision};
use super::{leases, open};
use crate::inspect::log::puts::CertainPuts;
use crate::inspect::log::writes::Writes;

/// Where they are.
pub struct Place<'a> {
    pub db: &'a Path,
    /// The database before.
    pub copy: Option<&'a Path>,
    /// The newest revision before.
    pub until: u64,
    /// Up to this revision a compaction may have removed the history.
    pub mark: u64,
}

/// A deletion that only a lease can explain: the first one of its key.
struct Deletion {
    revision: u64,
    /// The lease of the key before; 0 if it had none.
    lease: u64,
}

type Deletions = BTreeMap<Vec<u8>, Deletion>;

/// Explains every added revision, or names the first that nothing explains.
pub fn explain(
    place: &Place<'_>,
    rules: &Rules<'_>,
    allowed: &mut AllowedChanges,
) -> Result<(), ComparisonError> {
    let (mut deletions, mut first) = read(place, rules, allowed)?;
    if deletions.is_empty() {
        return first.map_or(Ok(()), |difference| Err(difference.into()));
    }
    // The database itself comes last: what the log has written is only there.
    for db in place.copy.into_iter().chain([place.db]) {
        find_leases(db, &mut deletions)?;
    }
    let left = leases::ids(&mut open(place.db)?)?;
    for (key, Deletion { revision, lease }) in deletions {
        // What knew the lease may be compacted.
        let is_unknown = place.copy.is_none() && revision <= place.mark;
        let has_ended = !left.contains(&lease) || rules.revokes(lease);
        if is_unknown || (lease != 0 && has_ended) {
            allowed.expired_keys += 1;
        } else if first.as_ref().is_none_or(|first| first.revision() > revision) {
            first = Some(Difference::Deleted { key, revision });
        }
    }
    first.map_or(Ok(()), |difference| Err(difference.into()))
}

/// Shows that every key is there, and newer than before, that the log has put for certain, unless
/// the log still has it.
pub fn all_written(
    place: &Place<'_>,
    puts: &CertainPuts,
    left: Option<&Writes>,
) -> Result<(), ComparisonError> {
    if puts.is_empty() {
        return Ok(());
    }
    let is_due = |key: &&[u8]| left.is_none_or(|left| !left.may_write(key));
    let mut due: BTreeMap<&[u8], Option<Revision>> =
        puts.keys().filter(is_due).map(|key| (key, None)).collect();
    let mut database = open(place.db)?;
    if let Some(bucket) = database.bucket("key")? {
        let mut cursor = database.cursor(&bucket, &place.until.saturating_add(1).to_be_bytes())?;
        while let Some((name, bytes)) = cursor.entry()? {
            if let Some(newest) = due.get_mut(record::key(bytes)) {
                *newest = Some(Revision::parse(name)?);
            }
            cursor.advance()?;
        }
    }
    for (key, newest) in due {
        let key = key.to_vec();
        match newest {
            None => return Err(Difference::Missing { key }.into()),
            Some(Revision { is_deletion: true, main, .. }) => {
                return Err(Difference::Deleted { key, revision: main }.into());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The deletions that need a lease, and the first put that nothing explains.
fn read(
    place: &Place<'_>,
    rules: &Rules<'_>,
    allowed: &mut AllowedChanges,
) -> Result<(Deletions, Option<Difference>), ComparisonError> {
    let mut deletions = Deletions::new();
    let mut database = open(place.db)?;
    let Some(bucket) = database.bucket("key")? else { return Ok((deletions, None)) };
    let mut cursor = database.cursor(&bucket, &place.until.saturating_add(1).to_be_bytes())?;
    while let Some((name, bytes)) = cursor.entry()? {
        let revision = Revision::parse(name)?;
        let key = record::key(bytes);
        if rules.may_be_written(key) {
            allowed.replayed += 1;
        } else if revision.is_deletion {
            let deletion = Deletion { revision: revision.main, lease: 0 };
            deletions.entry(key.to_vec()).or_insert(deletion);
        } else if rules.converts {
            allowed.converted += 1;
        } else {
            let (key, revision) = (key.to_vec(), revision.main);
            let what = "was written meanwhile";
            return Ok((deletions, Some(Difference::Revision { key, revision, what })));
        }
        cursor.advance()?;
    }
    Ok((deletions, None))
}

/// The lease of each key before it was deleted.
fn find_leases(db: &Path, deletions: &mut Deletions) -> Result<(), ComparisonError> {
    let mut database = open(db)?;
    let Some(bucket) = database.bucket("key")? else { return Ok(()) };
    let mut cursor = database.cursor(&bucket, &[])?;
    while let Some((name, bytes)) = cursor.entry()? {
        let revision = Revision::parse(name)?;
        if let Some(deletion) = deletions.get_mut(record::key(bytes))
            && revision.main < deletion.revision
        {
            deletion.lease = record::lease(bytes);
        }
        cursor.advance()?;
    }
    Ok(())
}
