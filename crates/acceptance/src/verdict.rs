//! The verdict on an image, from the results of all cases.

use std::fmt;

use super::results::{Outcome, Results};
use crate::Suite;
use crate::runtime::Cause;

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

impl Results {
    pub fn verdict(&self) -> Verdict {
        let (ended, planned) = (self.cases.len(), self.planned);
        // Checked first, because a case may have failed because of the interruption.
        if ended < planned {
            return Verdict::Incomplete(IncompleteReason::Interrupted { ended, planned });
        }
        let failed: Vec<_> =
            self.failed().map(|(case, _)| format!("{}/{}", case.suite, case.case)).collect();
        if !failed.is_empty() && self.failed().all(|(_, it)| it.cause == Cause::Machine) {
            return Verdict::Incomplete(IncompleteReason::CouldNotRun {
                failed: failed.len(),
                ended,
            });
        }
        if !failed.is_empty() {
            let what = format!("{} of {ended} cases failed: {}", failed.len(), failed.join(", "));
            return Verdict::Failed(what);
        }
        let has_run = |suite: Suite| self.cases.iter().any(|case| case.suite == suite);
        if let Some(suite) = self.required.iter().find(|suite| !has_run(**suite)) {
            return Verdict::Incomplete(IncompleteReason::Missing(*suite));
        }
        if self.cases.iter().all(|case| matches!(case.outcome, Outcome::Skipped(_))) {
            return Verdict::Incomplete(IncompleteReason::NothingRan);
        }
        Verdict::Passed
    }
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
