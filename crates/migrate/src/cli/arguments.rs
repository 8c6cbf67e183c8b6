//! Splits a command line into flags. Knows their names and shapes, not what they mean.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Flags that take a value, as `--name value` or `--name=value`.
const VALUED: &[&str] = &[
    "name",
    "port",
    "peer-port",
    "listen-peer-urls",
    "initial-advertise-peer-urls",
    "listen-client-urls",
    "bin-dir",
    "data-dir",
    "bundled-versions",
    "etcd-data-prefix",
    "ttl-keys-directory",
    "initial-cluster",
    "initial-cluster-token",
    "target-version",
    "target-storage",
    "etcd-server-extra-args",
    "plan-format",
    "trust",
    "data-dir-mode",
    "backup-dir",
    "backup-retain",
    "start-timeout",
    "stop-timeout",
    "log-format",
];

/// Flags that are there or not.
const SWITCHES: &[&str] = &[
    "allow-multi-step-downgrade",
    "help",
    "json",
    "no-backup",
    "plan",
    "show-server-log",
    "version",
];

#[derive(Debug, Default)]
pub struct Arguments {
    pub words: Vec<String>,
    values: BTreeMap<&'static str, String>,
    switches: Vec<&'static str>,
}

impl Arguments {
    pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut line = line.into_iter().map(|word| {
            word.into_string().map_err(|word| format!("{} is not UTF-8", word.display()))
        });
        while let Some(word) = line.next() {
            let word = word?;
            if word == "-h" {
                arguments.switches.push("help");
                continue;
            }
            let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
                if word.starts_with('-') {
                    return Err(format!("unknown flag: {word}"));
                }
                arguments.words.push(word);
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if let Some(name) = find(VALUED, name) {
                let value = match value {
                    Some(value) => value,
                    None => line.next().ok_or(format!("flag needs a value: --{name}"))??,
                };
                arguments.set(name, value);
            } else if let Some(name) = find(SWITCHES, name) {
                match value.as_deref() {
                    None | Some("true") => arguments.switches.push(name),
                    Some("false") => arguments.switches.retain(|switch| *switch != name),
                    Some(value) => return Err(format!("--{name} takes no value, got `{value}`")),
                }
            } else {
                return Err(format!("unknown flag: --{name}"));
            }
        }
        Ok(arguments)
    }

    /// The last one counts; only the list of versions adds up, as it always did.
    fn set(&mut self, name: &'static str, value: String) {
        let value = match self.values.remove(name) {
            Some(before) if name == "bundled-versions" => format!("{before},{value}"),
            _ => value,
        };
        self.values.insert(name, value);
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        debug_assert!(VALUED.contains(&name), "{name}");
        self.values.get(name).map(String::as_str)
    }

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
        assert_eq!(arguments.value("name"), Some("b"));
        assert_eq!(arguments.value("port"), Some("1"));
        assert_eq!(arguments.value("data-dir"), None);
        assert_eq!(arguments.words, ["status"]);
        assert!(arguments.has("plan") && !arguments.has("no-backup"));
    }

    #[test]
    fn a_value_may_hold_equals_signs_and_dashes() {
        let arguments = parse("--initial-cluster=a=http://x:1 --etcd-server-extra-args --x=y");
        let arguments = arguments.unwrap();
        assert_eq!(arguments.value("initial-cluster"), Some("a=http://x:1"));
        assert_eq!(arguments.value("etcd-server-extra-args"), Some("--x=y"));
    }

    #[test]
    fn the_list_of_versions_adds_up() {
        let arguments =
            parse("--bundled-versions 3.4.27 --bundled-versions=3.5.33,3.6.14").unwrap();
        assert_eq!(arguments.value("bundled-versions"), Some("3.4.27,3.5.33,3.6.14"));
    }

    #[test]
    fn a_switch_may_be_spelled_out() {
        assert!(parse("--plan=true").unwrap().has("plan"));
        assert!(!parse("--plan --plan=false").unwrap().has("plan"));
        assert!(parse("-h").unwrap().has("help"));
    }

    #[test]
    fn everything_unknown_is_refused() {
        for (line, expected) in [
            ("--no-such-flag", "unknown flag: --no-such-flag"),
            ("--no-such-flag=1", "unknown flag: --no-such-flag"),
            ("-v", "unknown flag: -v"),
            ("--", "unknown flag: --"),
            ("--name", "flag needs a value: --name"),
            ("--plan=maybe", "--plan takes no value, got `maybe`"),
        ] {
            assert_eq!(parse(line).unwrap_err(), expected);
        }
    }
}
