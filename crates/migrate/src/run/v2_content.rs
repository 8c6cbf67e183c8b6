//! Takes content of the v2 API out of the data: writes its keys into the v3 API, and deletes it.
//!
//! May be killed at any time and be done again: a key that exists is left alone, a lease is known
//! by its ID, and what is deleted has been converted before.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use etcd_version::EtcdVersion;

use super::downgrade;
use super::http::HttpRequest;
use super::json_gateway::{JsonGateway, LeaseOrigin};
use super::poll::Poll;
use super::server::Server;
use super::step_context::StepContext;
use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::log;
use crate::inspect::v2_store::{V2Key, V2Store};
use crate::plan::v2_content::V2Removal;

/// How many keys are written at once: fewer than half of what etcd takes in one transaction.
const BATCH_KEYS: usize = 60;
const BATCH_BYTES: usize = 1 << 20;
/// The longest time that etcd grants (`lease.MaxLeaseTTL`), in seconds.
const LONGEST_LEASE: i64 = 9_000_000_000;
const NANOSECONDS: i64 = 1_000_000_000;

/// What became of the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Conversion {
    converted: usize,
    /// The v3 API has a key of that name.
    existed: usize,
    expired: usize,
    leases: usize,
}

/// Removes the content. The version is that of the data, or the next.
pub fn drop_all(
    context: &StepContext<'_>,
    version: &EtcdVersion,
    removal: V2Removal,
) -> Result<(), MigrateError> {
    if removal == V2Removal::Restore {
        return downgrade::by_snapshot(context, version, version);
    }
    context.request(version, |server| {
        let store = read(context, server)?;
        delete(context, server, &store)
    })?;
    context.upgrade(version)
}

/// Writes the visible keys into the v3 API unless they exist there, and removes the content.
pub fn convert(
    context: &StepContext<'_>,
    version: &EtcdVersion,
    removal: V2Removal,
) -> Result<(), MigrateError> {
    context.request(version, |server| {
        let store = read(context, server)?;
        let counts = convert_keys(&mut gateway(context, server), &store)?;
        report(context, counts);
        match removal {
            V2Removal::Delete => delete(context, server, &store),
            V2Removal::Restore => Ok(()),
        }
    })?;
    match removal {
        V2Removal::Delete => context.upgrade(version),
        V2Removal::Restore => downgrade::by_snapshot(context, version, version),
    }
}

/// The content. A server answers only after it has applied what is in its log, and nobody else
/// writes.
fn read(context: &StepContext<'_>, server: &mut Server<'_>) -> Result<V2Store, MigrateError> {
    let layout = &context.options.layout;
    let poll = Poll::start();
    loop {
        server.check()?;
        // An error may mean that the server has removed a file meanwhile.
        match log::v2_store(&layout.wal, &layout.snap) {
            Ok(store) => return Ok(store),
            Err(error) if poll.is_longer_than(context.options.timeouts.start) => {
                return Err(MigrateError::file("read the log in", &layout.wal, &error));
            }
            Err(_) => poll.pause(),
        }
    }
}

fn gateway<'s, 'a>(context: &StepContext<'_>, server: &'s mut Server<'a>) -> JsonGateway<'s, 'a> {
    JsonGateway { server, limit: context.options.timeouts.start }
}

fn report(context: &StepContext<'_>, counts: Conversion) {
    let Conversion { converted, existed, expired, leases } = counts;
    context.server.log.counts(
        "v2-converted",
        &[("converted", converted), ("existed", existed), ("expired", expired), ("leases", leases)],
        format_args!(
            "keys of the v2 API: {converted} are keys of the v3 API now, {existed} existed there, \
             {expired} have expired; leases: {leases}"
        ),
    );
}

/// Keys with the same end have one lease, whose ID is that end: another run finds it again.
fn convert_keys(
    gateway: &mut JsonGateway<'_, '_>,
    store: &V2Store,
) -> Result<Conversion, MigrateError> {
    let mut groups: BTreeMap<Option<i64>, Vec<V2Key<'_>>> = BTreeMap::new();
    for key in store.keys().into_iter().filter(V2Key::is_visible) {
        groups.entry(key.expires).or_default().push(key);
    }
    let mut counts = Conversion::default();
    for (expires, keys) in groups {
        let mut is_leased = false;
        for batch in batches(&keys) {
            let Some(new) = put(gateway, &batch, expires)? else {
                counts.expired += batch.len();
                continue;
            };
            counts.converted += new;
            counts.existed += batch.len() - new;
            is_leased |= expires.is_some() && new > 0;
        }
        counts.leases += usize::from(is_leased);
    }
    Ok(counts)
}

