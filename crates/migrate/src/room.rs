//! How much the steps write beside the data, so that a disk that is too small is told before the
//! first of them.

use std::path::Path;

use crate::downgrade::has_schema;
use crate::failure::{Failure, Kind};
use crate::plan::{Step, Way};
use crate::platform;

/// etcd lays out each file of its log in full (`wal.SegmentSizeBytes`).
const LOG_FILE_BYTES: u64 = 64 << 20;

/// What the steps write at the same time. Each cleans up after itself.
pub fn of_steps(steps: &[Step], db_bytes: u64) -> u64 {
    let of_step = |step: &Step| match step {
        Step::Backup | Step::Record(_) => 0,
        // The file after the one that is written to.
        Step::CancelDowngrade(_) | Step::Serve(_) => LOG_FILE_BYTES,
        Step::Downgrade { .. } => LOG_FILE_BYTES.max(of_restores(step, db_bytes)),
    };
    steps.iter().map(of_step).max().unwrap_or_default()
}

/// What restores write, without which they fail. A server lives without its next file for a while.
pub fn of_all_restores(steps: &[Step], db_bytes: u64) -> u64 {
    steps.iter().map(|step| of_restores(step, db_bytes)).max().unwrap_or_default()
}

fn of_restores(step: &Step, db_bytes: u64) -> u64 {
    let Step::Downgrade { from, way: Way::Snapshot, .. } = step else { return 0 };
    // One more for the tool that takes newer things out of the database.
    let count = if has_schema(from) { 2 } else { 1 };
    count * (db_bytes + LOG_FILE_BYTES)
}

/// Whether a file system has room for what is about to be written there.
pub fn check(place: &Path, needed: u64, what: &str) -> Result<(), Failure> {
    let free = platform::free_bytes(place)
        .map_err(|error| Failure::file("look at the free space of", place, &error))?;
    match free {
        Some(free) if free < needed => Err(Failure::new(
            Kind::System,
            format_args!(
                "{} has {} MiB free, and {what} needs {} MiB",
                place.display(),
                free >> 20,
                (needed >> 20) + 1
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(from: &str, to: &str, way: Way) -> Step {
        Step::Downgrade { from: from.parse().unwrap(), to: to.parse().unwrap(), way }
    }

    #[test]
    fn steps_need_what_the_largest_writes() {
        let mebibytes = |steps: &[Step]| {
            [of_steps(steps, 100 << 20) >> 20, of_all_restores(steps, 100 << 20) >> 20]
        };
        let record = Step::Record("3.6.14".parse().unwrap());
        let serve = Step::Serve("3.5.33".parse().unwrap());
        let one = down("3.5.33", "3.4.27", Way::Snapshot);
        let two = down("3.6.14", "3.5.33", Way::Snapshot);
        let in_place = down("3.6.14", "3.5.33", Way::InPlace);
        assert_eq!(mebibytes(&[Step::Backup, record]), [0, 0]);
        assert_eq!(mebibytes(&[Step::Backup, serve]), [64, 0]);
        assert_eq!(mebibytes(&[in_place]), [64, 0]);
        assert_eq!(mebibytes(std::slice::from_ref(&one)), [164, 164]);
        assert_eq!(mebibytes(&[two, one]), [328, 328]);
    }
}
