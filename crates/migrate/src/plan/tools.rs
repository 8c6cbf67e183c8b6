//! Which programs of etcd a step starts.

use std::collections::BTreeSet;

use etcd_version::{Bundled, EtcdVersion, Facts, Series};

use super::steps::{DowngradeMethod, Step};
use super::v2_content::V2Removal;

/// The programs that a step starts, each with its version.
pub fn needed<'a>(step: &'a Step, target: &'a EtcdVersion) -> Vec<(&'static str, &'a EtcdVersion)> {
    match step {
        Step::Backup | Step::Record(_) => vec![],
        Step::Defrag(version) => vec![(restorer(version), version)],
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

/// The bundled version that restores a snapshot of `series`: its own, or the next one that can. Not
/// one without `etcdutl` if there is another: etcd 3.4 leaves the members of the old cluster in the
/// database.
pub fn snapshot_restorer(series: Series, bundled: &Bundled) -> Option<&EtcdVersion> {
    let newest_of =
        |series| bundled.versions().iter().filter(move |version| version.series() == series).max();
    let all: BTreeSet<_> = bundled.versions().iter().map(EtcdVersion::series).collect();
    let mut able = all.into_iter().filter(|candidate| *candidate >= series).filter_map(newest_of);
    let first = able.next()?;
    Some(if restorer(first) == "etcdutl" {
        first
    } else {
        able.find(|version| restorer(version) == "etcdutl").unwrap_or(first)
    })
}

/// The program that works on files, such as snapshots: `etcdutl` if the version has it, because
/// from 3.6 on `etcdctl` cannot.
pub fn restorer(to: &EtcdVersion) -> &'static str {
    let has_etcdutl = etcd_version::programs_of(to).contains(&"etcdutl");
    if has_etcdutl { "etcdutl" } else { "etcdctl" }
}

/// Whether a database of this version holds its storage version, which `etcdutl migrate` changes.
pub fn has_storage_version(version: &EtcdVersion) -> bool {
    Facts::current().of(version.series()).has_storage_version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_restored_by_its_own_version_or_the_next_one_that_does_it_well() {
        let bundled = |list: &str| list.replace(' ', "\n").parse::<Bundled>().unwrap();
        for (versions, minor, expected) in [
            ("3.4.21 3.5.32 3.5.33 3.6.14", 4, Some("3.5.33")),
            ("3.4.21 3.5.32 3.5.33 3.6.14", 3, Some("3.5.33")),
            ("3.4.21 3.5.33 3.6.14", 6, Some("3.6.14")),
            ("3.4.21", 4, Some("3.4.21")),
            ("3.4.21 3.7.1", 5, Some("3.7.1")),
            ("3.4.21 3.5.33", 6, None),
        ] {
            let bundled = bundled(versions);
            let version = snapshot_restorer(Series::new(3, minor), &bundled);
            let version = version.map(ToString::to_string);
            assert_eq!(version.as_deref(), expected, "3.{minor} with {versions}");
        }
    }
}
