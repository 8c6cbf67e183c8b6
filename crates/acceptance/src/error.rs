//! Why a case did not pass, and the checks that report it.

use std::fmt::Display;

use super::runtime::{Cause, RuntimeError};

/// How much of a log is shown with a failure.
const SHOWN_LINES: usize = 12;

/// Why a case did not pass.
#[derive(Clone, Debug)]
pub enum CaseError {
    Failed(FailureDetail),
    /// What is missing on this machine.
    Skipped(String),
    Interrupted,
}

/// What went wrong, with all that a reader of the report needs.
#[derive(Clone, Debug, Default)]
pub struct FailureDetail {
    pub what: String,
    pub command: Option<String>,
    /// Last log lines of the process involved.
    pub log: Vec<String>,
    pub cause: Cause,
}

impl CaseError {
    pub fn failed(what: impl Display) -> Self {
        Self::Failed(FailureDetail { what: what.to_string(), ..FailureDetail::default() })
    }

    /// A failure of the machine, which says nothing about the image.
    fn could_not_run(why: impl Display) -> Self {
        let what = format!("could not run: {why}");
        Self::Failed(FailureDetail { what, cause: Cause::Machine, ..FailureDetail::default() })
    }

    /// Adds the last lines of a log, unless there are lines from closer to the failure.
    #[must_use]
    pub fn log(mut self, text: &str) -> Self {
        if let Self::Failed(detail) = &mut self
            && detail.log.is_empty()
        {
            detail.log = last_lines(text, SHOWN_LINES);
        }
        self
    }

    #[must_use]
    pub fn command(mut self, line: String) -> Self {
        if let Self::Failed(detail) = &mut self {
            detail.command = Some(line);
        }
        self
    }
}

impl From<RuntimeError> for CaseError {
    fn from(error: RuntimeError) -> Self {
        let because = error.source.as_ref().map(|source| format!(": {source}"));
        let what = format!("{error}{}", because.unwrap_or_default());
        match error.cause {
            Cause::Image => Self::failed(what),
            Cause::Machine => Self::could_not_run(what),
        }
    }
}

impl From<std::io::Error> for CaseError {
    fn from(error: std::io::Error) -> Self {
        let what = format!("file system error: {error}");
        match error.kind() {
            // A missing file should have been written by a program of the image.
            std::io::ErrorKind::NotFound => Self::failed(what),
            _ => Self::could_not_run(what),
        }
    }
}

pub(super) fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(count)..];
    shown.iter().map(|line| (*line).to_owned()).collect()
}

/// An error if the condition is false.
pub fn ensure(is_so: bool, what: impl FnOnce() -> String) -> Result<(), CaseError> {
    if is_so { Ok(()) } else { Err(CaseError::failed(what())) }
}

/// An error that shows both values if they differ.
pub fn same<T: PartialEq + Display + ?Sized>(
    what: &str,
    expected: &T,
    received: &T,
) -> Result<(), CaseError> {
    ensure(expected == received, || {
        format!(
            "{what} is not what it should be\n  expected {}\n  received {}",
            short(&expected.to_string()),
            short(&received.to_string())
        )
    })
}

/// A value that is shown in a message, shortened when it is long.
fn short(text: &str) -> String {
    const LONGEST: usize = 400;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}… ({} bytes)", text.len())
}
