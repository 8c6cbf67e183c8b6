//! Which of etcd's tools a downgrade by snapshot needs, by version.

use etcd_version::EtcdVersion;

/// The program that restores snapshots: `etcdutl` since it exists, and from 3.6 on only that.
pub fn restorer(to: &EtcdVersion) -> &'static str {
    if to.minor() >= 5 { "etcdutl" } else { "etcdctl" }
}

/// Whether a database of this version names its own layout, and `etcdutl migrate` can change it.
pub fn has_schema(version: &EtcdVersion) -> bool {
    version.minor() >= 6
}
