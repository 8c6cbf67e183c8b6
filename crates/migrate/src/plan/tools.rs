//! Which of etcd's tools a downgrade by snapshot needs, by version.

use etcd_version::EtcdVersion;

/// The program that restores snapshots: `etcdutl` if the version has it, because from 3.6 on
/// `etcdctl` cannot.
pub fn restorer(to: &EtcdVersion) -> &'static str {
    if to.minor() >= 5 { "etcdutl" } else { "etcdctl" }
}

/// Whether a database of this version holds its storage version, which `etcdutl migrate` changes.
pub fn has_schema(version: &EtcdVersion) -> bool {
    version.minor() >= 6
}
