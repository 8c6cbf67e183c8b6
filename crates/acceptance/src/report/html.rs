//! The results as one HTML page.

use std::fmt::Write as _;

use super::{Results, escaped, seconds};
use crate::{CaseResult, Outcome};

const STYLE: &str = include_str!("report.css");

/// The length of the bar of the slowest case, in rem.
const LONGEST_BAR: f64 = 5.0;

impl Results {
    /// One page that needs nothing else: no script, no font, no connection.
    pub fn html(&self) -> String {
        let verdict = self.verdict().word();
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{reference} {platform}: {verdict}</title>\n<style>\n{STYLE}</style>\n\
             <header class=\"{verdict}\"><h1>{reference}</h1><p>{summary}</p>{incomplete_reason}</header>\n",
            reference = escaped(&self.reference),
            platform = escaped(&self.platform),
            summary = escaped(&self.summary()),
            incomplete_reason = self
                .incomplete_reason()
                .map(|incomplete_reason| format!("<p>incomplete: {incomplete_reason}</p>"))
                .unwrap_or_default(),
        );
        out.push_str("<section><h2>Where data can go</h2>\n");
        out.push_str(&self.graph());
        out.push_str(
            "<p class=\"key\"><span class=\"up\">up, tested</span> \
             <span class=\"back\">back, tested</span> \
             <span class=\"untested\">not tested here</span></p></section>\n",
        );
        let mut suites: Vec<_> = self.cases.iter().map(|case| case.suite).collect();
        suites.dedup();
        for suite in suites {
            let _ = writeln!(out, "<section><h2>{suite}</h2>\n<table>");
            let cases = self.cases.iter().filter(|case| case.suite == suite);
            cases.for_each(|case| self.row(&mut out, case));
            out.push_str("</table></section>\n");
        }
        out
    }

    fn row(&self, out: &mut String, case: &CaseResult) {
        let longest = self.cases.iter().map(|it| it.took).max().unwrap_or_default();
        let share = case.took.as_secs_f64() / longest.as_secs_f64().max(0.001) * LONGEST_BAR;
        let verdict = match case.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "failed",
            Outcome::Skipped(_) => "skipped",
        };
        let _ = write!(
            out,
            "<tr class=\"{verdict}\"><td class=\"verdict\">{verdict}</td><td><b>{}</b> {}",
            escaped(&case.case),
            escaped(&case.proves)
        );
        for note in &case.log.notes {
            let _ = write!(out, "<br><small>{}</small>", escaped(note));
        }
        match &case.outcome {
            Outcome::Passed => {}
            Outcome::Skipped(why) => {
                let _ = write!(out, "<br><small>{}</small>", escaped(why));
            }
            Outcome::Failed(detail) => {
                let _ = write!(out, "<p>{}</p>", escaped(&detail.what));
                let _ = write!(out, "<p>while: {}</p>", escaped(&case.log.step));
                let command = detail.command.iter().map(|line| format!("$ {line}"));
                let lines: Vec<_> = command.chain(detail.log.iter().cloned()).collect();
                let _ = write!(out, "<pre>{}</pre>", escaped(&lines.join("\n")));
            }
        }
        let _ = writeln!(
            out,
            "</td><td class=\"time\"><i style=\"width:{share:.1}rem\"></i>{:.1} s</td></tr>",
            seconds(case.took)
        );
    }
}
