//! Users, roles, and whether they are asked for.

use std::collections::BTreeMap;
use std::fs::File;

use super::difference::{ComparisonError, Difference};
use super::digest::ContentDigest;
use super::record;
use crate::inspect::bolt::{Database, Error};

const USERS: &str = "authUsers";
const ROLES: &str = "authRoles";

/// The number of users and of roles, and the digest of all.
pub fn read(database: &mut Database<File>) -> Result<(u64, u64, ContentDigest), Error> {
    let mut digest = ContentDigest::default();
    let (is_enabled, revision) = settings(database)?;
    digest.add_number(u64::from(is_enabled));
    digest.add_number(revision);
    let mut count = |name| {
        let mut count = 0;
        if let Some(bucket) = database.bucket(name)? {
            database.each(&bucket, &mut |name, content| {
                count += 1;
                digest.add(name);
                digest.add(content);
            })?;
        }
        digest.add_number(count);
        Ok::<u64, Error>(count)
    };
    Ok((count(USERS)?, count(ROLES)?, digest))
}

/// Whether authentication is enabled, and how often users and roles were changed. A database from
/// before the first start of a server may lack the latter.
fn settings(database: &mut Database<File>) -> Result<(bool, u64), Error> {
    let Some(bucket) = database.bucket("auth")? else { return Ok((false, 0)) };
    let is_enabled = database.get(&bucket, "authEnabled")?.is_some_and(|value| value == [1]);
    Ok((is_enabled, record::mark(database.get(&bucket, "authRevision")?.as_deref())))
}

/// Names the first difference. Only called when the digests differ.
pub fn compare(
    before: &mut Database<File>,
    after: &mut Database<File>,
) -> Result<(), ComparisonError> {
    for (kind, bucket) in [("user", USERS), ("role", ROLES)] {
        let (old, new) = (list(before, bucket)?, list(after, bucket)?);
        for (name, content) in &old {
            let what = match new.get(name) {
                None => "is missing",
                Some(other) if other != content => "was changed",
                Some(_) => continue,
            };
            return Err(Difference::Named { kind, name: name.clone(), what }.into());
        }
        if let Some(name) = new.keys().find(|name| !old.contains_key(*name)) {
            let (name, what) = (name.clone(), "was not there before");
            return Err(Difference::Named { kind, name, what }.into());
        }
    }
    Err(Difference::AuthSettings.into())
}

fn list(database: &mut Database<File>, name: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut list = BTreeMap::new();
    if let Some(bucket) = database.bucket(name)? {
        database.each(&bucket, &mut |name, content| {
            list.insert(name.to_vec(), content.to_vec());
        })?;
    }
    Ok(list)
}
