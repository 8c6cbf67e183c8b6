//! Reads the options: each one from its flag, else its environment variable when that is not empty,
//! else its default.
//!
//! The flags, variables and defaults of the old image are a fixed interface; `help.txt` lists them.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use etcd_version::{Bundled, EtcdVersion};

use super::arguments::Arguments;
use super::options::{
    AfterRestore, Backups, Options, PlainBinaries, Port, RestoreOptions, ServerLog, ServerOptions,
    SettingsText, Timeouts, Verify,
};
use super::{etcd_flags, shell_words};
use crate::error::MigrateError;
use crate::inspect::current_version::Trust;
use crate::inspect::layout::DataLayout;
use crate::inspect::version_pair::{Storage, VersionPair};
use crate::plan::steps::{Defrag, Downgrades, PlanOptions};
use crate::plan::v2_content::V2Content;
use crate::platform::BIN_DIR;
use crate::report::format::OutputFormat;
use crate::report::outcome::TERMINATION_LOG;

/// The flags and the environment of one call.
pub struct OptionReader<'a> {
    pub arguments: &'a Arguments,
    /// The value of an environment variable, if it is set.
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
}

impl OptionReader<'_> {
    /// Every option of a migration.
    pub fn options(&self) -> Result<Options, MigrateError> {
        let data_dir = self.data_dir()?;
        let layout = self.layout()?;
        let member = self.member(&data_dir)?;
        let backups = self.backups()?;
        // etcd's command line and the journal hold these paths as text.
        for (flag, path) in
            [("data-dir", Some(&data_dir)), ("backup-dir", backups.directory.as_ref())]
        {
            path.map_or(Ok(""), |path| utf_8(path.as_os_str(), &format!("--{flag}")))?;
        }
        Ok(Options {
            target: self.target()?,
            bin_dir: self.bin_dir(),
            bundled: self.bundled()?,
            trust: self.trust()?,
            allowed: self.allowed()?,
            backups,
            verify: self.verify()?,
            timeouts: Timeouts {
                start: self.duration("start-timeout", Duration::from_mins(15))?,
                stop: self.duration("stop-timeout", Duration::from_mins(5))?,
            },
            plain_binaries: match self.variable("DO_NOT_MOVE_BINARIES")?.as_deref() {
                Some("true") => PlainBinaries::Leave,
                _ => PlainBinaries::Replace,
            },
            data_dir_mode: self.data_dir_mode()?,
            server_log: if self.arguments.has("show-server-log") {
                ServerLog::Show
            } else {
                ServerLog::OnFailure
            },
            ignored: self.ignored(),
            data_dir,
            layout,
            member,
        })
    }

    /// The text with settings of etcd that `check` looks at, if there is one.
    pub fn settings_text(&self) -> Result<Option<SettingsText>, MigrateError> {
        let path = self.arguments.value("manifest");
        match (path, self.flag("args")?) {
            (Some(_), Some(_)) => Err(MigrateError::usage("either --manifest or --args, not both")),
            (Some(path), None) => Ok(Some(SettingsText::Manifest(path.into()))),
            (None, Some(text)) => Ok(Some(SettingsText::Arguments(text.to_owned()))),
            (None, None) => Ok(None),
        }
    }

    /// The version that is wanted.
    pub fn target_version(&self) -> Result<EtcdVersion, MigrateError> {
        let version = self.require("target-version", "TARGET_VERSION")?;
        version
            .parse()
            .map_err(|error| MigrateError::usage(format_args!("--target-version: {error}")))
    }

    /// The file of the snapshot.
    pub fn snapshot(&self) -> Result<PathBuf, MigrateError> {
        let path = self.arguments.value("snapshot").filter(|path| !path.is_empty());
        path.map(PathBuf::from)
            .ok_or_else(|| MigrateError::usage("the file of a snapshot is missing: --snapshot"))
    }

    /// What `restore` needs to know besides.
    pub fn restore_options(&self) -> Result<RestoreOptions, MigrateError> {
        let snapshot = self.snapshot()?;
        let bump_revision = self.flag("bump-revision")?.map(|text| {
            text.parse().ok().filter(|count| *count > 0).ok_or_else(|| {
                MigrateError::usage(format_args!(
                    "--bump-revision `{text}` is not a number above 0, for example `1000000000`"
                ))
            })
        });
        let stays = self.arguments.has("restore-only");
        Ok(RestoreOptions {
            snapshot,
            bump_revision: bump_revision.transpose()?,
            then: if stays { AfterRestore::Stay } else { AfterRestore::Migrate },
        })
    }

    /// The directory of the programs.
    pub fn bin_dir(&self) -> PathBuf {
        self.arguments.value("bin-dir").unwrap_or(OsStr::new(BIN_DIR)).into()
    }

    /// The data directory, without a trailing slash: `<data-dir>.bak` is then beside the directory
    /// and not inside it.
    pub fn data_dir(&self) -> Result<PathBuf, MigrateError> {
        let path = self.raw("data-dir", "DATA_DIRECTORY");
        let path = path.ok_or_else(|| missing("data-dir", "DATA_DIRECTORY"))?;
        let path: PathBuf = Path::new(&path).components().collect();
        if path.file_name().is_none() {
            return Err(MigrateError::usage(format_args!(
                "--data-dir {} has no name of its own",
                path.display()
            )));
        }
        Ok(path)
    }

    /// The file for the metrics of this run, if one is wanted.
    pub fn metrics_file(&self) -> Option<&Path> {
        self.arguments.value("metrics-file").filter(|path| !path.is_empty()).map(Path::new)
    }

    /// The file for the last error: the one given, or that of Kubernetes if it is there.
    pub fn termination_log(&self) -> Option<&Path> {
        let own = Path::new(TERMINATION_LOG);
        match self.arguments.value("termination-log") {
            Some(path) => Some(Path::new(path)).filter(|path| !path.as_os_str().is_empty()),
            None => Some(own).filter(|own| own.is_file()),
        }
    }

    /// Where the parts of the data directory are.
    pub fn layout(&self) -> Result<DataLayout, MigrateError> {
        let given = self.flag("wal-dir")?.filter(|value| !value.is_empty()).map(str::to_owned);
        let extra = || Ok(etcd_flags::value_of("wal-dir", &self.extra_arguments()?));
        let given = given.map_or_else(extra, |given| Ok(Some(given)))?;
        let given = given.map_or_else(|| self.variable("ETCD_WAL_DIR"), |given| Ok(Some(given)))?;
        let given = given.filter(|value| !value.is_empty()).map(PathBuf::from);
        Ok(DataLayout::of(&self.data_dir()?, given.as_deref()))
    }

    /// The format of the log.
    pub fn log_format(&self) -> Result<OutputFormat, MigrateError> {
        self.format("log-format", "human")
    }

    /// The format of the plan.
    pub fn plan_format(&self) -> Result<OutputFormat, MigrateError> {
        if self.arguments.has("json") {
            return Ok(OutputFormat::Json);
        }
        self.format("plan-format", "text")
    }

    fn format(&self, flag: &str, text: &str) -> Result<OutputFormat, MigrateError> {
        match self.flag(flag)? {
            None => Ok(OutputFormat::Text),
            Some("json") => Ok(OutputFormat::Json),
            Some(value) if value == text => Ok(OutputFormat::Text),
            Some(value) => Err(MigrateError::usage(format_args!(
                "--{flag} is `{text}` or `json`, not `{value}`"
            ))),
        }
    }

    fn name(&self) -> Result<String, MigrateError> {
        if let Some(name) = self.get("name", "ETCD_NAME")? {
            return Ok(name);
        }
        for variable in ["ETCD_HOSTNAME", "HOSTNAME"] {
            if let Some(host) = self.variable(variable)? {
                return Ok(format!("etcd-{host}"));
            }
        }
        Err(MigrateError::usage(
            "defaulting --name failed due to all ETCD_NAME, ETCD_HOSTNAME and HOSTNAME unset",
        ))
    }

    fn port(&self, flag: &str, default: u16) -> Result<Port, MigrateError> {
        match self.flag(flag)? {
            // Zero means "not given", as in the old image.
            None | Some("0") => Ok(Port::Preferred(default)),
            Some(text) => text
                .parse()
                .map(Port::Given)
                .map_err(|_| MigrateError::usage(format_args!("--{flag} `{text}` is not a port"))),
        }
    }

    fn duration(&self, flag: &str, default: Duration) -> Result<Duration, MigrateError> {
        let Some(text) = self.flag(flag)? else { return Ok(default) };
        parse_duration(text).ok_or_else(|| {
            MigrateError::usage(format_args!(
                "--{flag} `{text}` is not a time, for example `90s` or `15m`"
            ))
        })
    }

    fn target(&self) -> Result<VersionPair, MigrateError> {
        let version = self.target_version()?;
        let storage: Storage = self
            .require("target-storage", "TARGET_STORAGE")?
            .parse()
            .map_err(|error| MigrateError::usage(format_args!("--target-storage: {error}")))?;
        Ok(VersionPair { version, storage })
    }

    fn bundled(&self) -> Result<Option<Bundled>, MigrateError> {
        let Some(text) = self.flag("bundled-versions")? else { return Ok(None) };
        let versions = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let versions = versions.map(str::parse).collect::<Result<Vec<EtcdVersion>, _>>();
        let versions = versions.map_err(|error| {
            MigrateError::usage(format_args!("failed to parse --bundled-versions: {error}"))
        })?;
        Ok(Some(Bundled::new(versions)))
    }

    fn member(&self, data_dir: &Path) -> Result<ServerOptions, MigrateError> {
        let name = self.name()?;
        let holds_events = holds_events(data_dir);
        let port = self.port("port", if holds_events { 18631 } else { 18629 })?;
        let preferred_peer_port = self.port("peer-port", if holds_events { 2381 } else { 2380 })?;
        let (Port::Given(peer_port) | Port::Preferred(peer_port)) = preferred_peer_port;
        let listen_peer_urls = self.get("listen-peer-urls", "LISTEN_PEER_URLS")?;
        let is_default =
            listen_peer_urls.is_none() && preferred_peer_port != Port::Given(peer_port);
        let extra_arguments = self.extra_arguments()?;
        let peer_url = format!("http://localhost:{peer_port}");
        let or_peer_url = |value: Option<String>| value.unwrap_or_else(|| peer_url.clone());
        let advertised = self.get("initial-advertise-peer-urls", "INITIAL_ADVERTISE_PEER_URLS")?;
        let initial_cluster = self.get("initial-cluster", "INITIAL_CLUSTER")?;
        Ok(ServerOptions {
            initial_cluster: initial_cluster.unwrap_or_else(|| format!("{name}={peer_url}")),
            initial_cluster_token: self.token(&extra_arguments)?,
            listen_peer_urls: or_peer_url(listen_peer_urls),
            peer_port: is_default.then_some(peer_port),
            initial_advertise_peer_urls: or_peer_url(advertised),
            extra_arguments,
            name,
            port,
        })
    }

    fn extra_arguments(&self) -> Result<Vec<String>, MigrateError> {
        let Some(text) = self.get("etcd-server-extra-args", "ETCD_CREDS")? else {
            return Ok(Vec::new());
        };
        shell_words::split(&text).map_err(|error| {
            MigrateError::usage(format_args!("--etcd-server-extra-args (ETCD_CREDS): {error}"))
        })
    }

    fn token(&self, extra_arguments: &[String]) -> Result<Option<String>, MigrateError> {
        let given = self.get("initial-cluster-token", "INITIAL_CLUSTER_TOKEN")?;
        let given =
            given.or_else(|| etcd_flags::value_of("initial-cluster-token", extra_arguments));
        if given.is_some() { Ok(given) } else { self.variable("ETCD_INITIAL_CLUSTER_TOKEN") }
    }

    fn trust(&self) -> Result<Trust, MigrateError> {
        match self.flag("trust")? {
            None => Ok(Trust::Neither),
            Some("data") => Ok(Trust::Data),
            Some("file") => Ok(Trust::File),
            Some(value) => {
                Err(MigrateError::usage(format_args!("--trust is `data` or `file`, not `{value}`")))
            }
        }
    }

    fn allowed(&self) -> Result<PlanOptions, MigrateError> {
        let downgrades = if self.arguments.has("allow-multi-step-downgrade") {
            Downgrades::SeveralMinors
        } else {
            Downgrades::OneMinor
        };
        let v2_content = match self.get("v2-content", "V2_CONTENT")?.as_deref() {
            None | Some("refuse") => V2Content::Refuse,
            Some("drop") => V2Content::Drop,
            Some("convert") => V2Content::Convert,
            Some(value) => {
                return Err(MigrateError::usage(format_args!(
                    "--v2-content is `refuse`, `drop` or `convert`, not `{value}`"
                )));
            }
        };
        let defrag = if self.arguments.has("defrag") { Defrag::AtTheEnd } else { Defrag::No };
        Ok(PlanOptions { downgrades, v2_content, defrag })
    }

    fn backups(&self) -> Result<Backups, MigrateError> {
        let retain = self.flag("backup-retain")?.unwrap_or("1");
        let retain = retain.parse::<usize>().ok().filter(|count| *count > 0).ok_or_else(|| {
            MigrateError::usage(format_args!("--backup-retain `{retain}` is not a number above 0"))
                .hint("use `--no-backup` to make no backup")
        })?;
        Ok(Backups {
            enabled: !self.arguments.has("no-backup"),
            directory: self.arguments.value("backup-dir").map(PathBuf::from),
            retain,
        })
    }

    fn verify(&self) -> Result<Verify, MigrateError> {
        match self.flag("verify")? {
            None => Ok(Verify::BySize),
            Some("full") => Ok(Verify::Full),
            Some("quick") => Ok(Verify::Quick),
            Some("off") => Ok(Verify::Off),
            Some(value) => Err(MigrateError::usage(format_args!(
                "--verify is `full`, `quick` or `off`, not `{value}`"
            ))),
        }
    }

    fn data_dir_mode(&self) -> Result<Option<u32>, MigrateError> {
        let Some(text) = self.flag("data-dir-mode")? else { return Ok(None) };
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & 0o700 == 0o700);
        mode.filter(|mode| *mode <= 0o777).map(Some).ok_or_else(|| {
            MigrateError::usage(format_args!(
                "--data-dir-mode `{text}` is not a mode such as `0700`"
            ))
        })
    }

    /// Flags of the old image that were given and have no effect here.
    fn ignored(&self) -> Vec<&'static str> {
        let ignored = [
            ("listen-client-urls", "LISTEN_CLIENT_URLS"),
            ("etcd-data-prefix", "ETCD_DATA_PREFIX"),
            ("ttl-keys-directory", "TTL_KEYS_DIRECTORY"),
        ];
        let given = ignored.into_iter().filter(|(flag, name)| self.raw(flag, name).is_some());
        given.map(|(flag, _)| flag).collect()
    }

    fn flag(&self, name: &str) -> Result<Option<&str>, MigrateError> {
        let value = self.arguments.value(name);
        value.map(|value| utf_8(value, &format!("--{name}"))).transpose()
    }

    fn variable(&self, name: &str) -> Result<Option<String>, MigrateError> {
        let value = self.raw_variable(name);
        value.map(|value| utf_8(&value, name).map(str::to_owned)).transpose()
    }

    fn get(&self, flag: &str, variable: &str) -> Result<Option<String>, MigrateError> {
        match self.flag(flag)?.filter(|value| !value.is_empty()) {
            Some(value) => Ok(Some(value.to_owned())),
            None => self.variable(variable),
        }
    }

    fn require(&self, flag: &str, variable: &str) -> Result<String, MigrateError> {
        self.get(flag, variable)?.ok_or_else(|| missing(flag, variable))
    }

    fn raw(&self, flag: &str, variable: &str) -> Option<OsString> {
        let given = self.arguments.value(flag).filter(|value| !value.is_empty());
        given.map(OsStr::to_owned).or_else(|| self.raw_variable(variable))
    }

    /// A variable that is set but empty counts as unset.
    fn raw_variable(&self, name: &str) -> Option<OsString> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }
}

/// In the words of Kubernetes' old image, by which logs are searched.
fn missing(flag: &str, variable: &str) -> MigrateError {
    MigrateError::usage(format_args!("{variable} variable unset - expected failure"))
        .hint(format_args!("give --{flag} or set {variable}"))
}

fn utf_8<'a>(value: &'a OsStr, name: &str) -> Result<&'a str, MigrateError> {
    value.to_str().ok_or_else(|| {
        MigrateError::usage(format_args!("{name} is not UTF-8: {}", value.display()))
    })
}

/// Whether this is the data of the second etcd of a control plane, the one for events, which by
/// convention uses other ports. The old image looked for `event` anywhere in the path and so also
/// found it in `/srv/eventual/data`.
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
    // At most a year, which no clock overflows.
    let total = count.checked_mul(seconds).filter(|total| (1..=31_536_000).contains(total))?;
    Some(Duration::from_secs(total))
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
