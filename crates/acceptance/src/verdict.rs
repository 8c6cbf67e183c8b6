//! The verdict on an image: passed, failed, or incomplete and why.

use std::fmt;

use super::suite::Suite;

/// The verdict of all results together. Every report shows it, and the exit code depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed(String),
    /// Too few cases ran to say that the image is right or wrong.
    Incomplete(IncompleteReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncompleteReason {
    Interrupted {
        ended: usize,
        planned: usize,
    },
    NothingRan,
    /// All failures were caused by something missing on this machine.
    CouldNotRun {
        failed: usize,
        ended: usize,
    },
    /// `--require` names this suite, but none of its cases was run.
    Missing(Suite),
}

impl Verdict {
    /// In a word: `passed`, `failed` or `incomplete`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Incomplete(_) => "incomplete",
        }
    }
}

impl fmt::Display for IncompleteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted { ended, planned } => {
                write!(f, "interrupted after {ended} of {planned} cases")
            }
            Self::CouldNotRun { failed, ended } => {
                write!(f, "{failed} of {ended} cases could not run")
            }
            Self::NothingRan => f.write_str("nothing could be tested here"),
            Self::Missing(suite) => {
                write!(f, "no case of {suite} was run, and --require asks for it")
            }
        }
    }
}
