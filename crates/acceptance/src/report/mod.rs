//! The results, for people, for programs, for CI systems, and to look at.

mod graph;
mod html;
mod junit;
mod text;

use std::time::Duration;

use serde_json::{Value, json};

use super::{CaseResult, Outcome, Results};

impl Results {
    /// For programs.
    pub fn json(&self) -> Value {
        let case = |case: &CaseResult| {
            let (outcome, why) = match &case.outcome {
                Outcome::Passed => ("passed", Value::Null),
                Outcome::Failed(detail) => (
                    "failed",
                    json!({
                        "step": case.log.step,
                        "what": detail.what,
                        "command": detail.command,
                        "log": detail.log,
                    }),
                ),
                Outcome::Skipped(why) => ("skipped", json!(why)),
            };
            let migrations = case.log.migrations.iter();
            json!({
                "suite": case.suite,
                "case": case.case,
                "proves": case.proves,
                "outcome": outcome,
                "why": why,
                "seconds": seconds(case.took),
                "notes": case.log.notes,
                "journeys": migrations
                    .map(|it| json!({"from": it.from.to_string(), "to": it.to.to_string()}))
                    .collect::<Vec<_>>(),
            })
        };
        json!({
            "reference": self.reference,
            "platform": self.platform,
            "runtime": self.runtime,
            "bundled": self.bundled.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "seconds": seconds(self.took),
            "verdict": self.verdict().word(),
            "incomplete": self.incomplete_reason().map(|incomplete_reason| incomplete_reason.to_string()),
            "passed": self.count(|it| matches!(it, Outcome::Passed)),
            "failed": self.count(|it| matches!(it, Outcome::Failed(_))),
            "skipped": self.count(|it| matches!(it, Outcome::Skipped(_))),
            "cases": self.cases.iter().map(case).collect::<Vec<_>>(),
        })
    }
}

/// To a thousandth, since more is noise.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Text for HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// Replaces characters that neither XML nor HTML may hold, so that a reader sees where they were.
fn printable(text: &str) -> String {
    let is_forbidden = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if is_forbidden(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
