//! The results as JUnit XML, for CI systems.

use std::fmt::Write as _;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Results, printable};
use crate::{CaseResult, FailureDetail, Outcome};

impl Results {
    /// As CI systems read it: one `testsuite` for each suite.
    pub fn junit(&self) -> String {
        let mut report = Report::new(&self.reference);
        report.set_time(self.took);
        let mut suites: Vec<_> = self.cases.iter().map(|case| case.suite).collect();
        suites.dedup();
        for suite in suites {
            let cases = self.cases.iter().filter(|case| case.suite == suite);
            let mut test_suite = TestSuite::new(suite.to_string());
            test_suite.add_test_cases(cases.map(|case| self.test_case(case)));
            report.add_test_suite(test_suite);
        }
        // CI systems show only cases, so a fault of the whole run is a case, too.
        if let Some(reason) = self.incomplete_reason() {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(printable(&reason.to_string()));
            let mut case = TestCase::new("complete", status);
            case.set_classname(format!("{}.verdict", self.platform));
            let mut verdict = TestSuite::new("verdict");
            verdict.add_test_case(case);
            report.add_test_suite(verdict);
        }
        report.to_string().expect("memory takes whatever is written")
    }

    fn test_case(&self, case: &CaseResult) -> TestCase {
        let status = match &case.outcome {
            Outcome::Passed => TestCaseStatus::success(),
            Outcome::Skipped(why) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(printable(why));
                status
            }
            Outcome::Failed(detail) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(printable(&detail.what));
                status.set_description(printable(&description(case, detail)));
                status
            }
        };
        let mut test_case = TestCase::new(&case.case, status);
        test_case.set_classname(format!("{}.{}", self.platform, case.suite));
        test_case.set_time(case.took);
        test_case
    }
}

/// What was being done, by which command, and the last lines of its log.
fn description(case: &CaseResult, detail: &FailureDetail) -> String {
    let mut text = format!("step: {}\n", case.log.step);
    if let Some(command) = &detail.command {
        let _ = writeln!(text, "command: {command}");
    }
    text + &detail.log.join("\n")
}
