//! What the caller asked for: each setting from its flag, else its environment variable when that
//! is not empty, else its default.
//!
//! The flags, variables and defaults of the old image are a fixed interface; `help.txt` lists them.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use etcd_version::{Bundled, EtcdVersion};

use crate::cli::arguments::Arguments;
use crate::cli::shell_words;
use crate::failure::Failure;
use crate::inspect::version_pair::{Storage, VersionPair};
use crate::platform::BIN_DIR;
use crate::run::command;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

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

/// Flags and environment of one call, looked up by one rule.
pub struct Lookup<'a> {
    pub arguments: &'a Arguments,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Lookup<'_> {
    /// A variable that is set but empty counts as unset.
    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    fn get(&self, flag: &str, variable: &str) -> Option<String> {
        let given = self.arguments.value(flag).filter(|value| !value.is_empty());
        given.map(str::to_owned).or_else(|| self.variable(variable))
    }

    fn require(&self, flag: &str, variable: &str) -> Result<String, Failure> {
        self.get(flag, variable).ok_or_else(|| {
            Failure::usage(format_args!("{variable} variable unset - expected failure"))
                .hint(format_args!("give --{flag} or set {variable}"))
        })
    }

    pub fn data_dir(&self) -> Result<PathBuf, Failure> {
        // Rebuilt from its components, so that a trailing slash is gone and
        // `<data-dir>.bak` lies beside the directory instead of inside it.
        let path: PathBuf =
            Path::new(&self.require("data-dir", "DATA_DIRECTORY")?).components().collect();
        if path.file_name().is_none() {
            return Err(Failure::usage(format_args!(
                "--data-dir {} has no name of its own",
                path.display()
            )));
        }
        Ok(path)
    }

    pub fn log_format(&self) -> Result<Format, Failure> {
        self.format("log-format", "human")
    }

    pub fn plan_format(&self) -> Result<Format, Failure> {
        if self.arguments.has("json") {
            return Ok(Format::Json);
        }
        self.format("plan-format", "text")
    }

    fn format(&self, flag: &str, text: &str) -> Result<Format, Failure> {
        match self.arguments.value(flag) {
            None => Ok(Format::Text),
            Some("json") => Ok(Format::Json),
            Some(value) if value == text => Ok(Format::Text),
            Some(value) => {
                Err(Failure::usage(format_args!("--{flag} is `{text}` or `json`, not `{value}`")))
            }
        }
    }

    fn name(&self) -> Result<String, Failure> {
        let host = || self.variable("ETCD_HOSTNAME").or_else(|| self.variable("HOSTNAME"));
        self.get("name", "ETCD_NAME").or_else(|| Some(format!("etcd-{}", host()?))).ok_or_else(|| {
            Failure::usage(
                "defaulting --name failed due to all ETCD_NAME, ETCD_HOSTNAME and HOSTNAME unset",
            )
        })
    }

    fn port(&self, flag: &str, default: u16) -> Result<Port, Failure> {
        match self.arguments.value(flag) {
            // Zero has always meant "not given".
            None | Some("0") => Ok(Port::Preferred(default)),
            Some(text) => text
                .parse()
                .map(Port::Given)
                .map_err(|_| Failure::usage(format_args!("--{flag} `{text}` is not a port"))),
        }
    }

    fn duration(&self, flag: &str, default: Duration) -> Result<Duration, Failure> {
        let Some(text) = self.arguments.value(flag) else { return Ok(default) };
        parse_duration(text).ok_or_else(|| {
            Failure::usage(format_args!(
                "--{flag} `{text}` is not a time, for example `90s` or `15m`"
            ))
        })
    }

    fn target(&self) -> Result<VersionPair, Failure> {
        let version = self.require("target-version", "TARGET_VERSION")?;
        let version: EtcdVersion = version
            .parse()
            .map_err(|error| Failure::usage(format_args!("--target-version: {error}")))?;
        let storage: Storage = self
            .require("target-storage", "TARGET_STORAGE")?
            .parse()
            .map_err(|error| Failure::usage(format_args!("--target-storage: {error}")))?;
        Ok(VersionPair { version, storage })
    }

    fn bundled(&self) -> Result<Option<Bundled>, Failure> {
        let Some(text) = self.arguments.value("bundled-versions") else { return Ok(None) };
        let versions = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let versions = versions.map(str::parse).collect::<Result<Vec<EtcdVersion>, _>>();
        let versions = versions.map_err(|error| {
            Failure::usage(format_args!("failed to parse --bundled-versions: {error}"))
        })?;
        Ok(Some(Bundled::new(versions)))
    }

    fn member(&self, data_dir: &Path) -> Result<Member, Failure> {
        let name = self.name()?;
        let holds_events = holds_events(data_dir);
        let port = self.port("port", if holds_events { 18631 } else { 18629 })?;
        let preferred_peer_port = self.port("peer-port", if holds_events { 2381 } else { 2380 })?;
        let (Port::Given(peer_port) | Port::Preferred(peer_port)) = preferred_peer_port;
        let listen_peer_urls = self.get("listen-peer-urls", "LISTEN_PEER_URLS");
        let is_default =
            listen_peer_urls.is_none() && preferred_peer_port != Port::Given(peer_port);
        let extra_arguments = match self.get("etcd-server-extra-args", "ETCD_CREDS") {
            Some(text) => shell_words::split(&text).map_err(|error| {
                Failure::usage(format_args!("--etcd-server-extra-args (ETCD_CREDS): {error}"))
            })?,
            None => Vec::new(),
        };
        let peer_url = format!("http://localhost:{peer_port}");
        let or_peer_url = |value: Option<String>| value.unwrap_or_else(|| peer_url.clone());
        Ok(Member {
            initial_cluster: self
                .get("initial-cluster", "INITIAL_CLUSTER")
                .unwrap_or_else(|| format!("{name}={peer_url}")),
            initial_cluster_token: self
                .get("initial-cluster-token", "INITIAL_CLUSTER_TOKEN")
                .or_else(|| command::value_of("initial-cluster-token", &extra_arguments))
                .or_else(|| self.variable("ETCD_INITIAL_CLUSTER_TOKEN")),
            listen_peer_urls: or_peer_url(listen_peer_urls),
            peer_port: is_default.then_some(peer_port),
            initial_advertise_peer_urls: or_peer_url(
                self.get("initial-advertise-peer-urls", "INITIAL_ADVERTISE_PEER_URLS"),
            ),
            extra_arguments,
            name,
            port,
        })
    }

    fn trust(&self) -> Result<Trust, Failure> {
        match self.arguments.value("trust") {
            None => Ok(Trust::Neither),
            Some("data") => Ok(Trust::Data),
            Some("file") => Ok(Trust::File),
            Some(value) => {
                Err(Failure::usage(format_args!("--trust is `data` or `file`, not `{value}`")))
            }
        }
    }

    fn backups(&self) -> Result<Backups, Failure> {
        let retain = self.arguments.value("backup-retain").unwrap_or("1");
        let retain = retain.parse::<usize>().ok().filter(|count| *count > 0).ok_or_else(|| {
            Failure::usage(format_args!("--backup-retain `{retain}` is not a number above 0"))
                .hint("`--no-backup` is how to make none")
        })?;
        Ok(Backups {
            enabled: !self.arguments.has("no-backup"),
            directory: self.arguments.value("backup-dir").map(PathBuf::from),
            retain,
        })
    }

    fn data_dir_mode(&self) -> Result<Option<u32>, Failure> {
        let Some(text) = self.arguments.value("data-dir-mode") else { return Ok(None) };
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & 0o700 == 0o700);
        mode.filter(|mode| *mode <= 0o777).map(Some).ok_or_else(|| {
            Failure::usage(format_args!("--data-dir-mode `{text}` is not a mode such as `0700`"))
        })
    }

    pub fn options(&self) -> Result<Options, Failure> {
        let data_dir = self.data_dir()?;
        let member = self.member(&data_dir)?;
        let ignored = [
            ("listen-client-urls", "LISTEN_CLIENT_URLS"),
            ("etcd-data-prefix", "ETCD_DATA_PREFIX"),
            ("ttl-keys-directory", "TTL_KEYS_DIRECTORY"),
        ];
        let ignored = ignored.into_iter().filter(|(flag, name)| self.get(flag, name).is_some());
        let leave_binaries = self.variable("DO_NOT_MOVE_BINARIES").as_deref() == Some("true");
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Ok(Options {
            target: self.target()?,
            bin_dir: self.arguments.value("bin-dir").unwrap_or(BIN_DIR).into(),
            bundled: self.bundled()?,
            trust: self.trust()?,
            downgrades: if self.arguments.has("allow-multi-step-downgrade") {
                Downgrades::SeveralMinors
            } else {
                Downgrades::OneMinor
            },
            backups: self.backups()?,
            timeouts: Timeouts {
                start: self.duration("start-timeout", minutes(15))?,
                stop: self.duration("stop-timeout", minutes(5))?,
            },
            plain_binaries: if leave_binaries {
                PlainBinaries::Leave
            } else {
                PlainBinaries::Replace
            },
            data_dir_mode: self.data_dir_mode()?,
            server_log: if self.arguments.has("show-server-log") {
                ServerLog::Show
            } else {
                ServerLog::OnFailure
            },
            ignored: ignored.map(|(flag, _)| flag).collect(),
            data_dir,
            member,
        })
    }
}

/// Whether this is the second etcd of a control plane, the one for events, which by custom runs on
/// the next ports. The old program looked for `event` anywhere in the path, so `/srv/eventual/data`
/// was taken for one.
fn holds_events(data_dir: &Path) -> bool {
    let Some(Component::Normal(last)) = data_dir.components().next_back() else { return false };
    let last = last.to_string_lossy();
    let mut words = last.split(|character: char| !character.is_ascii_alphanumeric());
    words.any(|word| word == "event" || word == "events")
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let count: u64 = digits.parse().ok()?;
    // A year is more than anyone means, and far from overflowing a clock.
    let total = count.checked_mul(seconds).filter(|total| (1..=31_536_000).contains(total))?;
    Some(Duration::from_secs(total))
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
