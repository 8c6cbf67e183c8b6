//! The first difference between two databases, and what may differ.

use std::fmt;
use std::time::Duration;

use crate::inspect::bolt::Error;
use crate::inspect::log::writes::Writes;

/// What may differ, besides the history that a compaction removes.
#[derive(Debug)]
pub struct Rules<'a> {
    /// What the log held beyond the database. `None`: anybody may have written anything.
    pub writes: Option<&'a Writes>,
    /// What the log holds beyond the database now, because the last server was killed.
    pub left: Option<&'a Writes>,
    /// How long servers ran at most, which ends leases. `None`: not known.
    pub served: Option<Duration>,
    /// Whether content of the v2 API became keys, and its times leases.
    pub converts: bool,
}

impl Rules<'_> {
    pub fn may_be_written(&self, key: &[u8]) -> bool {
        self.writes.is_none_or(|writes| writes.may_write(key))
    }

    /// Whether the lease may have ended at any time. Another one of the same id may be there since.
    pub fn revokes(&self, lease: u64) -> bool {
        self.writes.is_none_or(|writes| writes.revokes(lease))
    }

    pub fn may_end(&self, lease: u64, seconds: u64) -> bool {
        self.revokes(lease) || self.served.is_none_or(|served| served.as_secs() >= seconds)
    }

    pub fn may_be_granted(&self, lease: u64) -> bool {
        self.converts || self.writes.is_none_or(|writes| writes.grants(lease))
    }
}

/// What has changed and was allowed to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AllowedChanges {
    /// Revisions that the log held, or that others wrote.
    pub replayed: u64,
    pub ended_leases: u64,
    pub granted_leases: u64,
    /// Keys that a lease has deleted when it ended.
    pub expired_keys: u64,
    /// Revisions that a compaction has removed.
    pub removed: u64,
    /// Keys that were made of content of the v2 API.
    pub converted: u64,
    /// What could not be compared.
    pub unproven: Vec<&'static str>,
}

impl AllowedChanges {
    /// What has changed, as phrases for a person.
    pub fn phrases(&self) -> Vec<String> {
        let phrases = [
            (
                self.replayed,
                "revision that was written meanwhile",
                "revisions that were written meanwhile",
            ),
            (self.ended_leases, "lease that has ended", "leases that have ended"),
            (self.expired_keys, "key that a lease has deleted", "keys that leases have deleted"),
            (
                self.granted_leases,
                "lease that was granted meanwhile",
                "leases that were granted meanwhile",
            ),
            (
                self.removed,
                "revision that a compaction has removed",
                "revisions that a compaction has removed",
            ),
            (self.converted, "key that was converted", "keys that were converted"),
        ];
        let phrases = phrases.into_iter().filter(|(count, ..)| *count > 0);
        phrases
            .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
            .collect()
    }
}

/// The first thing that is not as it was and had to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    Revision {
        key: Vec<u8>,
        revision: u64,
        what: &'static str,
    },
    Deleted {
        key: Vec<u8>,
        revision: u64,
    },
    /// A key that the log says was written.
    Missing {
        key: Vec<u8>,
    },
    Lease(u64, &'static str),
    /// A user or a role.
    Named {
        kind: &'static str,
        name: Vec<u8>,
        what: &'static str,
    },
    AuthSettings,
    /// A mark that only grows has gone back.
    WentBack {
        what: &'static str,
        before: u64,
        after: u64,
    },
    /// Without a copy only their numbers are known.
    Numbers {
        what: &'static str,
        before: u64,
        after: u64,
    },
}

/// Why a comparison failed.
#[derive(Debug)]
pub enum ComparisonError {
    Differs(Difference),
    Unreadable(Error),
}

impl Difference {
    pub fn revision(&self) -> u64 {
        match self {
            Self::Revision { revision, .. } | Self::Deleted { revision, .. } => *revision,
            _ => 0,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision { key, revision, what } => {
                write!(f, "revision {revision} of the key `{}` {what}", key.escape_ascii())
            }
            Self::Deleted { key, revision } => {
                write!(f, "the key `{}` was deleted at revision {revision}", key.escape_ascii())
            }
            Self::Missing { key } => {
                let key = key.escape_ascii();
                write!(f, "what the log had of the key `{key}` was not written")
            }
            Self::Lease(id, what) => write!(f, "the lease {id:x} {what}"),
            Self::Named { kind, name, what } => {
                write!(f, "the {kind} `{}` {what}", name.escape_ascii())
            }
            Self::AuthSettings => f.write_str("the settings of authentication were changed"),
            Self::WentBack { what, before, after } => {
                write!(f, "the {what} went back from {before} to {after}")
            }
            Self::Numbers { what, before, after } if before == after => {
                write!(f, "the {after} {what} are not the same")
            }
            Self::Numbers { what, before, after } => {
                write!(f, "there were {before} {what}, and now there are {after}")
            }
        }
    }
}

impl From<Difference> for ComparisonError {
    fn from(difference: Difference) -> Self {
        Self::Differs(difference)
    }
}

impl From<Error> for ComparisonError {
    fn from(error: Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<std::io::Error> for ComparisonError {
    fn from(error: std::io::Error) -> Self {
        Self::Unreadable(error.into())
    }
}
