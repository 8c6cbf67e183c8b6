//! Follows the log of a server: remembers its last lines, and whether it noticed the signal to stop.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cli::options::ServerLog;
use crate::report::event::EventLog;

/// How many lines are shown when a server fails.
const LAST_LINES: usize = 5;
/// In characters.
const LONGEST_LINE: usize = 400;

/// What is remembered of a log.
#[derive(Debug, Default)]
pub struct LogTail {
    lines: Mutex<VecDeque<String>>,
    saw_stop_message: AtomicBool,
}

impl LogTail {
    /// Reads the log to its end, so that the server never has to wait for a reader.
    pub fn follow(&self, log: impl Read, server_log: ServerLog, events: EventLog) {
        let mut source = BufReader::new(log);
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if is_stop_message(&text) {
                self.saw_stop_message.store(true, Ordering::Relaxed);
            }
            if server_log == ServerLog::Show {
                events.info("server", &text);
            }
            self.add(&text);
        }
    }

    fn add(&self, text: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Only a stack trace follows, which does not help an operator.
        if lines.back().is_some_and(|last| is_final_log_line(last)) {
            return;
        }
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(text.chars().take(LONGEST_LINE).collect());
    }

    /// The last lines, each indented and with a newline before it.
    pub fn last_lines(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().flat_map(|line| ["\n  ", line]).collect()
    }

    /// Whether the server has noticed the signal to stop.
    pub fn saw_stop_message(&self) -> bool {
        self.saw_stop_message.load(Ordering::Relaxed)
    }
}

/// `received signal; shutting down`, up to etcd 3.3 `received terminated signal, shutting down...`.
fn is_stop_message(line: &str) -> bool {
    line.contains("received ") && line.contains("signal") && line.contains("shutting down")
}

/// Whether etcd gives up with this line.
fn is_final_log_line(line: &str) -> bool {
    ["\"level\":\"panic\"", "\"level\":\"fatal\"", "panic: "].iter().any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::format::OutputFormat;

    fn follow(log: &str) -> LogTail {
        let tail = LogTail::default();
        tail.follow(log.as_bytes(), ServerLog::OnFailure, EventLog::new(OutputFormat::Text));
        tail
    }

    #[test]
    fn the_last_lines_are_those_before_a_stack_trace() {
        assert_eq!(follow("a\nb\n").last_lines(), "\n  a\n  b");
        assert_eq!(follow("1\n2\n3\n4\n5\n6\n7").last_lines(), "\n  3\n  4\n  5\n  6\n  7");
        assert_eq!(follow("1\npanic: no\ngoroutine 1\n").last_lines(), "\n  1\n  panic: no");
        assert_eq!(follow(&"é".repeat(1000)).last_lines().chars().count(), LONGEST_LINE + 3);
    }

    #[test]
    fn a_server_says_that_it_stops() {
        for line in
            ["received signal; shutting down", "received terminated signal, shutting down..."]
        {
            assert!(follow(line).saw_stop_message(), "{line}");
        }
        assert!(!follow("serving client traffic").saw_stop_message());
    }
}