/// Writes the keys that do not exist; their number, or `None` if they have expired.
fn put(
    gateway: &mut JsonGateway<'_, '_>,
    pairs: &[(&str, &str)],
    expires: Option<i64>,
) -> Result<Option<usize>, MigrateError> {
    let Some(end) = expires else { return gateway.put_missing(pairs, 0) };
    let poll = Poll::start();
    while let Some(seconds) = remaining_seconds(end, now()) {
        let lease = gateway.grant(end, seconds)?;
        if let Some(new) = gateway.put_missing(pairs, end)? {
            if new == 0 && lease == LeaseOrigin::New {
                gateway.revoke(end)?;
            }
            return Ok(Some(new));
        }
        // That of an earlier run has just ended.
        if poll.is_longer_than(gateway.limit) {
            let what = format_args!("etcd grants a lease that it does not have: {end}");
            return Err(MigrateError::new(MigrateErrorKind::StepFailed, what));
        }
        poll.pause();
    }
    Ok(None)
}

/// Keys with their values, in groups that fit into one transaction.
fn batches<'a>(keys: &'a [V2Key<'_>]) -> Vec<Vec<(&'a str, &'a str)>> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    let mut room = 0;
    for key in keys {
        let size_bytes = key.path.len() + key.value.len();
        if size_bytes > room || batches.last().is_none_or(|batch| batch.len() == BATCH_KEYS) {
            batches.push(Vec::new());
            room = BATCH_BYTES;
        }
        room = room.saturating_sub(size_bytes);
        if let Some(batch) = batches.last_mut() {
            batch.push((&*key.path, key.value));
        }
    }
    batches
}

/// Nanoseconds since 1970, as etcd writes when a key expires.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn remaining_seconds(end: i64, now: i64) -> Option<i64> {
    let nanoseconds = end.checked_sub(now).filter(|rest| *rest > 0)?;
    let begun = i64::from(nanoseconds % NANOSECONDS > 0);
    Some((nanoseconds / NANOSECONDS + begun).min(LONGEST_LEASE))
}

/// Deletes what was read: each name at the top, with all below it.
fn delete(
    context: &StepContext<'_>,
    server: &mut Server<'_>,
    store: &V2Store,
) -> Result<(), MigrateError> {
    let mut gateway = gateway(context, server);
    for name in store.names() {
        let path = format!("{}?recursive=true", url_path(name));
        // A refusal means that it has expired; what is left is seen after the step.
        gateway.send(HttpRequest { method: "DELETE", path: &path, body: "" })?;
    }
    let keys = store.keys().len();
    let message = format_args!("content of the v2 API is deleted; keys: {keys}");
    context.server.log.counts("v2-deleted", &[("keys", keys)], message);
    Ok(())
}

/// Where the v2 API has a name of the top.
fn url_path(name: &str) -> String {
    let mut path = "/v2/keys/".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.extend(['%', hex(byte >> 4), hex(byte & 0xf)]);
        }
    }
    path
}

fn hex(digit: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(digit)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = NANOSECONDS;

    #[test]
    fn a_lease_has_what_remains_in_whole_seconds() {
        assert_eq!(remaining_seconds(10 * SECOND, 4 * SECOND), Some(6));
        assert_eq!(remaining_seconds(10 * SECOND + 1, 4 * SECOND), Some(7));
        assert_eq!(remaining_seconds(10 * SECOND, 10 * SECOND - 1), Some(1));
        assert_eq!(remaining_seconds(10 * SECOND, 10 * SECOND), None);
        assert_eq!(remaining_seconds(-5, 10 * SECOND), None);
        assert_eq!(remaining_seconds(i64::MIN, 1), None);
        assert_eq!(remaining_seconds(i64::MAX, 0), Some(LONGEST_LEASE));
    }

    #[test]
    fn keys_are_written_in_groups_that_etcd_takes() {
        let long = "x".repeat(BATCH_BYTES / 2);
        let key = |index: usize, value| V2Key { path: format!("/{index}"), value, expires: None };
        let sizes = |keys: &[V2Key<'_>]| batches(keys).iter().map(Vec::len).collect::<Vec<_>>();
        let short: Vec<_> = (0..125).map(|index| key(index, "")).collect();
        assert_eq!(sizes(&short), [60, 60, 5]);
        let long: Vec<_> = (0..3).map(|index| key(index, &long)).collect();
        assert_eq!(sizes(&long), [1, 1, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }

    #[test]
    fn a_name_is_written_as_in_a_url() {
        assert_eq!(url_path("a b%ü?#"), "/v2/keys/a%20b%25%C3%BC%3F%23");
    }
}
