//! The log: one line per event on stderr. Nothing else writes there.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use etcd_version::EtcdVersion;

use crate::error::MigrateError;
use crate::printable::printable_lines;
use crate::report::format::OutputFormat;
use crate::report::json::Json;
use crate::report::stderr;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// Writes events in one format. The names of events are an interface, their messages are not.
#[derive(Clone, Copy, Debug)]
pub struct EventLog {
    format: OutputFormat,
}

impl EventLog {
    pub const fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    /// An event of a normal run.
    pub fn info(self, event: &'static str, message: impl fmt::Display) {
        self.write(&Event::new(Level::Info, event, &message.to_string()));
    }

    /// An event with further fields for programs.
    pub fn info_with(
        self,
        event: &'static str,
        message: impl fmt::Display,
        fields: Vec<(&'static str, Json)>,
    ) {
        let message = message.to_string();
        self.write(&Event { fields, ..Event::new(Level::Info, event, &message) });
    }

    /// An event of a server; programs read its version from the field `etcd`.
    pub fn server(self, event: &'static str, etcd: &EtcdVersion, message: impl fmt::Display) {
        self.info_with(event, message, vec![("etcd", Json::text(etcd))]);
    }

    /// An event with counts, which programs read from fields of these names.
    pub fn counts(
        self,
        event: &'static str,
        counts: &[(&'static str, usize)],
        message: impl fmt::Display,
    ) {
        let field = |(name, count): &(_, usize)| (*name, Json::number(*count as u64));
        self.info_with(event, message, counts.iter().map(field).collect());
    }

    /// How far a long piece of work is; programs read the fields `bytesDone` and `bytesTotal`.
    pub fn progress(self, event: &'static str, done_bytes: u64, total_bytes: u64) {
        let message = format_args!("{} of {} MiB", done_bytes >> 20, total_bytes >> 20);
        let fields = [("bytesDone", done_bytes), ("bytesTotal", total_bytes)];
        let fields = fields.map(|(name, bytes)| (name, Json::number(bytes)));
        self.info_with(event, message, fields.to_vec());
    }

    /// An event that a person should know of, and that stops nothing.
    pub fn warn(self, event: &'static str, message: impl fmt::Display) {
        self.write(&Event::new(Level::Warning, event, &message.to_string()));
    }

    /// The last event of a run that failed.
    pub fn error(self, failure: &MigrateError) {
        let MigrateError { id, cause, hints, .. } = failure;
        let fields = vec![("id", Json::text(id))];
        self.write(&Event { fields, hints, ..Event::new(Level::Error, "failed", cause) });
    }

    fn write(self, event: &Event<'_>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        stderr::write_line(&event.line(self.format, &timestamp(now.as_secs())));
    }
}

/// One event.
#[derive(Debug)]
struct Event<'a> {
    level: Level,
    name: &'static str,
    message: &'a str,
    fields: Vec<(&'static str, Json)>,
    hints: &'a [String],
}

impl<'a> Event<'a> {
    fn new(level: Level, name: &'static str, message: &'a str) -> Self {
        Self { level, name, message, fields: Vec::new(), hints: &[] }
    }

    fn line(&self, format: OutputFormat, time: &str) -> String {
        match format {
            OutputFormat::Text => {
                let prefix = match self.level {
                    Level::Info => "",
                    Level::Warning => "warning: ",
                    Level::Error => "error: ",
                };
                let line = [format!("{prefix}{}", self.message)];
                let hints = self.hints.iter().map(|hint| format!("hint: {hint}"));
                let lines = line.into_iter().chain(hints).collect::<Vec<_>>().join("\n");
                printable_lines(&lines).into_owned()
            }
            OutputFormat::Json => {
                let level = match self.level {
                    Level::Info => "info",
                    Level::Warning => "warning",
                    Level::Error => "error",
                };
                let mut fields = vec![
                    ("time", Json::text(time)),
                    ("level", Json::text(level)),
                    ("event", Json::text(self.name)),
                    ("message", Json::text(self.message)),
                ];
                fields.extend(self.fields.iter().cloned());
                if !self.hints.is_empty() {
                    fields.push(("hints", Json::List(self.hints.iter().map(Json::text).collect())));
                }
                Json::Object(fields).to_string()
            }
        }
    }
}

/// Seconds since 1970 as `2026-08-01T12:00:00Z`.
pub fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Howard Hinnant's `civil_from_days`, for days after 1970 only.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_calendar_times() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_767_225_600, "2026-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }

    #[test]
    fn an_event_is_one_line_in_json_and_readable_in_text() {
        let hints = ["free some space".to_owned()];
        let line = |format| {
            Event { hints: &hints, ..Event::new(Level::Error, "failed", "no") }
                .line(format, "2026-01-01T00:00:00Z")
        };
        assert_eq!(line(OutputFormat::Text), "error: no\nhint: free some space");
        assert_eq!(
            line(OutputFormat::Json),
            r#"{"time":"2026-01-01T00:00:00Z","level":"error","event":"failed","message":"no","hints":["free some space"]}"#
        );
    }

    #[test]
    fn programs_read_further_fields() {
        let fields = vec![("bytesDone", Json::number(1)), ("id", Json::text("x"))];
        let event = Event { fields, ..Event::new(Level::Info, "backup-progress", "m") };
        assert_eq!(
            event.line(OutputFormat::Json, "2026-01-01T00:00:00Z"),
            r#"{"time":"2026-01-01T00:00:00Z","level":"info","event":"backup-progress","message":"m","bytesDone":1,"id":"x"}"#
        );
    }
}
