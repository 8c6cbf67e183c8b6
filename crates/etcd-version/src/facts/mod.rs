//! What differs between the versions of etcd, as `etcd-versions.json` has it: programs, packages,
//! machines, ways back, what a log allows, floors, flags. One table, read by everybody who needs
//! such a fact; each row has its reason and its source.

mod flag;
mod reader;

use std::sync::OnceLock;

pub use flag::{BetweenVersions, Flag, FlagKind, Replacement};
pub use reader::FactsError;

use crate::{EtcdVersion, Series};

/// The programs of every version that there is.
pub const ALL_PROGRAMS: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];

/// The table that this program was compiled with, as it also lies in the image.
pub const TEXT: &str = include_str!("../../etcd-versions.json");

/// Where the image has the table, without the leading slash.
pub const FACTS_PATH: &str = "usr/local/share/etcdimg/etcd-versions.json";

/// The table that counts instead of the one that was compiled in.
static INSTALLED: OnceLock<Facts> = OnceLock::new();

/// Everything that the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// In ascending order. The first row holds for every version before the second one, too.
    series: Vec<SeriesFacts>,
    replay: ReplayLimits,
    /// What a database says about its version without naming it.
    pub evidence: EvidenceFacts,
    floors: Vec<Floor>,
    flags: Vec<Flag>,
}

/// The facts of all versions from one minor version on, up to the next row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesFacts {
    since: Series,
    pub programs: Vec<&'static str>,
    /// The Go packages of the programs, in their order, and the one whose variable `GitSHA` is the
    /// commit.
    packages: Vec<(String, String)>,
    /// What the release build tells the Go linker to strip.
    strip: String,
    /// `GOARCH` of the machines on which etcd starts without `ETCD_UNSUPPORTED_ARCH`.
    pub architectures: Vec<String>,
    /// Whether a database holds its storage version, which `etcdutl migrate` changes.
    pub has_storage_version: bool,
    /// Whether the next minor version can be lowered to this one while it serves.
    pub downgrade_in_place: bool,
    /// Whether this version starts on a restored database of the next minor version.
    pub downgrade_by_snapshot: bool,
    /// Where its raft snapshots are.
    pub raft_snapshots: RaftSnapshots,
}

/// Where a server has its raft snapshots, from the newest of which it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaftSnapshots {
    /// In files beside the log, which knows of them.
    Files,
    /// In the log only.
    Log,
}

/// The last minor versions that can replay requests of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReplayLimits {
    v2: Series,
    converted: Series,
}

/// What a database says about its version without naming it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceFacts {
    /// The first version that writes a term into the database.
    pub term_since: Series,
    /// The cluster version that etcd writes before the cluster has agreed on one.
    pub undecided: Series,
}

/// Requests in a log that some later version cannot replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// Of the v2 API.
    V2,
    /// Of the v2 API, and converted for some time: the attributes of a member and the cluster
    /// version.
    Converted,
}

/// A patch that the data should have been served by before it goes to another minor version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    pub minor: Series,
    /// Whether data of `minor` goes up to, or down from, another minor version.
    pub change: MinorChange,
    /// Data of an older patch is in danger.
    pub required: Option<EtcdVersion>,
    /// etcd's own guides ask for it.
    pub wanted: Option<EtcdVersion>,
    pub reason: String,
    pub source: String,
}

/// A change of the minor version, in one of the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinorChange {
    UpTo(Series),
    DownFrom(Series),
}

impl Facts {
    /// The table that counts: the installed one, else the one that was compiled in.
    pub fn current() -> &'static Self {
        INSTALLED.get().unwrap_or_else(Self::compiled_in)
    }

    /// Lets another table count. `false` if one was installed before.
    pub fn install(self) -> bool {
        INSTALLED.set(self).is_ok()
    }

    /// The table that this program was compiled with.
    #[expect(clippy::expect_used, reason = "a test reads it, so no release has another one")]
    pub fn compiled_in() -> &'static Self {
        static FACTS: OnceLock<Facts> = OnceLock::new();
        FACTS.get_or_init(|| Self::parse(TEXT).expect("etcd-versions.json is right"))
    }

    /// Reads the text of `etcd-versions.json`.
    pub fn parse(text: &str) -> Result<Self, FactsError> {
        reader::read(text)
    }

    /// The facts of a minor version, known or not.
    pub fn of(&self, series: Series) -> &SeriesFacts {
        let later = self.series.iter().rev().find(|row| row.since <= series);
        later.unwrap_or(&self.series[0])
    }

    /// The last minor version that can replay such requests.
    pub fn replayed_until(&self, requests: Requests) -> Series {
        match requests {
            Requests::V2 => self.replay.v2,
            Requests::Converted => self.replay.converted,
        }
    }

    /// What is asked of a minor version before its data goes up to `to`, which may be minors away.
    pub fn floor(&self, series: Series, to: Series) -> Option<&Floor> {
        self.floors.iter().find(|floor| {
            floor.minor == series && matches!(floor.change, MinorChange::UpTo(next) if next <= to)
        })
    }

    /// What is asked of a minor version before it takes data back that was at `from`.
    pub fn floor_after(&self, series: Series, from: Series) -> Option<&Floor> {
        self.floors.iter().find(|floor| {
            floor.minor == series
                && matches!(floor.change, MinorChange::DownFrom(last) if last <= from)
        })
    }

    /// By name, without its dashes.
    pub fn flag(&self, name: &str) -> Option<&Flag> {
        self.flags.iter().find(|flag| flag.name == name)
    }

    pub fn flags(&self) -> &[Flag] {
        &self.flags
    }
}

impl SeriesFacts {
    fn package(&self, name: &str) -> &str {
        self.packages.iter().find(|(known, _)| known == name).map_or("", |(_, package)| package)
    }
}

fn facts(version: &EtcdVersion) -> &'static SeriesFacts {
    Facts::current().of(version.series())
}

/// The programs that a version consists of.
pub fn programs_of(version: &EtcdVersion) -> &'static [&'static str] {
    &facts(version).programs
}

/// The Go package of a program of a version, which is its `main`.
pub fn go_package(version: &EtcdVersion, program: &str) -> &'static str {
    facts(version).package(program)
}

/// What etcd's release build gives the Go linker (`-ldflags`), for a commit in its short form.
pub fn release_linker_flags(version: &EtcdVersion, short_commit: &str) -> String {
    let facts = facts(version);
    format!("{} -X={}.GitSHA={short_commit}", facts.strip, facts.package("version"))
}

/// Whether etcd starts on a machine (by its `GOARCH`) without being told by
/// `ETCD_UNSUPPORTED_ARCH`.
pub fn supports_architecture(version: &EtcdVersion, goarch: &str) -> bool {
    facts(version).architectures.iter().any(|known| known == goarch)
}

#[cfg(test)]
mod tests;
