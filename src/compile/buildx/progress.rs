//! What `docker buildx build --progress=rawjson` says: one JSON document in each line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::compile::tool::CompileError;
use crate::ui::Ui;

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    vertexes: Vec<Vertex>,
    #[serde(default)]
    logs: Vec<Log>,
}

#[derive(Deserialize)]
struct Vertex {
    name: String,
    started: Option<String>,
    completed: Option<String>,
    #[serde(default)]
    cached: bool,
    error: Option<String>,
}

/// Output of a step.
#[derive(Deserialize)]
struct Log {
    data: String,
}

/// Turns the stream into a log that people read, and says what is going on.
pub(super) struct Progress<'a> {
    path: PathBuf,
    /// Written as it comes, so that a build which is killed leaves its log.
    log: io::Result<File>,
    /// Steps that were told already: BuildKit repeats itself.
    told: BTreeSet<String>,
    what: &'a str,
    ui: &'a Ui,
}

impl<'a> Progress<'a> {
    pub(super) fn new(log: &Path, what: &'a str, ui: &'a Ui) -> Self {
        let file = File::options().create(true).append(true).open(log);
        Self { path: log.to_owned(), log: file, told: BTreeSet::new(), what, ui }
    }

    /// What is not such a document is Docker's own complaint: it goes into the log as it is.
    pub(super) fn line(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            self.write(line.as_bytes());
            return self.write(b"\n");
        };
        for vertex in message.vertexes {
            self.vertex(&vertex);
        }
        for log in message.logs {
            self.write(&base64(&log.data));
        }
    }

    fn vertex(&mut self, vertex: &Vertex) {
        if let Some(error) = vertex.error.as_ref().filter(|error| !error.is_empty()) {
            return self.write(format!("{}\n{error}\n", vertex.name).as_bytes());
        }
        // Those of the Dockerfile have a number: `[fetch 2/4] RUN …`.
        let is_step = vertex.name.starts_with('[') && !vertex.name.starts_with("[internal]");
        let first = vertex.name.lines().next().unwrap_or_default();
        if vertex.completed.is_some() {
            let how = if vertex.cached { "CACHED" } else { "DONE" };
            self.write(format!("{how} {first}\n").as_bytes());
        } else if vertex.started.is_some() && is_step && self.told.insert(vertex.name.clone()) {
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

    /// Whether all of it was written.
    pub(super) fn finish(self) -> Result<(), CompileError> {
        self.log.map(drop).map_err(CompileError::io(&self.path))
    }
}

fn shortened(text: &str) -> String {
    const LENGTH: usize = 60;
    let short: String = text.chars().take(LENGTH).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// RFC 4648; what is none of its digits is left out.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut n_bits) = (0_u32, 0);
    for digit in text.bytes().filter_map(digit) {
        bits = (bits << 6) | u32::from(digit);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push(u8::try_from((bits >> n_bits) & 0xff).unwrap_or_default());
            bits &= (1 << n_bits) - 1;
        }
    }
    bytes
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
        let mut progress = Progress::new(&log, "etcd", &ui);
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
    fn base64_is_read_with_and_without_its_end() {
        let rows = [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob")];
        for (text, expected) in rows {
            assert_eq!(base64(text), expected.as_bytes());
        }
    }
}
