//! What was found out about an image: how every case ended, and the verdict that follows.

use std::time::Duration;

use etcd_version::EtcdVersion;

use super::error::FailureDetail;
use super::log::{CaseLog, ProvenMigration};
use super::runtime::Cause;
use super::suite::Suite;
use super::verdict::{IncompleteReason, Verdict};

/// How a case ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    Passed,
    Failed(FailureDetail),
    /// Something that the case needs is missing on this machine; the text says what.
    Skipped(String),
}

#[derive(Clone, Debug)]
pub struct CaseResult {
    pub suite: Suite,
    pub case: String,
    pub proves: String,
    pub outcome: Outcome,
    pub log: CaseLog,
    pub took: Duration,
}

/// Everything that was found out about an image.
#[derive(Clone, Debug)]
pub struct Results {
    pub reference: String,
    pub platform: String,
    pub runtime: &'static str,
    pub bundled: Vec<EtcdVersion>,
    pub cases: Vec<CaseResult>,
    /// How many cases were selected; fewer have results if the run was interrupted.
    pub planned: usize,
    /// Suites that must have been run, all of them.
    pub required: Vec<Suite>,
    pub took: Duration,
}

impl Results {
    /// Turns skipped cases of these suites into failures.
    #[must_use]
    pub fn requiring(mut self, suites: &[Suite]) -> Self {
        for case in self.cases.iter_mut().filter(|case| suites.contains(&case.suite)) {
            if let Outcome::Skipped(why) = &case.outcome {
                let what = format!("skipped, and --require asks for it: {why}");
                case.outcome = Outcome::Failed(FailureDetail { what, ..FailureDetail::default() });
            }
        }
        self.required.extend(suites);
        self
    }

    pub fn failed(&self) -> impl Iterator<Item = (&CaseResult, &FailureDetail)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Failed(detail) => Some((case, detail)),
            Outcome::Passed | Outcome::Skipped(_) => None,
        })
    }

    pub fn skipped(&self) -> impl Iterator<Item = (&CaseResult, &String)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Skipped(why) => Some((case, why)),
            Outcome::Passed | Outcome::Failed(_) => None,
        })
    }

    pub fn count(&self, outcome: fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|case| outcome(&case.outcome)).count()
    }

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

    pub(crate) fn incomplete_reason(&self) -> Option<IncompleteReason> {
        if let Verdict::Incomplete(incomplete_reason) = self.verdict() {
            Some(incomplete_reason)
        } else {
            None
        }
    }

    /// Whether any passed case migrated data between these versions.
    pub(crate) fn has_gone(&self, from: &EtcdVersion, to: &EtcdVersion) -> bool {
        let wanted = ProvenMigration { from: from.clone(), to: to.clone() };
        self.cases.iter().any(|case| {
            matches!(case.outcome, Outcome::Passed) && case.log.migrations.contains(&wanted)
        })
    }
}
