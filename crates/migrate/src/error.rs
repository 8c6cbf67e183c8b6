//! The error of the whole program: a cause, hints what to do next, and the exit code.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::platform;

/// What kind of failure it is, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateErrorKind {
    /// The file system or the machine refused something, before a step could change the data.
    System,
    /// The flags or variables are wrong.
    Usage,
    /// There is no way from this data to the target version.
    NotMigratable,
    /// The step needs other members of the cluster, and too few of them can be reached. The data is
    /// still at the version that it had.
    NoQuorum,
    /// A step failed after it may have changed the data.
    StepFailed,
    /// What clients had stored is not the same after the last step.
    NotTheSame,
    /// Another `migrate` or a server uses the data directory.
    Locked,
    /// Stopped by the signal with this number.
    Interrupted(u8),
}

impl MigrateErrorKind {
    fn id(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Usage => "usage",
            Self::NotMigratable => "not-migratable",
            Self::NoQuorum => "no-quorum",
            Self::StepFailed => "step-failed",
            Self::NotTheSame => "not-the-same",
            Self::Locked => "in-use",
            Self::Interrupted(_) => "interrupted",
        }
    }

    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::System => 1,
            Self::Usage => 2,
            Self::NotMigratable | Self::NoQuorum => 3,
            Self::StepFailed | Self::NotTheSame => 4,
            Self::Locked => 5,
            // As a shell reports it: 143 for SIGTERM.
            Self::Interrupted(signal) => 128 + signal,
        }
    }
}

/// Why the program stopped.
#[derive(Debug)]
pub struct MigrateError {
    pub kind: MigrateErrorKind,
    /// A word for programs. Words do not change when the text does.
    pub id: &'static str,
    /// One sentence; further lines are the last lines of a server.
    pub cause: String,
    /// What to do next, one sentence each.
    pub hints: Vec<String>,
}

impl MigrateError {
    /// A failure without hints.
    pub fn new(kind: MigrateErrorKind, cause: impl fmt::Display) -> Self {
        Self { kind, id: kind.id(), cause: cause.to_string(), hints: Vec::new() }
    }

    /// A wrong flag or variable.
    pub fn usage(cause: impl fmt::Display) -> Self {
        Self::new(MigrateErrorKind::Usage, cause).hint("`migrate --help` lists every flag")
    }

    /// A file operation failed: `cannot read /x: Permission denied`.
    pub fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        let failure = Self::new(
            MigrateErrorKind::System,
            format_args!("cannot {verb} {}: {error}", path.display()),
        );
        if platform::is_open_elsewhere(error) {
            return failure.hint("another process has it open: end that, and run migrate again");
        }
        failure
    }

    /// Gives it a word of its own for programs.
    #[must_use]
    pub fn id(mut self, id: &'static str) -> Self {
        self.id = id;
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// The same failure after a step had begun: most other kinds say that nothing was changed.
    #[must_use]
    pub fn in_step(mut self) -> Self {
        if !matches!(
            self.kind,
            MigrateErrorKind::Interrupted(_)
                | MigrateErrorKind::NoQuorum
                | MigrateErrorKind::NotTheSame
        ) {
            self.kind = MigrateErrorKind::StepFailed;
        }
        self
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }
}
