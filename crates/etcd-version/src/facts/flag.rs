//! The flags of `etcd`.

use crate::Series;

/// A flag of `etcd`. Its variable is `ETCD_` and the name in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Without its dashes.
    pub name: String,
    pub kind: FlagKind,
    /// The first minor version that knows it; `None`: all that are in the table do.
    pub since: Option<Series>,
    /// The last minor version that knows it; `None`: the newest does.
    pub until: Option<Series>,
    /// What says the same to a version that does not know it.
    pub replacement: Option<Replacement>,
    pub between: BetweenVersions,
    /// A value that is right, where the kind does not say it.
    pub sample: Option<String>,
    /// Why later versions do not know it.
    pub reason: Option<String>,
    pub source: Option<String>,
}

/// What happens to a flag of the operator when a server serves only for a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BetweenVersions {
    Kept,
    /// For this reason.
    LeftOut(String),
    /// For this reason there is no migration at all.
    Refused(String),
}

/// The kind of the value after `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagKind {
    Bool,
    Duration,
    /// A list of features, each with `=true` or `=false`.
    Gates,
    Integer,
    Text,
    Urls,
    /// One of a few words.
    Word,
}

/// What says the same as a flag, to other versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// Another flag with the same value.
    Twin(String),
    /// A feature of `--feature-gates`.
    Gate(String),
    /// Another flag with a value of its own, if this one has the value `when`.
    Instead { name: String, value: String, when: String },
}

impl Flag {
    /// Whether it needs no value.
    pub fn is_boolean(&self) -> bool {
        self.kind == FlagKind::Bool
    }

    /// Whether a minor version starts with it.
    pub fn is_known_to(&self, series: Series) -> bool {
        self.since.is_none_or(|since| since <= series)
            && self.until.is_none_or(|until| series <= until)
    }

    /// A value that every version which knows the flag takes.
    pub fn sample(&self) -> &str {
        self.sample.as_deref().unwrap_or(match self.kind {
            FlagKind::Bool => "true",
            FlagKind::Duration => "1s",
            FlagKind::Integer => "1",
            FlagKind::Urls => "http://127.0.0.1:1",
            FlagKind::Gates | FlagKind::Text | FlagKind::Word => "x",
        })
    }
}
