//! The leases: their ids and how long they last. What is left of their time begins anew with every
//! server, so it does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use super::difference::{AllowedChanges, ComparisonError, Difference, Rules};
use super::digest::ContentDigest;
use crate::inspect::bolt::{Database, Error};
use crate::inspect::protobuf;

/// `leasepb.Lease`.
const TTL: u64 = 2;
const REMAINING_TTL: u64 = 3;

/// Their number and their digest.
pub fn read(database: &mut Database<File>) -> Result<(u64, ContentDigest), Error> {
    let (mut count, mut digest) = (0, ContentDigest::default());
    if let Some(bucket) = database.bucket("lease")? {
        database.each(&bucket, &mut |id, lease| {
            count += 1;
            digest.add(id);
            digest.add_number(protobuf::number(lease, TTL));
        })?;
    }
    Ok((count, digest))
}

/// A lease.
struct StoredLease {
    ttl: u64,
    /// Seconds after which it ends at the earliest.
    ends_after: u64,
}

/// Holds the leases of both in memory: only called when they differ.
pub fn compare(
    before: &mut Database<File>,
    after: &mut Database<File>,
    rules: &Rules<'_>,
    allowed: &mut AllowedChanges,
) -> Result<(), ComparisonError> {
    let (old, new) = (list(before)?, list(after)?);
    for (id, lease) in &old {
        match new.get(id) {
            Some(same) if same.ttl == lease.ttl => {}
            Some(_) => return Err(Difference::Lease(*id, "has another TTL").into()),
            None if rules.may_end(*id, lease.ends_after) => allowed.ended_leases += 1,
            None => return Err(Difference::Lease(*id, "is missing").into()),
        }
    }
    for id in new.keys().filter(|id| !old.contains_key(id)) {
        if !rules.may_be_granted(*id) {
            return Err(Difference::Lease(*id, "was not there before").into());
        }
        allowed.granted_leases += 1;
    }
    Ok(())
}

fn list(database: &mut Database<File>) -> Result<BTreeMap<u64, StoredLease>, Error> {
    let mut leases = BTreeMap::new();
    if let Some(bucket) = database.bucket("lease")? {
        database.each(&bucket, &mut |id, lease| {
            let id = id.first_chunk().map_or(0, |id| u64::from_be_bytes(*id));
            let ttl = protobuf::number(lease, TTL);
            let remaining = protobuf::number(lease, REMAINING_TTL);
            let ends_after = if remaining == 0 { ttl } else { ttl.min(remaining) };
            leases.insert(id, StoredLease { ttl, ends_after });
        })?;
    }
    Ok(leases)
}

/// Their ids.
pub fn ids(database: &mut Database<File>) -> Result<BTreeSet<u64>, Error> {
    Ok(list(database)?.into_keys().collect())
}
