//! Single files.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::report::format::OutputFormat;
use crate::scratch::ScratchDirectory;

fn copier<'a>(into: &'a Path, stop: &'a StopSignal) -> FileCopy<'a> {
    let record = CopyRecord::open(&into.join("record")).unwrap();
    FileCopy { into, record, stop, progress: CopyProgress::new(EventLog::new(OutputFormat::Text)) }
}

#[test]
fn a_copy_of_what_somebody_writes_to_is_an_error() {
    let scratch = ScratchDirectory::new();
    scratch.write("db", &vec![7; 4 << 20]);
    let from = scratch.path().join("db");
    let stop = StopSignal::default();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::options().write(true).open(&from).unwrap();
            for byte in (0..=255).cycle() {
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                io::Seek::rewind(&mut file).unwrap();
                io::Write::write_all(&mut file, &[byte; 64]).unwrap();
            }
        });
        let mut copy = copier(scratch.path(), &stop);
        let is_noticed = (0..200).any(|_| {
            let file = FileSource::of(from.clone(), "copy".into()).unwrap();
            copy.copy(&file).is_err()
        });
        is_done.store(true, Ordering::Relaxed);
        assert!(is_noticed);
    });
}

#[test]
fn a_file_of_several_blocks_is_whole_and_what_a_killed_run_has_left_behind_its_note_goes() {
    let block = usize::try_from(BLOCK_BYTES).unwrap();
    let scratch = ScratchDirectory::new();
    let mut bytes = b"0123456".repeat(2 * block / 7 + 1);
    let length = bytes.len();
    scratch.write("db", &bytes);
    let stop = StopSignal::default();
    let mut copy = copier(scratch.path(), &stop);
    let file = FileSource::of(scratch.path().join("db"), "copy".into()).unwrap();
    // The first block is noted, and more than the whole file is there.
    scratch.write("copy", &vec![1; length + 100]);
    copy.record.note(&file.to, &file.mark, BLOCK_BYTES);
    assert!(!copy.is_complete(&file));
    copy.copy(&file).unwrap();
    assert!(copy.is_complete(&file));
    bytes[..block].fill(1);
    assert!(std::fs::read(scratch.path().join("copy")).unwrap() == bytes);
    // Without the note nothing is known of it.
    let other = ScratchDirectory::new();
    other.write("copy", &bytes);
    assert_eq!(copier(other.path(), &stop).bytes_done(&file), 0);
}

#[test]
fn an_empty_file_is_copied_too() {
    let scratch = ScratchDirectory::new();
    scratch.write("empty", b"");
    let stop = StopSignal::default();
    let mut copy = copier(scratch.path(), &stop);
    let file = FileSource::of(scratch.path().join("empty"), "copy".into()).unwrap();
    assert!(!copy.is_complete(&file));
    copy.copy(&file).unwrap();
    assert!(scratch.path().join("copy").exists() && copy.is_complete(&file));
}
