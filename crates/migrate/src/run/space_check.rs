//! Whether there is room for a copy and for what the steps write, on each file system for its own
//! part.

use std::path::Path;

use crate::error::MigrateError;
use crate::inspect::disk_space;
use crate::inspect::layout::DataLayout;
use crate::plan::space::StepBytes;
use crate::platform;

const STEPS: &str = "what the steps write";

/// What is going to be written.
#[derive(Debug)]
pub struct SpaceCheck<'a> {
    pub layout: &'a DataLayout,
    pub steps: StepBytes,
}

/// Something that has to fit.
#[derive(Clone, Copy, Debug)]
struct Need<'a> {
    place: &'a Path,
    bytes: u64,
}

impl SpaceCheck<'_> {
    /// An error if something does not fit. `copy` is a directory, and what is copied into it in
    /// bytes.
    pub fn check(&self, copy: Option<(&Path, u64)>) -> Result<(), MigrateError> {
        let steps = self.step_needs()?;
        let Some((place, bytes)) = copy else {
            return steps
                .iter()
                .try_for_each(|need| disk_space::check(need.place, need.bytes, STEPS));
        };
        let own = file_system(place)?;
        let mut beside = None;
        for need in &steps {
            if file_system(need.place)? == own {
                beside = Some(need.bytes);
            }
        }
        match beside {
            Some(more) => {
                let what = "a copy of the data with what the steps write";
                disk_space::check(place, bytes + more, what)?;
            }
            None => disk_space::check(place, bytes, "a copy of the data")?,
        }
        for need in steps {
            if file_system(need.place)? != own {
                disk_space::check(need.place, need.bytes, STEPS)?;
            }
        }
        Ok(())
    }

    /// One for each file system.
    fn step_needs(&self) -> Result<Vec<Need<'_>>, MigrateError> {
        let StepBytes { log, restored } = self.steps;
        let is_plain = self.layout.can_be_renamed();
        let place = if is_plain { &self.layout.data_dir } else { &self.layout.snap };
        let wal = &self.layout.wal;
        // The file that a killed server has left is used by the next one.
        let allocated = disk_space::allocated_log_bytes(wal);
        if file_system(place)? == file_system(wal)? {
            return Ok(vec![Need { place, bytes: log.max(restored).saturating_sub(allocated) }]);
        }
        let log = Need { place: wal, bytes: log.saturating_sub(allocated) };
        Ok(vec![log, Need { place, bytes: restored }])
    }
}

fn file_system(path: &Path) -> Result<u64, MigrateError> {
    platform::file_system(path).map_err(|error| MigrateError::file("look at", path, &error))
}
