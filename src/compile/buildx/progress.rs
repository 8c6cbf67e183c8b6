//! Reads what `docker buildx build --progress=rawjson` prints: one JSON document in each line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::ui::Ui;

/// The base64 of BuildKit's JSON; the padding is accepted but not required.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One line: BuildKit's `SolveStatus`.

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    vertexes: Vec<Vertex>,
    #[serde(default)]
    logs: Vec<VertexLog>,
}

/// A step of the build.
#[derive(Deserialize)]
struct Vertex {
    name: String,
    started: Option<String>,
    completed: Option<String>,
    #[serde(default)]
    cached: bool,
    error: Option<String>,
}

/// Output of a step, in base64.
#[derive(Deserialize)]
struct VertexLog {
    data: String,
}

/// Turns the stream into a log that people can read, and reports the steps that begin. Public, so
/// that it can be fuzzed.
#[derive(Debug)]
pub struct ProgressLog<'a> {
    /// Written line by line, so that a killed build leaves its log; or the error that ended it.
    log: io::Result<File>,
    /// Steps that were reported already: BuildKit repeats itself.
    reported: BTreeSet<String>,
    what: &'a str,
    ui: &'a Ui,
}

impl<'a> ProgressLog<'a> {
    pub fn new(log: &Path, what: &'a str, ui: &'a Ui) -> Self {
        let file = File::options().create(true).append(true).open(log);
        Self { log: file, reported: BTreeSet::new(), what, ui }
    }

    /// A line that is not such a document is an error of Docker's client: it is logged as it is.
    pub fn line(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            self.write(line.as_bytes());
            return self.write(b"\n");
        };
        for vertex in message.vertexes {
            self.vertex(&vertex);
        }
        for log in message.logs {
            match BASE64.decode(&log.data) {
                Ok(output) => self.write(&output),
                Err(_) => self.write(log.data.as_bytes()),
            }
        }
    }

    fn vertex(&mut self, vertex: &Vertex) {
        if let Some(error) = vertex.error.as_ref().filter(|error| !error.is_empty()) {
            return self.write(format!("{}\n{error}\n", vertex.name).as_bytes());
        }
        // Instructions of the Dockerfile have a number: `[fetch 2/4] RUN …`.
        let is_step = vertex.name.starts_with('[') && !vertex.name.starts_with("[internal]");
        let first = vertex.name.lines().next().unwrap_or_default();
        if vertex.completed.is_some() {
            let how = if vertex.cached { "CACHED" } else { "DONE" };
            self.write(format!("{how} {first}\n").as_bytes());
        } else if vertex.started.is_some() && is_step && self.reported.insert(vertex.name.clone()) {
            self.write(format!("{}\n", vertex.name).as_bytes());
            self.ui.progress(format!("{}: {}", self.what, shortened(first)));
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Ok(log) = &mut self.log
            && let Err(error) = log.write_all(bytes)
        {
            self.log = Err(error);
        }
    }

    /// The first error of writing the log, if there was one.
    pub fn finish(self) -> io::Result<()> {
        self.log.map(drop)
    }
}

fn shortened(text: &str) -> String {
    const LENGTH: usize = 60;
    let short: String = text.chars().take(LENGTH).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{ProgressMode, Verbosity};

    #[test]
    fn the_stream_becomes_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let ui = Ui::new(Verbosity::Quiet, ProgressMode::None);
        let mut progress = ProgressLog::new(&log, "etcd", &ui);
        for line in [
            r#"{"vertexes":[{"digest":"sha256:1","name":"[internal] load build definition","started":"2026"}]}"#,
            r#"{"vertexes":[{"digest":"sha256:2","name":"[fetch 2/3] RUN go","started":"2026","completed":"2026","cached":true}]}"#,
            r#"{"vertexes":[{"digest":"sha256:3","name":"[compile 1/1] RUN cc","started":"2026"}]}"#,
            r#"{"logs":[{"vertex":"sha256:3","stream":2,"data":"aGVsbG8K","timestamp":"2026"}]}"#,
            r#"{"vertexes":[{"name":"[compile 1/1] RUN cc","started":"1","completed":"2","error":"exit code: 1"}]}"#,
            "ERROR: failed to solve",
        ] {
            progress.line(line);
        }
        progress.finish().unwrap();
        insta::assert_snapshot!(std::fs::read_to_string(&log).unwrap(), @"
        CACHED [fetch 2/3] RUN go
        [compile 1/1] RUN cc
        hello
        [compile 1/1] RUN cc
        exit code: 1
        ERROR: failed to solve
        ");
    }

    #[test]
    fn base64_is_read_with_and_without_its_padding() {
        let rows = [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob")];
        for (text, expected) in rows {
            assert_eq!(BASE64.decode(text).unwrap(), expected.as_bytes());
        }
    }
}
