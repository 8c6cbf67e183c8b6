//! Follows the log of a server: remembers its first error and its last lines, and whether it
//! noticed the signal to stop.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cli::options::ServerLog;
use crate::printable::printable;
use crate::report::event::EventLog;

/// How many lines are shown when a server fails.
const LAST_LINES: usize = 5;
/// In characters.
const LONGEST_LINE: usize = 400;

/// What is remembered of a log.
#[derive(Debug, Default)]
pub struct LogTail {
    lines: Mutex<LogLines>,
    saw_stop_message: AtomicBool,
}

#[derive(Debug, Default)]
struct LogLines {
    /// Often the cause: a server that refuses a flag prints all of its help after it.
    first_error: Option<String>,
    last: VecDeque<String>,
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
        if lines.last.back().is_some_and(|last| is_final_log_line(last)) {
            return;
        }
        if lines.last.len() == LAST_LINES {
            lines.last.pop_front();
        }
        let line: String = printable(text).chars().take(LONGEST_LINE).collect();
        if lines.first_error.is_none() && is_error(text) {
            lines.first_error = Some(line.clone());
        }
        lines.last.push_back(line);
    }

    /// The first error, if it is not among the last lines, and these; each indented and with a
    /// newline before it.
    pub fn last_lines(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let first = lines.first_error.iter().filter(|first| !lines.last.contains(first));
        let first = first.flat_map(|first| [first.as_str(), "…"]);
        let shown = first.chain(lines.last.iter().map(String::as_str));
        shown.flat_map(|line| ["\n  ", line]).collect()
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

/// Whether a line tells of an error: by its level in one of etcd's formats, or because it has none,
/// as what is printed before the log begins.
fn is_error(line: &str) -> bool {
    const HARMLESS: &[&str] = &["debug", "info", "warn"];
    const HARMLESS_LETTERS: &[&str] = &[" D | ", " I | ", " N | ", " W | "];
    let is_harmless = HARMLESS.iter().any(|level| {
        line.contains(&format!("\"level\":\"{level}\"")) || line.contains(&format!("\t{level}\t"))
    });
    let is_note = line.trim().is_empty() || line.starts_with("[WARNING]");
    !is_harmless && !is_note && !HARMLESS_LETTERS.iter().any(|letter| line.contains(letter))
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
        let seven: Vec<_> = (1..=7).map(|number| format!("2026 I | {number}\n")).collect();
        let last: Vec<_> = (3..=7).map(|number| format!("\n  2026 I | {number}")).collect();
        assert_eq!(follow(&seven.concat()).last_lines(), last.concat());
        assert_eq!(follow("1\npanic: no\ngoroutine 1\n").last_lines(), "\n  1\n  panic: no");
        assert_eq!(follow(&"é".repeat(1000)).last_lines().chars().count(), LONGEST_LINE + 3);
    }

    #[test]
    fn the_first_error_is_shown_before_the_help_that_follows_it() {
        let log = "{\"level\":\"info\",\"msg\":\"go\"}\n[WARNING] deprecated\n\
                   flag provided but not defined: -debug\n1\n2\n3\n4\n5\n6\n";
        assert_eq!(
            follow(log).last_lines(),
            "\n  flag provided but not defined: -debug\n  …\n  2\n  3\n  4\n  5\n  6"
        );
        for (line, expected) in [
            ("{\"level\":\"warn\",\"msg\":\"slow\"}", false),
            ("{\"level\":\"error\",\"msg\":\"no\"}", true),
            ("{\"level\":\"fatal\",\"msg\":\"no\"}", true),
            ("2026-11-28T11:50:30Z\tinfo\tmembership/cluster.go:421\tadded member", false),
            ("2026-11-28 11:50:30.000000 I | etcdmain: etcd Version: 3.3.25", false),
            ("2026-11-28 11:50:30.000000 C | etcdmain: listen tcp: no", true),
            ("panic: no", true),
            ("", false),
        ] {
            assert_eq!(is_error(line), expected, "{line}");
        }
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
