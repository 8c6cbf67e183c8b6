//! What the caller asked for, checked and complete. `reader` makes it from flags and variables.

use std::path::PathBuf;
use std::time::Duration;

use etcd_version::Bundled;

use crate::inspect::current_version::Trust;
use crate::inspect::layout::DataLayout;
use crate::inspect::version_pair::VersionPair;
use crate::plan::steps::PlanOptions;

/// What happens to the plain `etcd`, `etcdctl` and `etcdutl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainBinaries {
    /// They become those of the target version.
    Replace,
    Leave,
}

/// When the log of a server is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLog {
    /// Only its last lines, and only after a failure.
    OnFailure,
    Show,
}

/// How what clients have stored is compared before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// In full up to a size of the database that takes little time, else quickly.
    BySize,
    Full,
    Quick,
    Off,
}

/// A port of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Given by a flag, so no other port may be used.
    Given(u16),
    /// The default; any free port may be used instead.
    Preferred(u16),
}

/// How the servers that do the steps are started.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The name of the member, as in `--name`.
    pub name: String,
    /// The port for clients.
    pub port: Port,
    pub initial_cluster: String,
    pub initial_cluster_token: Option<String>,
    pub listen_peer_urls: String,
    /// The port of `listen_peer_urls` if that is the default, so that any free port may be used
    /// instead; 0 if no port is preferred.
    pub peer_port: Option<u16>,
    pub initial_advertise_peer_urls: String,
    /// Further flags of etcd.
    pub extra_arguments: Vec<String>,
}

/// Whether and where backups are made.
#[derive(Clone, Debug)]
pub struct Backups {
    pub enabled: bool,
    /// `None` for the default, which depends on the data directory.
    pub directory: Option<PathBuf>,
    /// How many backups are kept; at least 1.
    pub retain: usize,
}

/// How long the program waits for a server.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Until it is healthy and has upgraded or downgraded the data.
    pub start: Duration,
    /// Until it has stopped; then it is killed.
    pub stop: Duration,
}

/// A text with settings of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsText {
    /// A file: a manifest, a unit of systemd, a file of variables. `-` is standard input.
    Manifest(PathBuf),
    /// Arguments of etcd.
    Arguments(String),
}

/// What `restore` needs to know besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// The file that `etcdctl snapshot save` has written, or a copied `member/snap/db`.
    pub snapshot: PathBuf,
    /// How much the revision rises, so that clients notice that the time before is gone.
    pub bump_revision: Option<u64>,
    pub then: AfterRestore,
}

/// What happens to the data of a snapshot when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRestore {
    /// It goes to the target version.
    Migrate,
    /// It stays at the version of the snapshot, and a plain run takes it to the target later: a
    /// member of several may have no other member to go there with.
    Stay,
}

/// Everything that one run needs to know from its caller.
#[derive(Clone, Debug)]
pub struct Options {
    /// It need not exist.
    pub data_dir: PathBuf,
    /// Where its parts are.
    pub layout: DataLayout,
    /// The directory of the programs `etcd-<version>`.
    pub bin_dir: PathBuf,
    /// `None` if the image itself says which versions are bundled.
    pub bundled: Option<Bundled>,
    pub target: VersionPair,
    pub member: ServerOptions,
    pub trust: Trust,
    pub allowed: PlanOptions,
    pub backups: Backups,
    pub verify: Verify,
    pub timeouts: Timeouts,
    pub plain_binaries: PlainBinaries,
    /// Permission bits that the data directory gets.
    pub data_dir_mode: Option<u32>,
    pub server_log: ServerLog,
    /// Flags without effect that were given, so that the log can say so.
    pub ignored: Vec<&'static str>,
}
