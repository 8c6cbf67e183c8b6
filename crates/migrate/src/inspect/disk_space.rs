//! How much the steps write beside the data, so that a disk that is too small is told before the
//! first of them.

use std::fs;
use std::path::Path;

use crate::failure::{Failure, Kind};
use crate::plan::steps::{Step, Way};
use crate::platform;
use crate::run::downgrade::has_schema;

/// etcd lays out each file of its log in full (`wal.SegmentSizeBytes`), and does not start when there
/// is no room for the next one.
const LOG_FILE_BYTES: u64 = 64_000_000;

/// What the steps write at the same time. Each cleans up after itself.
pub fn of_steps(steps: &[Step], db_bytes: u64) -> u64 {
    let of_step = |step: &Step| match step {
        Step::Backup | Step::Record(_) => 0,
        Step::CancelDowngrade(_) | Step::Serve(_) | Step::Downgrade { way: Way::InPlace, .. } => {
            LOG_FILE_BYTES
        }
        // One more for the tool that takes newer things out of the database.
        Step::Downgrade { from, way: Way::Snapshot, .. } => {
            let count = if has_schema(from) { 2 } else { 1 };
            count * (db_bytes + LOG_FILE_BYTES)
        }
    };
    steps.iter().map(of_step).max().unwrap_or_default()
}

/// What a server that was killed has laid out, and the next one takes over.
pub fn laid_out(member: &Path) -> u64 {
    fs::metadata(member.join("wal").join("0.tmp")).map_or(0, |metadata| metadata.len())
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
        let needed = |steps: &[Step]| of_steps(steps, 100_000_000) / 1_000_000;
        let record = Step::Record("3.6.14".parse().unwrap());
        let serve = Step::Serve("3.5.33".parse().unwrap());
        let one = down("3.5.33", "3.4.27", Way::Snapshot);
        let two = down("3.6.14", "3.5.33", Way::Snapshot);
        let in_place = down("3.6.14", "3.5.33", Way::InPlace);
        assert_eq!(needed(&[Step::Backup, record]), 0);
        assert_eq!(needed(&[Step::Backup, serve]), 64);
        assert_eq!(needed(&[in_place]), 64);
        assert_eq!(needed(std::slice::from_ref(&one)), 164);
        assert_eq!(needed(&[two, one]), 328);
    }
}
