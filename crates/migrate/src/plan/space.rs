//! How much the steps write beside the data, so that a disk that is too small is reported before
//! the first step.

use super::steps::{DowngradeMethod, Step};
use super::tools::has_storage_version;
use super::v2_content::V2Removal;

/// The size of a file of the log (`wal.SegmentSizeBytes`). etcd allocates it as a whole, and does
/// not start when there is no room for the next one.
const LOG_FILE_BYTES: u64 = 64_000_000;

/// What a restored snapshot takes, with what the tool writes meanwhile: it copies the database
/// before it works on it.
pub fn bytes_restored(snapshot_bytes: u64) -> u64 {
    2 * snapshot_bytes + LOG_FILE_BYTES
}

/// How much steps write beside the data, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepBytes {
    /// Where the log is.
    pub log: u64,
    /// Where a downgrade by snapshot puts the restored data.
    pub restored: u64,
}

/// The largest number of bytes that a step writes to each place. Each step removes what it wrote
/// before the next one starts.
pub fn bytes_written(steps: &[Step], db_bytes: u64) -> StepBytes {
    let removed = |removal| match removal {
        V2Removal::Delete => StepBytes { log: LOG_FILE_BYTES, restored: 0 },
        V2Removal::Restore => {
            StepBytes { log: LOG_FILE_BYTES, restored: db_bytes + LOG_FILE_BYTES }
        }
    };
    let of_step = |step: &Step| match step {
        Step::Backup | Step::Record(_) => StepBytes::default(),
        Step::Defrag(_) => StepBytes { log: 0, restored: db_bytes },
        Step::CancelDowngrade(_)
        | Step::Serve(_)
        | Step::Downgrade { method: DowngradeMethod::InPlace, .. } => {
            StepBytes { log: LOG_FILE_BYTES, restored: 0 }
        }
        Step::DropV2 { removal, .. } => removed(*removal),
        // What is converted goes into the log and the database, and is in the raft snapshots still.
        Step::ConvertV2 { removal, size_bytes, .. } => {
            let StepBytes { log, restored } = removed(*removal);
            StepBytes { log: log + 3 * size_bytes, restored }
        }
        // One more for the tool that removes from the database what the older version does not
        // know.
        Step::Downgrade { from, method: DowngradeMethod::Snapshot, .. } => {
            let count = if has_storage_version(from) { 2 } else { 1 };
            StepBytes { log: LOG_FILE_BYTES, restored: count * (db_bytes + LOG_FILE_BYTES) }
        }
    };
    let both = |one: StepBytes, other: StepBytes| StepBytes {
        log: one.log.max(other.log),
        restored: one.restored.max(other.restored),
    };
    steps.iter().map(of_step).fold(StepBytes::default(), both)
}

#[cfg(test)]
mod tests {
    use etcd_version::EtcdVersion;

    use super::*;

    fn down(from: &str, to: &str, method: DowngradeMethod) -> Step {
        Step::Downgrade { from: from.parse().unwrap(), to: to.parse().unwrap(), method }
    }

    #[test]
    fn steps_need_what_the_largest_writes() {
        let needed = |steps: &[Step]| {
            let StepBytes { log, restored } = bytes_written(steps, 100_000_000);
            [log, restored].map(|bytes| bytes / 1_000_000)
        };
        let record = Step::Record("3.6.14".parse().unwrap());
        let serve = Step::Serve("3.5.33".parse().unwrap());
        let one = down("3.5.33", "3.4.27", DowngradeMethod::Snapshot);
        let two = down("3.6.14", "3.5.33", DowngradeMethod::Snapshot);
        let in_place = down("3.6.14", "3.5.33", DowngradeMethod::InPlace);
        let version: EtcdVersion = "3.5.33".parse().unwrap();
        let drop = |removal| Step::DropV2 { version: version.clone(), removal };
        assert_eq!(needed(&[drop(V2Removal::Delete)]), [64, 0]);
        assert_eq!(needed(&[drop(V2Removal::Restore)]), [64, 164]);
        let removal = V2Removal::Delete;
        let convert = Step::ConvertV2 { version, removal, size_bytes: 50_000_000 };
        assert_eq!(needed(&[convert]), [214, 0]);
        assert_eq!(needed(&[Step::Backup, record]), [0, 0]);
        assert_eq!(needed(&[Step::Backup, serve]), [64, 0]);
        assert_eq!(needed(&[in_place]), [64, 0]);
        assert_eq!(needed(std::slice::from_ref(&one)), [64, 164]);
        assert_eq!(needed(&[two, one]), [64, 328]);
    }
}
