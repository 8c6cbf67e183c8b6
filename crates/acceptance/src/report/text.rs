//! The results as text, for people.

use super::{Results, seconds};
use crate::{CaseResult, Outcome};

impl Results {
    /// A table with a line for each case, then the failures, then one line with the verdict.
    pub fn text(&self) -> String {
        let width = self.cases.iter().map(|case| name(case).len()).max().unwrap_or(0);
        let mut lines: Vec<_> = self.cases.iter().map(|case| line(case, width)).collect();
        for (case, detail) in self.failed() {
            lines.push(String::new());
            lines.push(format!("{} failed: {}", name(case), detail.what));
            if !case.log.step.is_empty() {
                lines.push(format!("  step     {}", case.log.step));
            }
            if let Some(command) = &detail.command {
                lines.push(format!("  command  {command}"));
            }
            lines.extend(detail.log.iter().map(|line| format!("  | {}", plain(line))));
        }
        lines.push(String::new());
        lines.push(self.summary());
        lines.extend(
            self.incomplete_reason()
                .map(|incomplete_reason| format!("INCOMPLETE: {incomplete_reason}")),
        );
        lines.join("\n")
    }

    pub fn summary(&self) -> String {
        format!(
            "{} {} by {}: {} passed, {} failed, {} skipped in {:.1} s",
            self.reference,
            self.platform,
            self.runtime,
            self.count(|it| matches!(it, Outcome::Passed)),
            self.count(|it| matches!(it, Outcome::Failed(_))),
            self.count(|it| matches!(it, Outcome::Skipped(_))),
            seconds(self.took)
        )
    }
}

/// Removes control characters, so that a log cannot change the reader's terminal.
fn plain(line: &str) -> String {
    line.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}")
}

fn name(case: &CaseResult) -> String {
    format!("{}/{}", case.suite, case.case)
}

fn line(case: &CaseResult, width: usize) -> String {
    let (verdict, more) = match &case.outcome {
        Outcome::Passed => ("passed", case.log.notes.join("; ")),
        Outcome::Failed(_) => ("FAILED", String::new()),
        Outcome::Skipped(why) => ("skipped", why.clone()),
    };
    let text = format!(
        "{verdict:<8}{:<width$}  {:>6.1} s  {}",
        name(case),
        seconds(case.took),
        if more.is_empty() { case.proves.clone() } else { format!("{}: {more}", case.proves) }
    );
    text.trim_end().to_owned()
}
