//! For whom output is written.

/// The format of a plan, a status or the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// Sentences for people. May change at any time.
    Text,
    /// JSON for programs. Fields and events keep their names.
    Json,
}
