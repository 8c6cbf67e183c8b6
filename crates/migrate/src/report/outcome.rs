//! How a run ended, for those who do not read its log: Kubernetes' termination message, and metrics
//! for Prometheus' node exporter.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::MigrateError;
use crate::files::durable;
use crate::printable::printable_lines;

/// Where Kubernetes looks for the message of a container that has ended.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// Kubernetes shows no more.
const LONGEST_MESSAGE_BYTES: usize = 4096;

/// A run that has ended.
#[derive(Debug)]
pub struct RunOutcome<'a> {
    pub data_dir: &'a Path,
    /// Such as `3.7.1`.
    pub target: &'a str,
    pub exit_code: u8,
    pub duration: Duration,
}

/// Writes the error and its hints. Writes into the file that is there: Kubernetes has mounted it.
pub fn write_termination(path: &Path, failure: &MigrateError) -> Result<(), MigrateError> {
    let hints = failure.hints.iter().map(|hint| format!("\nhint: {hint}"));
    let message = format!("{}{}", failure.cause, hints.collect::<String>());
    let message = printable_lines(&message);
    let end = message.floor_char_boundary(LONGEST_MESSAGE_BYTES);
    fs::write(path, &message[..end]).map_err(|error| MigrateError::file("write", path, &error))
}

/// Writes the metrics, as a whole or not at all.
pub fn write_metrics(path: &Path, outcome: &RunOutcome<'_>) -> Result<(), MigrateError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    durable::replace(path, outcome.metrics(now).as_bytes())
}

impl RunOutcome<'_> {
    /// The text format of Prometheus.
    fn metrics(&self, now: Duration) -> String {
        let data_dir = self.data_dir.display().to_string();
        let labels = format!("data_dir=\"{}\",target=\"{}\"", label(&data_dir), label(self.target));
        let gauge = |name: &str, help: &str, value: f64| {
            let name = format!("etcd_migrate_last_run_{name}");
            format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{labels}}} {value}\n")
        };
        [
            gauge("exit_code", "Exit code, 0 if the target etcd may start.", self.exit_code.into()),
            gauge("end_timestamp_seconds", "When it ended.", now.as_secs_f64().floor()),
            gauge("duration_seconds", "How long it took.", self.duration.as_secs_f64()),
        ]
        .concat()
    }
}

/// A value of a label, without its quotes.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::MigrateErrorKind;
    use crate::scratch::ScratchDirectory;

    #[test]
    fn metrics_have_the_text_format() {
        let outcome = RunOutcome {
            data_dir: Path::new("/a \"b\"\\"),
            target: "3.7.1",
            exit_code: 4,
            duration: Duration::from_millis(1500),
        };
        let text = outcome.metrics(Duration::from_hours(500_000));
        let labels = r#"{data_dir="/a \"b\"\\",target="3.7.1"}"#;
        for (name, value) in [
            ("exit_code", "4"),
            ("end_timestamp_seconds", "1800000000"),
            ("duration_seconds", "1.5"),
        ] {
            let name = format!("etcd_migrate_last_run_{name}");
            assert!(
                text.contains(&format!("# TYPE {name} gauge\n{name}{labels} {value}\n")),
                "{text}"
            );
        }
    }

    #[test]
    fn the_last_message_is_short_and_has_the_hints() {
        let scratch = ScratchDirectory::new();
        let path = scratch.path().join("message");
        let failure =
            |cause: &str| MigrateError::new(MigrateErrorKind::System, cause).hint("do this");
        write_termination(&path, &failure("no\u{1b}")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "no\\u{1b}\nhint: do this");
        write_termination(&path, &failure(&"é".repeat(5000))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "é".repeat(2048));
    }
}
