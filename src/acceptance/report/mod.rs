//! The results, for people, for programs, for CI systems, and to look at.

mod graph;
mod html;
mod junit;
mod text;
mod verdict;

use std::time::Duration;

use etcd_version::EtcdVersion;
use serde_json::{Value, json};

use super::{CaseResult, Journey, Outcome, Suite, Trouble};
pub use verdict::{Gap, Verdict};

/// Everything that was found out about an image.
#[derive(Clone, Debug)]
pub struct Results {
    pub reference: String,
    pub platform: String,
    pub runtime: &'static str,
    pub bundled: Vec<EtcdVersion>,
    pub cases: Vec<CaseResult>,
    /// How many cases there would be if nobody had interrupted them.
    pub planned: usize,
    /// Suites that must have been played, all of them.
    pub required: Vec<Suite>,
    pub took: Duration,
}

impl Results {
    /// Nobody who asks for a suite takes a skip for an answer.
    #[must_use]
    pub fn requiring(mut self, suites: &[Suite]) -> Self {
        for case in self.cases.iter_mut().filter(|case| suites.contains(&case.suite)) {
            if let Outcome::Skipped(why) = &case.outcome {
                let what = format!("skipped, and --require asks for it: {why}");
                case.outcome = Outcome::Failed(Trouble { what, ..Trouble::default() });
            }
        }
        self.required.extend(suites);
        self
    }

    pub fn failed(&self) -> impl Iterator<Item = (&CaseResult, &Trouble)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Failed(trouble) => Some((case, trouble)),
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

    fn gap(&self) -> Option<Gap> {
        if let Verdict::Incomplete(gap) = self.verdict() { Some(gap) } else { None }
    }

    /// Whether data went this way in any case.
    fn has_gone(&self, from: &EtcdVersion, to: &EtcdVersion) -> bool {
        let wanted = Journey { from: from.clone(), to: to.clone() };
        self.cases.iter().any(|case| {
            matches!(case.outcome, Outcome::Passed) && case.told.journeys.contains(&wanted)
        })
    }

    pub fn json(&self) -> Value {
        let case = |case: &CaseResult| {
            let (outcome, why) = match &case.outcome {
                Outcome::Passed => ("passed", Value::Null),
                Outcome::Failed(trouble) => (
                    "failed",
                    json!({
                        "step": case.told.step,
                        "what": trouble.what,
                        "command": trouble.command,
                        "log": trouble.log,
                    }),
                ),
                Outcome::Skipped(why) => ("skipped", json!(why)),
            };
            let journeys = case.told.journeys.iter();
            json!({
                "suite": case.suite,
                "case": case.case,
                "proves": case.proves,
                "outcome": outcome,
                "why": why,
                "seconds": seconds(case.took),
                "notes": case.told.notes,
                "journeys": journeys
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
            "incomplete": self.gap().map(|gap| gap.to_string()),
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

/// For XML and HTML alike; characters that neither may hold are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
