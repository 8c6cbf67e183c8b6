//! What the caller asked for, checked and complete. `reader` makes it from flags and variables.

use std::path::PathBuf;
use std::time::Duration;

use etcd_version::Bundled;

use crate::inspect::version_pair::VersionPair;
pub use crate::report::format::Format;

/// Which witness counts when `version.txt` and the data disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Neither,
    Data,
    File,
}

impl Trust {
    /// While a step is under way the data is ahead of `version.txt`, and that is no contradiction.
    pub fn while_under_way(self, is_under_way: bool) -> Self {
        if self == Self::Neither && is_under_way { Self::Data } else { self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downgrades {
    OneMinor,
    SeveralMinors,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainBinaries {
    Replace,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLog {
    OnFailure,
    Show,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Asked for by a flag: this one or none.
    Given(u16),
    /// The default: another one will do when it is taken.
    Preferred(u16),
}

/// How the servers of the journey are started.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    pub port: Port,
    pub initial_cluster: String,
    pub initial_cluster_token: Option<String>,
    pub listen_peer_urls: String,
    /// That of `listen_peer_urls`, when it is the default and another one will do.
    pub peer_port: Option<u16>,
    pub initial_advertise_peer_urls: String,
    pub extra_arguments: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Backups {
    pub enabled: bool,
    pub directory: Option<PathBuf>,
    pub retain: usize,
}

#[derive(Clone, Debug)]
pub struct Timeouts {
    pub start: Duration,
    pub stop: Duration,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub data_dir: PathBuf,
    pub bin_dir: PathBuf,
    pub bundled: Option<Bundled>,
    pub target: VersionPair,
    pub member: Member,
    pub trust: Trust,
    pub downgrades: Downgrades,
    pub backups: Backups,
    pub timeouts: Timeouts,
    pub plain_binaries: PlainBinaries,
    pub data_dir_mode: Option<u32>,
    pub server_log: ServerLog,
    /// Settings that were given but mean nothing any more; said once.
    pub ignored: Vec<&'static str>,
}
