//! The results as JUnit XML, for CI systems.

use std::fmt::Write as _;

use super::{Results, escaped, seconds};
use crate::{CaseResult, Outcome};

impl Results {
    /// As CI systems read it: one `testsuite` for each suite.
    pub fn junit(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            out,
            "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" \
             time=\"{}\">",
            escaped(&self.reference),
            self.cases.len() + self.incomplete_reason().iter().len(),
            self.failed().count(),
            self.incomplete_reason().iter().len(),
            self.skipped().count(),
            seconds(self.took)
        );
        let mut suites: Vec<_> = self.cases.iter().map(|case| case.suite).collect();
        suites.dedup();
        for suite in suites {
            let cases: Vec<_> = self.cases.iter().filter(|case| case.suite == suite).collect();
            let failed =
                cases.iter().filter(|case| matches!(case.outcome, Outcome::Failed(_))).count();
            let skipped =
                cases.iter().filter(|case| matches!(case.outcome, Outcome::Skipped(_))).count();
            let _ = writeln!(
                out,
                "  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failed}\" \
                 skipped=\"{skipped}\">",
                cases.len()
            );
            for case in cases {
                self.case(&mut out, case);
            }
            out.push_str("  </testsuite>\n");
        }
        // Readers count cases; they know no other place for what is wrong with all of them.
        if let Some(incomplete_reason) = self.incomplete_reason() {
            let _ = writeln!(
                out,
                "  <testsuite name=\"verdict\" tests=\"1\" failures=\"0\" errors=\"1\" \
                 skipped=\"0\">\n    <testcase classname=\"{}.verdict\" name=\"complete\" time=\"0\">\
                 <error message=\"{}\"/></testcase>\n  </testsuite>",
                escaped(&self.platform),
                escaped(&incomplete_reason.to_string())
            );
        }
        out.push_str("</testsuites>\n");
        out
    }

    fn case(&self, out: &mut String, case: &CaseResult) {
        let _ = write!(
            out,
            "    <testcase classname=\"{}.{}\" name=\"{}\" time=\"{}\"",
            escaped(&self.platform),
            case.suite,
            escaped(&case.case),
            seconds(case.took)
        );
        match &case.outcome {
            Outcome::Passed => out.push_str("/>\n"),
            Outcome::Skipped(why) => {
                let _ = writeln!(out, "><skipped message=\"{}\"/></testcase>", escaped(why));
            }
            Outcome::Failed(detail) => {
                let mut text = format!("step: {}\n", case.log.step);
                if let Some(command) = &detail.command {
                    let _ = writeln!(text, "command: {command}");
                }
                text.push_str(&detail.log.join("\n"));
                let _ = writeln!(
                    out,
                    "><failure message=\"{}\">{}</failure></testcase>",
                    escaped(&detail.what),
                    escaped(&text)
                );
            }
        }
    }
}
