//! Standard error, which may be a pipe that nobody reads: a migration does not wait for a reader.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::platform;

/// How long a reader may take before lines are left out.
const PATIENCE: Duration = Duration::from_secs(5);
/// A pipe that can be written to takes as many bytes at once (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;

/// What is known of the reader.
struct Reader {
    /// It has read nothing for a long time.
    is_stuck: bool,
    lost_lines: usize,
}

static READER: Mutex<Reader> = Mutex::new(Reader { is_stuck: false, lost_lines: 0 });

/// Writes a line, or leaves it out when nobody reads. A log that cannot be written, for example on
/// a full disk, does not stop a migration either.
pub fn write_line(line: &str) {
    let mut reader = READER.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = reader.lost_lines;
    if lost > 0 && reader.takes(&format!("(nobody read this log: {lost} lines are missing here)\n"))
    {
        reader.lost_lines = 0;
    }
    if !reader.takes(&format!("{line}\n")) {
        reader.lost_lines += 1;
    }
}

impl Reader {
    fn takes(&mut self, text: &str) -> bool {
        let mut stderr = io::stderr();
        for piece in text.as_bytes().chunks(PIECE_BYTES) {
            let patience = if self.is_stuck { Duration::ZERO } else { PATIENCE };
            self.is_stuck = !platform::can_write(&stderr, patience);
            if self.is_stuck {
                return false;
            }
            let _ = stderr.write_all(piece);
        }
        true
    }
}
