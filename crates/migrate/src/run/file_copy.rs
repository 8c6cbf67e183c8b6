//! Copies files one after the other, in blocks that are durable before the next one begins, so that
//! a copy which was interrupted goes on where it was.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::compare::has_same_part;
use crate::inspect::member_files::FileSource;
use crate::platform;
use crate::report::event::EventLog;
use crate::run::signal::StopSignal;
use crate::state::copy_record::CopyRecord;

/// How much is copied between two looks at the signals: a few seconds on a slow disk.
pub const BLOCK_BYTES: u64 = 32 << 20;
/// How often a long copy says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A copy at work.
#[derive(Debug)]
pub struct FileCopy<'a> {
    /// The directory of the copy.
    pub into: &'a Path,
    pub record: CopyRecord,
    pub stop: &'a StopSignal,
    pub progress: CopyProgress,
}

/// Says every ten seconds how far a copy is.
#[derive(Debug)]
pub struct CopyProgress {
    log: EventLog,
    said: Instant,
    done_bytes: u64,
    total_bytes: u64,
}

impl CopyProgress {
    pub fn new(log: EventLog) -> Self {
        Self { log, said: Instant::now(), done_bytes: 0, total_bytes: 0 }
    }

    /// How much there is to copy, and how much of it earlier runs have done.
    pub fn begin(&mut self, done_bytes: u64, total_bytes: u64) {
        (self.done_bytes, self.total_bytes) = (done_bytes, total_bytes);
    }

    fn add(&mut self, bytes: u64) {
        self.done_bytes += bytes;
        if self.said.elapsed() >= REPORT_EVERY {
            self.said = Instant::now();
            self.log.progress("backup-progress", self.done_bytes, self.total_bytes);
        }
    }
}

impl FileCopy<'_> {
    /// How many bytes of a file need not be copied any more. What follows in the copy is
    /// unfinished.
    pub fn bytes_done(&self, file: &FileSource) -> u64 {
        let done = self.record.bytes_done(&file.to, &file.mark).min(file.bytes);
        let there = self.into.join(&file.to).metadata().map_or(0, |metadata| metadata.len());
        if there >= done { done } else { 0 }
    }

    /// Whether a file is complete.
    pub fn is_complete(&self, file: &FileSource) -> bool {
        self.record.bytes_done(&file.to, &file.mark) == file.bytes
            && self.into.join(&file.to).metadata().is_ok_and(|there| there.len() == file.bytes)
    }

    /// Lets a file of the copy share the blocks of its original. `false` if the file systems
    /// cannot.
    pub fn share(&mut self, file: &FileSource) -> Result<bool, MigrateError> {
        if self.bytes_done(file) > 0 {
            return Ok(false);
        }
        let to = self.into.join(&file.to);
        let share = || -> io::Result<bool> {
            let (source, target) = (File::open(&file.from)?, File::create(&to)?);
            if platform::reflink(&source, &target).is_err() {
                return Ok(false);
            }
            platform::copy_ownership(&file.from, &to)?;
            target.sync_all()?;
            Ok(true)
        };
        let is_shared = share().map_err(|error| failed(file, &to, &error))?;
        if is_shared {
            self.record.note(&file.to, &file.mark, file.bytes);
        }
        Ok(is_shared)
    }

    /// Copies what is missing of a file. Each block is compared with the original.
    pub fn copy(&mut self, file: &FileSource) -> Result<(), MigrateError> {
        let to = self.into.join(&file.to);
        let failed = |error: &io::Error| failed(file, &to, error);
        let mut at = self.bytes_done(file);
        let source = File::open(&file.from).map_err(|error| failed(&error))?;
        let target =
            File::options().read(true).write(true).create(true).truncate(at == 0).open(&to);
        let target = target.map_err(|error| failed(&error))?;
        platform::copy_ownership(&file.from, &to).map_err(|error| failed(&error))?;
        while at < file.bytes {
            self.stop.check()?;
            let length = BLOCK_BYTES.min(file.bytes - at);
            copy_block(&source, &target, at, length).map_err(|error| failed(&error))?;
            at += length;
            self.record.note(&file.to, &file.mark, at);
            self.progress.add(length);
        }
        let end = || {
            // A run that was killed may have left more than it had noted.
            target.set_len(file.bytes)?;
            target.sync_all()
        };
        end().map_err(|error| failed(&error))?;
        self.record.note(&file.to, &file.mark, file.bytes);
        self.refuse_changed(file)
    }

    /// An error if somebody has written to a file since it was listed.
    pub fn refuse_changed(&self, file: &FileSource) -> Result<(), MigrateError> {
        let to = self.into.join(&file.to);
        match file.is_unchanged() {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(failed(file, &to, &io::Error::other("somebody writes to the original")))
            }
            Err(error) => Err(failed(file, &to, &error)),
        }
    }
}

/// Copies a part of a file, durably, and compares both.
fn copy_block(source: &File, target: &File, at: u64, length: u64) -> io::Result<()> {
    for mut file in [source, target] {
        file.seek(SeekFrom::Start(at))?;
    }
    let mut writer = target;
    if io::copy(&mut source.take(length), &mut writer)? < length {
        return Err(io::Error::other("the original became shorter"));
    }
    target.sync_data()?;
    if !has_same_part(source, target, at, length)? {
        return Err(io::Error::other("the copy differs from the original"));
    }
    Ok(())
}

fn failed(file: &FileSource, to: &Path, error: &io::Error) -> MigrateError {
    MigrateError::new(
        MigrateErrorKind::System,
        format_args!("cannot copy {} to {}: {error}", file.from.display(), to.display()),
    )
}

#[cfg(test)]
#[path = "file_copy_tests.rs"]
mod tests;
