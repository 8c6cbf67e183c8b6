//! Mistakes in files that people write.

use std::fmt;

/// One mistake in a file that people write: where it is, what it is, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    pub line: u64,
    pub field: String,
    pub problem: String,
    pub instead: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}\n  write instead: {}", self.problem, self.instead)
    }
}

impl std::error::Error for Fault {}

/// Makes faults of one file: `at.fault(line, field, problem, instead)`.
#[derive(Clone, Copy, Debug)]
pub struct At<'a>(pub &'a str);

impl At<'_> {
    pub fn fault(
        self,
        line: u64,
        field: impl Into<String>,
        problem: impl Into<String>,
        instead: impl Into<String>,
    ) -> Fault {
        Fault {
            file: self.0.to_owned(),
            line,
            field: field.into(),
            problem: problem.into(),
            instead: instead.into(),
        }
    }
}
