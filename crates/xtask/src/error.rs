//! Why a task stopped, and what to do next.

use std::error::Error;
use std::fmt;

/// What `main` prints, and the exit code.
#[derive(Debug)]
pub struct TaskError {
    message: String,
    hints: Vec<String>,
    code: u8,
}

pub type Result<T> = std::result::Result<T, TaskError>;

impl TaskError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), code: 1 }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Ends with the exit code of a program that was run.
    #[must_use]
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    pub fn code(&self) -> u8 {
        self.code
    }
}

/// An error with all its causes on one line.
impl<E: Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self::new(message)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        self.hints.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

/// Adds to an error what was being done.
pub trait ErrorContext<T> {
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<TaskError>> ErrorContext<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| {
            let failure = error.into();
            TaskError { message: format!("{what}: {}", failure.message), ..failure }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_line_with_hints_below() {
        let missing = std::fs::read("/nowhere/at/all").map(drop);
        let failure = missing.context("reading the lock").unwrap_err().hint("run `etcdimg lock`");
        assert_eq!(
            failure.to_string(),
            "reading the lock: No such file or directory (os error 2)\nhint: run `etcdimg lock`"
        );
    }
}
