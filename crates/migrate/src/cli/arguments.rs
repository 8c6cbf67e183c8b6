//! Splits a command line into flags. Knows the names of the flags and whether they take a value,
//! not what they mean. Values may be any bytes: paths need not be UTF-8.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use lexopt::Arg;

/// Flags that take a value, as `--name value` or `--name=value`.
const VALUED: &[&str] = &[
    "args",
    "manifest",
    "name",
    "port",
    "peer-port",
    "listen-peer-urls",
    "initial-advertise-peer-urls",
    "listen-client-urls",
    "bin-dir",
    "data-dir",
    "wal-dir",
    "bundled-versions",
    "etcd-data-prefix",
    "ttl-keys-directory",
    "initial-cluster",
    "initial-cluster-token",
    "target-version",
    "target-storage",
    "etcd-server-extra-args",
    "plan-format",
    "scratch-dir",
    "snapshot",
    "trust",
    "data-dir-mode",
    "backup-dir",
    "backup-retain",
    "bump-revision",
    "start-timeout",
    "stop-timeout",
    "log-format",
    "metrics-file",
    "termination-log",
    "v2-content",
    "verify",
];

/// Flags without a value; `=true` and `=false` are allowed.
const SWITCHES: &[&str] = &[
    "allow-multi-step-downgrade",
    "defrag",
    "fix",
    "help",
    "json",
    "no-backup",
    "plan",
    "restore-only",
    "show-server-log",
    "version",
];

/// A command line, split into words and flags.
#[derive(Debug, Default)]
pub struct Arguments {
    /// Everything that is neither a flag nor a flag's value, such as `status`.
    pub words: Vec<OsString>,
    values: BTreeMap<&'static str, OsString>,
    switches: Vec<&'static str>,
}

impl Arguments {
    /// Parses a command line without the program's own name. The error is a sentence.
    pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut parser = lexopt::Parser::from_args(line);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Arg::Short('h') => arguments.switches.push("help"),
                Arg::Short(letter) => return Err(format!("unknown flag: -{letter}")),
                Arg::Value(word) => arguments.words.push(word),
                Arg::Long(name) => {
                    if let Some(name) = find(VALUED, name) {
                        let value = parser.value();
                        let value = value.map_err(|_| format!("flag needs a value: --{name}"))?;
                        arguments.set(name, value);
                    } else if let Some(name) = find(SWITCHES, name) {
                        arguments.switch(name, parser.optional_value().as_deref())?;
                    } else {
                        return Err(format!("unknown flag: --{name}"));
                    }
                }
            }
        }
        Ok(arguments)
    }

    /// The last value counts, except that lists of versions are joined, as the old image did.
    fn set(&mut self, name: &'static str, value: OsString) {
        let mut joined = OsString::new();
        if let Some(before) = self.values.remove(name).filter(|_| name == "bundled-versions") {
            joined.push(before);
            joined.push(",");
        }
        joined.push(value);
        self.values.insert(name, joined);
    }

    fn switch(&mut self, name: &'static str, value: Option<&OsStr>) -> Result<(), String> {
        match value.map(OsStr::to_string_lossy).as_deref() {
            None | Some("true") => self.switches.push(name),
            Some("false") => self.switches.retain(|switch| *switch != name),
            Some(value) => return Err(format!("--{name} takes no value, got `{value}`")),
        }
        Ok(())
    }

    /// The value of a flag. The name must be one of `VALUED`.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        debug_assert!(VALUED.contains(&name), "{name}");
        self.values.get(name).map(OsString::as_os_str)
    }

    /// Whether a switch is on. The name must be one of `SWITCHES`.
    pub fn has(&self, name: &str) -> bool {
        debug_assert!(SWITCHES.contains(&name), "{name}");
        self.switches.contains(&name)
    }
}

#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    VALUED.iter().chain(SWITCHES).copied()
}

fn find(names: &[&'static str], name: &str) -> Option<&'static str> {
    names.iter().find(|known| **known == name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn values_come_after_a_space_or_an_equals_sign_and_the_last_one_counts() {
        let arguments = parse("--name a --name=b --port 1 status --plan").unwrap();
        assert_eq!(arguments.value("name"), Some(OsStr::new("b")));
        assert_eq!(arguments.value("port"), Some(OsStr::new("1")));
        assert_eq!(arguments.value("data-dir"), None);
        assert_eq!(arguments.words, ["status"]);
        assert!(arguments.has("plan") && !arguments.has("no-backup"));
    }

    #[test]
    fn a_value_may_hold_equals_signs_and_dashes() {
        let arguments = parse("--initial-cluster=a=http://x:1 --etcd-server-extra-args --x=y");
        let arguments = arguments.unwrap();
        let value = |name| arguments.value(name).unwrap();
        assert_eq!(value("initial-cluster"), "a=http://x:1");
        assert_eq!(value("etcd-server-extra-args"), "--x=y");
    }

    #[test]
    fn the_list_of_versions_adds_up() {
        let arguments =
            parse("--bundled-versions 3.4.27 --bundled-versions=3.5.33,3.6.14").unwrap();
        assert_eq!(arguments.value("bundled-versions").unwrap(), "3.4.27,3.5.33,3.6.14");
    }

    #[test]
    fn a_switch_may_be_spelled_out() {
        assert!(parse("--plan=true").unwrap().has("plan"));
        assert!(!parse("--plan --plan=false").unwrap().has("plan"));
        assert!(parse("-h").unwrap().has("help"));
    }

    #[test]
    fn two_dashes_end_the_flags() {
        assert_eq!(parse("--plan -- --help").unwrap().words, ["--help"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStringExt;

        let path = OsString::from_vec(b"/data-\xff".to_vec());
        let mut joined = OsString::from("--data-dir=");
        joined.push(&path);
        let spaced = [OsString::from("--data-dir"), path.clone()];
        for line in [vec![joined], spaced.to_vec()] {
            assert_eq!(Arguments::parse(line).unwrap().value("data-dir"), Some(&*path));
        }
    }

    #[test]
    fn everything_unknown_is_refused() {
        for (line, expected) in [
            ("--no-such-flag", "unknown flag: --no-such-flag"),
            ("--no-such-flag=1", "unknown flag: --no-such-flag"),
            ("-v", "unknown flag: -v"),
            ("--name", "flag needs a value: --name"),
            ("--plan=maybe", "--plan takes no value, got `maybe`"),
        ] {
            assert_eq!(parse(line).unwrap_err(), expected);
        }
    }
}
