//! Which programs of etcd a step starts.

use etcd_version::{EtcdVersion, Facts};

use super::steps::{DowngradeMethod, Step};
use super::v2_content::V2Removal;

/// The programs that a step starts, each with its version.
pub fn needed<'a>(step: &'a Step, target: &'a EtcdVersion) -> Vec<(&'static str, &'a EtcdVersion)> {
    match step {
        Step::Backup | Step::Record(_) => vec![],
        Step::CancelDowngrade(version) => vec![("etcd", version), ("etcdctl", target)],
        Step::Serve(version) => vec![("etcd", version)],
        Step::DropV2 { version, removal } | Step::ConvertV2 { version, removal, .. } => {
            let restore = (*removal == V2Removal::Restore).then(|| (restorer(version), version));
            [("etcd", version)].into_iter().chain(restore).collect()
        }
        Step::Downgrade { from, to, method: DowngradeMethod::InPlace } => {
            vec![("etcd", from), ("etcdctl", from), ("etcd", to)]
        }
        Step::Downgrade { from, to, method: DowngradeMethod::Snapshot } => {
            let schema = has_storage_version(from).then_some(("etcdutl", from));
            let programs = [("etcd", from), ("etcd", to), (restorer(to), to)];
            programs.into_iter().chain(schema).collect()
        }
    }
}

/// The program that restores snapshots: `etcdutl` if the version has it, because from 3.6 on
/// `etcdctl` cannot.
pub fn restorer(to: &EtcdVersion) -> &'static str {
    let has_etcdutl = etcd_version::programs_of(to).contains(&"etcdutl");
    if has_etcdutl { "etcdutl" } else { "etcdctl" }
}

/// Whether a database of this version holds its storage version, which `etcdutl migrate` changes.
pub fn has_storage_version(version: &EtcdVersion) -> bool {
    Facts::compiled_in().of(version.series()).has_storage_version
}
