//! Why a command stopped: a cause, what to do next, and the exit code scripts see.
//!
//! Only the command layer adds hints; the modules below carry data and give no advice.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// The exit code of a failure, for scripts. The numbers are documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An error that has no code of its own.
    Other,
    /// versions.yaml, targets/ or etcdimg.lock is wrong, or the lock is stale.
    Catalog,
    /// Wrong bytes: a digest, an archive or a program is not the expected one.
    Verification,
    /// An input or a service cannot be reached.
    Unavailable,
    /// A compiler failed or is missing.
    Compile,
    /// A file cannot be read or written.
    Io,
    /// A tag already names another image.
    Taken,
    /// An acceptance test of an image failed.
    TestFailed,
}

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        // 2 is a wrong command line, which clap reports.
        match self {
            Self::Other => 1,
            Self::Catalog => 3,
            Self::Verification => 4,
            Self::Unavailable => 5,
            Self::Compile => 6,
            Self::Io => 7,
            Self::Taken => 8,
            Self::TestFailed => 9,
        }
    }
}

/// An error as its reader sees it. `Display` is the whole message, hints included.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    cause: Box<dyn Error + Send + Sync>,
    hints: Vec<String>,
}

impl Failure {
    /// A failure without hints.
    pub fn new(kind: Kind, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, cause: cause.into(), hints: Vec::new() }
    }

    /// Adds a hint: what the user can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.cause)?;
        let mut source = self.cause.source();
        while let Some(error) = source {
            write!(f, "\n  because: {error}")?;
            source = error.source();
        }
        self.hints.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}
