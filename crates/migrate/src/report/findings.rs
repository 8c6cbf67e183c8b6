//! What `check` has found, as text or JSON.

use std::path::Path;

use etcd_version::EtcdVersion;

use crate::error::MigrateError;
use crate::report::Report;
use crate::report::json::{Json, SCHEMA_VERSION};

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The migration, or the target version, would not start.
    Error,
    /// It would start, and somebody should know of this.
    Warning,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFinding {
    /// A word for programs.
    pub id: &'static str,
    pub severity: Severity,
    pub message: String,
    pub hints: Vec<String>,
    /// Where it stands in a text; the first line is 1.
    pub line: Option<usize>,
}

impl CheckFinding {
    pub fn warning(id: &'static str, message: String) -> Self {
        Self { id, severity: Severity::Warning, message, hints: Vec::new(), line: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.hints.push(hint.to_owned());
        self
    }
}

/// What would end the program.
impl From<MigrateError> for CheckFinding {
    fn from(failure: MigrateError) -> Self {
        let MigrateError { id, cause, hints, .. } = failure;
        Self { id, severity: Severity::Error, message: cause, hints, line: None }
    }
}

/// All findings about one thing.
#[derive(Debug)]
pub struct Findings<'a> {
    /// What was looked at: the name of its field, and its path.
    pub subject: (&'static str, &'a Path),
    pub target: &'a EtcdVersion,
    pub list: Vec<CheckFinding>,
}

impl Findings<'_> {
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl Report for Findings<'_> {
    fn text(&self) -> String {
        let finding = |finding: &CheckFinding| {
            let severity = finding.severity.name();
            let line = finding.line.map_or(String::new(), |line| format!("line {line}: "));
            let hints = finding.hints.iter().map(|hint| format!("  hint: {hint}\n"));
            format!("{severity}: {line}{}\n{}", finding.message, hints.collect::<String>())
        };
        let text: String = self.list.iter().map(finding).collect();
        let [errors, warnings] = [Severity::Error, Severity::Warning].map(|it| self.count(it));
        let path = self.subject.1.display();
        text + &format!("{path} to {}: errors: {errors}, warnings: {warnings}\n", self.target)
    }

    fn json(&self) -> Json {
        let finding = |finding: &CheckFinding| {
            let hints = finding.hints.iter().map(Json::text).collect();
            Json::Object(vec![
                ("id", Json::text(finding.id)),
                ("severity", Json::text(finding.severity.name())),
                ("line", Json::optional(finding.line, |line| Json::number(line as u64))),
                ("message", Json::text(&finding.message)),
                ("hints", Json::List(hints)),
            ])
        };
        Json::Object(vec![
            ("schemaVersion", Json::number(SCHEMA_VERSION)),
            (self.subject.0, Json::text(self.subject.1.display())),
            ("target", Json::text(self.target)),
            ("findings", Json::List(self.list.iter().map(finding).collect())),
        ])
    }
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}
