//! Which files of an unfinished copy are complete, and how far the others are. It is only ever
//! about bytes that are durable already.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The record of one copy. Every entry is a line `<path> <mark> <bytes>;`, and the last one of a
/// path counts. A line that a full disk or a loss of power has cut does not count.
#[derive(Debug)]
pub struct CopyRecord {
    file: File,
    entries: BTreeMap<PathBuf, (String, u64)>,
}

impl CopyRecord {
    /// Reads the record at a path and lets it go on; a new one if there is none. An error if
    /// another process is making this copy: several data directories may be copies of one, with its
    /// number.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::options().read(true).create(true).append(true).open(path)?;
        lock(&file)?;
        // Through this file, since on Windows no other may read it now.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let entries = String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect();
        Ok(Self { file, entries })
    }

    /// How many bytes of a file are there, if the original still has this mark.
    pub fn bytes_done(&self, name: &Path, mark: &str) -> u64 {
        let entry = self.entries.get(name).filter(|(known, _)| known == mark);
        entry.map_or(0, |(_, bytes)| *bytes)
    }

    /// Notes how many bytes of a file are durable. What cannot be noted is only copied again.
    pub fn note(&mut self, name: &Path, mark: &str, bytes: u64) {
        if let Some(text) = name.to_str().filter(|text| !text.contains(['\n', ' '])) {
            // The line before may have been cut.
            let _ = self.file.write_all(format!("\n{text} {mark} {bytes};\n").as_bytes());
            self.entries.insert(name.to_owned(), (mark.to_owned(), bytes));
        }
    }
}

/// Locks a record until its file is closed. A file system that has no locks is none the worse.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            // A process that was just started has all files open for a moment.
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "another migrate is making this copy"))
}

fn parse(line: &str) -> Option<(PathBuf, (String, u64))> {
    let mut words = line.strip_suffix(';')?.split(' ');
    let entry = (words.next()?.into(), (words.next()?.to_owned(), words.next()?.parse().ok()?));
    words.next().is_none().then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::ScratchDirectory;

    #[test]
    fn a_record_goes_on_and_the_last_line_of_a_file_counts() {
        let scratch = ScratchDirectory::new();
        let path = scratch.path().join("record");
        for bytes in [7, 9] {
            let mut record = CopyRecord::open(&path).unwrap();
            record.note(Path::new("member/snap/db"), "m1", bytes);
        }
        let record = CopyRecord::open(&path).unwrap();
        let done = |name: &str, mark: &str| record.bytes_done(Path::new(name), mark);
        assert_eq!(done("member/snap/db", "m1"), 9);
        // The original has changed.
        assert_eq!(done("member/snap/db", "m2"), 0);
        assert_eq!(done("member/snap", "m1"), 0);
    }

    #[test]
    fn one_copy_is_made_by_one_process() {
        let scratch = ScratchDirectory::new();
        let path = scratch.path().join("record");
        let first = CopyRecord::open(&path).unwrap();
        assert_eq!(CopyRecord::open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        CopyRecord::open(&path).unwrap();
    }

    #[test]
    fn a_line_that_was_cut_does_not_count() {
        const LINE: &str = "member/snap/db m1 1234;";
        for length in 0..LINE.len() {
            let scratch = ScratchDirectory::new();
            scratch.write("record", &LINE.as_bytes()[..length]);
            let path = scratch.path().join("record");
            let mut record = CopyRecord::open(&path).unwrap();
            assert_eq!(record.bytes_done(Path::new("member/snap/db"), "m1"), 0, "{length}");
            record.note(Path::new("member/snap/db"), "m1", 5);
            drop(record);
            let record = CopyRecord::open(&path).unwrap();
            assert_eq!(record.bytes_done(Path::new("member/snap/db"), "m1"), 5, "{length}");
        }
    }
}
