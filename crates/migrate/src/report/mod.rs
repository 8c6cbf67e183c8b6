//! What the program tells people and other programs: the plan, the status and the log.

pub mod contents_text;
pub mod event;
pub mod findings;
pub mod format;
pub mod json;
pub mod outcome;
pub mod plan_text;
pub mod snapshot_status;
pub mod status;
pub mod status_text;
mod stderr;

use format::OutputFormat;
use json::Json;

/// What a command prints to stdout.
pub trait Report {
    /// Lines for people, each with its newline.
    fn text(&self) -> String;

    /// One object for programs.
    fn json(&self) -> Json;

    /// The output in the format that was asked for.
    fn print(&self, format: OutputFormat) -> String {
        match format {
            OutputFormat::Text => self.text(),
            OutputFormat::Json => format!("{}\n", self.json()),
        }
    }
}
