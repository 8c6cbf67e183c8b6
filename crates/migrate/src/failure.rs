//! Why the program stopped: a cause, what to do next, and the exit code that scripts see.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The file system or the machine refused something before a step could change the data.
    System,
    Usage,
    NotMigratable,
    /// A step needs the cluster, and too few of its other members can be reached. The data is at
    /// the version that it was at.
    NoQuorum,
    StepFailed,
    Locked,
    /// The number of the signal.
    Interrupted(u8),
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::System => 1,
            Self::Usage => 2,
            Self::NotMigratable | Self::NoQuorum => 3,
            Self::StepFailed => 4,
            Self::Locked => 5,
            // What a shell reports for a program that a signal ended: 143 for SIGTERM.
            Self::Interrupted(signal) => 128 + signal,
        }
    }
}

#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub cause: String,
    pub hints: Vec<String>,
}

impl Failure {
    pub fn new(kind: Kind, cause: impl fmt::Display) -> Self {
        Self { kind, cause: cause.to_string(), hints: Vec::new() }
    }

    pub fn usage(cause: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, cause).hint("`migrate --help` lists every flag")
    }

    /// An operation on a file that did not work: `cannot read /x: Permission denied`.
    pub fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(Kind::System, format_args!("cannot {verb} {}: {error}", path.display()))
    }

    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// The same failure, met when a step had begun: most other kinds say that nothing changed.
    #[must_use]
    pub fn in_step(mut self) -> Self {
        if !matches!(self.kind, Kind::Interrupted(_) | Kind::NoQuorum) {
            self.kind = Kind::StepFailed;
        }
        self
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }
}
