//! What clients have stored in a database: keys with their history, leases, users and roles, as
//! figures and digests, to tell before and after apart.
//!
//! Two databases with the same contents may have different pages. Memory does not grow with the
//! database. Reports no value of a key.

mod added;
pub mod compare;
mod difference;
mod digest;
mod history;
mod leases;
mod line;
mod record;
mod users;

use std::fs::File;
use std::path::Path;

use crate::inspect::bolt::{Bucket, Cursor, Database, Error};
use crate::inspect::keys;
use digest::ContentDigest;
use record::Revision;

/// How much of the history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every revision.
    Full,
    /// Parts of it, evenly spread: always the same number, however long it is.
    Quick,
}

/// What a database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub depth: Depth,
    /// Keys that exist at the newest revision. `None` if not every revision was read.
    pub keys: Option<u64>,
    /// How many revisions were read, deletions included.
    pub revisions: u64,
    /// Those of them that are newer than the digest of the history.
    pub added: u64,
    /// The newest revision of the store.
    pub revision: u64,
    /// The revision of the last compaction, 0 if there was none.
    pub compacted: u64,
    /// That of the last compaction that was asked for. A server that finds it unfinished ends it.
    pub scheduled: u64,
    pub leases: u64,
    pub users: u64,
    pub roles: u64,
    history: ContentDigest,
    leases_digest: ContentDigest,
    users_digest: ContentDigest,
}

/// How many parts of the history a quick look reads.
const PARTS: u64 = 64;
/// It leaves a part after so many revisions, or so many bytes.
const PART_REVISIONS: u64 = 64;
const PART_BYTES: usize = 256 << 10;
/// A part of its own: the newest revisions.
const NEWEST: u64 = 16;

/// Reads a database. The digest of its history ends at the newest revision, or where that of
/// `before` ends.
pub fn read(db: &Path, depth: Depth, before: Option<&Contents>) -> Result<Contents, Error> {
    let mut database = open(db)?;
    let keys = (depth == Depth::Full).then_some(0);
    let mut contents = Contents { depth, keys, ..Contents::default() };
    if let Some(meta) = database.bucket("meta")? {
        let mut mark = |name| database.get(&meta, name).map(|value| record::mark(value.as_deref()));
        contents.scheduled = mark("scheduledCompactRev")?;
        contents.compacted = mark("finishedCompactRev")?;
    }
    (contents.leases, contents.leases_digest) = leases::read(&mut database)?;
    (contents.users, contents.roles, contents.users_digest) = users::read(&mut database)?;
    if let Some(bucket) = database.bucket("key")? {
        let newest = database.last_key(&bucket)?.map(|key| Revision::parse(&key)).transpose()?;
        let newest = newest.map_or(0, |revision| revision.main);
        contents.revision = contents.revision.max(newest).max(contents.mark());
        contents.read_history(&mut database, &bucket, before)?;
    }
    if depth == Depth::Full && contents.scheduled > contents.compacted {
        // Some of what the compaction removes may be left, and then only a list of keys counts
        // them.
        contents.keys = Some(keys::count(&mut open(db)?)?.live);
    }
    Ok(contents)
}

fn open(db: &Path) -> Result<Database<File>, Error> {
    Database::open(File::open(db)?)
}

/// The first and the last revision of each part of the history, which ends at `newest`.
fn parts(newest: u64) -> Vec<(u64, u64)> {
    let spread = (0..PARTS).map(|index| newest / PARTS * index);
    let mut firsts: Vec<_> = spread.chain([newest.saturating_sub(NEWEST - 1)]).collect();
    firsts.sort_unstable();
    firsts.dedup();
    let lasts = firsts.iter().skip(1).map(|next| next - 1).chain([newest]);
    firsts.iter().copied().zip(lasts).collect()
}

impl Default for Contents {
    /// Those of an empty store.
    fn default() -> Self {
        Self {
            depth: Depth::Full,
            keys: Some(0),
            revisions: 0,
            added: 0,
            revision: 1,
            compacted: 0,
            scheduled: 0,
            leases: 0,
            users: 0,
            roles: 0,
            history: ContentDigest::default(),
            leases_digest: ContentDigest::default(),
            users_digest: ContentDigest::default(),
        }
    }
}

impl Contents {
    /// Up to this revision the history may be thinned out.
    fn mark(&self) -> u64 {
        self.scheduled.max(self.compacted)
    }

    fn read_history(
        &mut self,
        database: &mut Database<File>,
        bucket: &Bucket,
        before: Option<&Self>,
    ) -> Result<(), Error> {
        let until = before.map_or(u64::MAX, |before| before.revision);
        if self.depth == Depth::Full {
            return self.read_part(database.cursor(bucket, &[])?, (u64::MAX, until));
        }
        for (first, last) in parts(before.map_or(self.revision, |before| before.revision)) {
            let cursor = database.cursor(bucket, &first.to_be_bytes())?;
            self.read_part(cursor, (last, until))?;
        }
        match before {
            // What is new is read as a whole.
            Some(_) => {
                let cursor = database.cursor(bucket, &until.saturating_add(1).to_be_bytes())?;
                self.read_part(cursor, (u64::MAX, until))
            }
            None => Ok(()),
        }
    }

    /// Reads from the cursor on up to the revision `last`. The digest ends at `until`.
    fn read_part(
        &mut self,
        mut cursor: Cursor<'_, File>,
        (last, until): (u64, u64),
    ) -> Result<(), Error> {
        let is_limited = last < u64::MAX;
        let (mut revisions, mut size_bytes) = (0, 0);
        while let Some((key, record)) = cursor.entry()? {
            let revision = Revision::parse(key)?;
            let is_full = revisions >= PART_REVISIONS || size_bytes >= PART_BYTES;
            if revision.main > last || (is_limited && is_full) {
                break;
            }
            (revisions, size_bytes) = (revisions + 1, size_bytes + record.len());
            self.count(revision, record);
            self.revision = self.revision.max(revision.main);
            if revision.main > until {
                self.added += 1;
            } else {
                self.history.add(key);
                self.history.add(record);
            }
            cursor.advance()?;
        }
        Ok(())
    }

    /// Counts a record. A put begins a key if it is its first one, or all that a compaction left of
    /// it.
    fn count(&mut self, revision: Revision, bytes: &[u8]) {
        self.revisions += 1;
        let is_compacted = revision.main <= self.compacted;
        let Some(keys) = &mut self.keys else { return };
        if revision.is_deletion {
            *keys = keys.saturating_sub(u64::from(!is_compacted));
        } else if !record::is_mark(bytes) && (is_compacted || record::version(bytes) == 1) {
            *keys += 1;
        }
    }
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
