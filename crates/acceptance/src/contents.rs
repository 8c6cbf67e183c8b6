//! Test data in a cluster: keys, leases and a compacted history, written and compared.

use super::error::{CaseError, ensure};
use super::etcd::{Cluster, PUTS_IN_ONE};

const LEASES: usize = 3;

/// Writes keys as Kubernetes names them, changes one, deletes one, adds some with leases, and
/// compacts the history. Returns the whole content.
pub fn write(cluster: &Cluster<'_>, count: usize) -> Result<String, CaseError> {
    let keys: Vec<_> = (0..count).collect();
    for block in keys.chunks(PUTS_IN_ONE) {
        let puts: Vec<_> =
            block.iter().map(|key| format!("put /registry/pods/{key:06} value-{key}")).collect();
        let text = format!("\n{}\n\n\n", puts.join("\n"));
        cluster.pod.must(&cluster.asked(&["txn"]).input(text))?;
    }
    for number in 0..LEASES {
        let granted = cluster.ctl(&["lease", "grant", "100000"])?;
        let lease = granted.split_whitespace().nth(1).unwrap_or_default().to_owned();
        ensure(!lease.is_empty(), || format!("no lease in `{granted}`"))?;
        let key = format!("/registry/leased/{number}");
        cluster.ctl(&["put", &key, "x", &format!("--lease={lease}")])?;
    }
    cluster.ctl(&["put", "/registry/pods/000000", "changed"])?;
    cluster.ctl(&["del", "/registry/pods/000001"])?;
    cluster.ctl(&["compact", "3"])?;
    let all = read(cluster)?;
    ensure(all.len() > count * 20, || "what was written is not there".to_owned())?;
    Ok(all)
}

/// Every key with value, lease and revisions, every lease, and the revision of the store.
pub fn read(cluster: &Cluster<'_>) -> Result<String, CaseError> {
    let keys = cluster.ctl(&["get", "/registry", "--prefix", "-w=json"])?;
    let (header, keys) = keys
        .split_once("\"kvs\"")
        .ok_or_else(|| CaseError::failed("there are no keys any more"))?;
    let revision = header.split("\"revision\":").nth(1).and_then(|rest| rest.split(',').next());
    let leases = cluster.ctl(&["lease", "list"])?;
    // They are listed in the order of their expiry, which servers compute again when they start.
    let mut leases: Vec<_> = leases.lines().collect();
    leases.sort_unstable();
    Ok(format!("{} {keys}{}", revision.unwrap_or_default(), leases.join(" ")))
}

/// An error that names the first difference.
pub fn compare(expected: &str, received: &str) -> Result<(), CaseError> {
    if expected == received {
        return Ok(());
    }
    let pairs = expected.bytes().zip(received.bytes());
    let at = pairs.take_while(|(one, other)| one == other).count();
    let around = |text: &str| {
        let bytes = &text.as_bytes()[at.saturating_sub(40).min(text.len())..];
        String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned()
    };
    Err(CaseError::failed(format_args!(
        "keys, values, leases or revisions are not what they were\n  expected …{}…\n  received …{}…",
        around(expected),
        around(received)
    )))
}
