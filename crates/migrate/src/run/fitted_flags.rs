//! Fits the settings of an operator to a version of etcd: each server gets what it knows, in its
//! own spelling. What it cannot get is left out, with a reason.
//!
//! Pure: the table of `etcd-version` knows the flags, this file only applies it.

use std::collections::BTreeMap;

use etcd_version::facts::{BetweenVersions, Flag};
use etcd_version::{Facts, Series};

use crate::cli::etcd_flags;
use crate::plan::spelling::{
    GATES, Spelling, flag_of_gate, flag_of_variable, other_spelling, unknown,
};

/// Settings for one version.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FittedFlags {
    /// Name, without dashes, and value, in the order in which they were given.
    pub flags: Vec<(String, String)>,
    /// What is no flag.
    pub words: Vec<String>,
    pub left_out: Vec<LeftOutFlag>,
}

/// A setting that a server does without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOutFlag {
    pub name: String,
    pub reason: String,
}

/// Fits arguments to a version.
pub fn arguments(arguments: &[String], series: Series) -> FittedFlags {
    let (settings, words) = split(arguments);
    FittedFlags { words, ..fit(settings, series) }
}

/// Fits environment variables to a version. Those that set no flag are not among the result.
pub fn variables(
    variables: impl IntoIterator<Item = (String, String)>,
    series: Series,
) -> FittedFlags {
    let flag =
        |(name, value): (String, String)| Some((flag_of_variable(&name)?.name.clone(), value));
    fit(variables.into_iter().filter_map(flag).collect(), series)
}

/// The first argument that makes a migration impossible, and why.
pub fn refused(arguments: &[String]) -> Option<(String, &'static str)> {
    let (settings, _) = split(arguments);
    settings.into_iter().find_map(|(name, _)| match &Facts::current().flag(&name)?.between {
        BetweenVersions::Refused(reason) => Some((name, reason.as_str())),
        BetweenVersions::Kept | BetweenVersions::LeftOut(_) => None,
    })
}

/// Flags with their values, and the words between them. Go takes the next word for the value of
/// every flag that is not a boolean.
fn split(arguments: &[String]) -> (Vec<(String, String)>, Vec<String>) {
    let mut settings = Vec::new();
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some((name, value)) = etcd_flags::parse(argument) else {
            words.push(argument.clone());
            continue;
        };
        let is_boolean = Facts::current().flag(name).is_some_and(Flag::is_boolean);
        let value = match value {
            Some(value) => value.to_owned(),
            None if is_boolean => "true".to_owned(),
            None => rest.next().cloned().unwrap_or_default(),
        };
        settings.push((name.to_owned(), value));
    }
    (settings, words)
}

fn fit(settings: Vec<(String, String)>, series: Series) -> FittedFlags {
    let facts = Facts::current();
    let given: Vec<_> = settings.iter().map(|(name, _)| name.clone()).collect();
    let mut fitted = FittedFlags::default();
    let mut gates = BTreeMap::new();
    for (name, value) in settings {
        let leave_out =
            |reason: &str| LeftOutFlag { name: name.clone(), reason: reason.to_owned() };
        let Some(flag) = facts.flag(&name) else {
            fitted.left_out.push(leave_out("no known version of etcd has this flag"));
            continue;
        };
        if let BetweenVersions::LeftOut(reason) | BetweenVersions::Refused(reason) = &flag.between {
            fitted.left_out.push(leave_out(reason));
            continue;
        }
        if name == GATES {
            fit_gates(&value, series, &mut gates, &mut fitted);
            continue;
        }
        match (other_spelling(flag, series), flag.is_known_to(series)) {
            (Some(Spelling::Gate(gate)), _) => drop(gates.insert(gate.to_owned(), value)),
            // Two spellings of one setting are an error for a version that knows both.
            (Some(Spelling::Flag(twin)), true) if given.iter().any(|it| it == twin) => {}
            (_, true) => fitted.flags.push((name, value)),
            (Some(Spelling::Flag(twin)), false) => fitted.flags.push((twin.to_owned(), value)),
            (None, false) => fitted.left_out.push(leave_out(&unknown(flag, series))),
        }
    }
    if !gates.is_empty() {
        let list: Vec<_> = gates.iter().map(|(gate, value)| format!("{gate}={value}")).collect();
        fitted.flags.push((GATES.to_owned(), list.join(",")));
    }
    fitted
}

/// A version without feature gates has a flag for some of them.
fn fit_gates(
    list: &str,
    series: Series,
    gates: &mut BTreeMap<String, String>,
    fitted: &mut FittedFlags,
) {
    let facts = Facts::current();
    let has_gates = facts.flag(GATES).is_some_and(|flag| flag.is_known_to(series));
    for (gate, value) in list.split(',').filter_map(|entry| entry.trim().split_once('=')) {
        if has_gates {
            gates.insert(gate.to_owned(), value.to_owned());
            continue;
        }
        match flag_of_gate(gate, series) {
            Some(flag) => fitted.flags.push((flag.name.clone(), value.to_owned())),
            None => fitted.left_out.push(LeftOutFlag {
                name: format!("{GATES}={gate}"),
                reason: format!("etcd {series} has no such feature gate"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(series: &str, extra: &str, expected: &str, left_out: &[&str]) {
        let words: Vec<_> = extra.split_whitespace().map(str::to_owned).collect();
        let fitted = arguments(&words, series.parse().unwrap());
        let flags: Vec<_> =
            fitted.flags.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        assert_eq!([&flags[..], &fitted.words].concat().join(" "), expected, "{series}");
        let names: Vec<_> = fitted.left_out.iter().map(|flag| flag.name.as_str()).collect();
        assert_eq!(names, left_out, "{series}");
    }

    #[test]
    fn what_a_version_knows_is_kept() {
        check("3.4", "--max-wals 5 -pre-vote word", "--max-wals=5 --pre-vote=true word", &[]);
        check(
            "3.7",
            "--pre-vote=false --peer-cert-file /x=y",
            "--pre-vote=false --peer-cert-file=/x=y",
            &[],
        );
    }

    #[test]
    fn a_setting_is_spelled_as_the_version_spells_it() {
        let [old, new] = [
            "--experimental-watch-progress-notify-interval=5s",
            "--watch-progress-notify-interval=5s",
        ];
        check("3.5", old, old, &[]);
        check("3.5", new, old, &[]);
        check("3.6", old, old, &[]);
        check("3.6", new, new, &[]);
        check("3.7", old, new, &[]);
        check("3.6", &format!("{old} {new}"), new, &[]);
        check("3.4", new, old, &[]);
    }

    #[test]
    fn gates_and_experimental_flags_say_the_same() {
        let [flag, gate] = [
            "--experimental-initial-corrupt-check=true",
            "--feature-gates=InitialCorruptCheck=true",
        ];
        check("3.5", flag, flag, &[]);
        check("3.5", gate, flag, &[]);
        for series in ["3.6", "3.7"] {
            check(series, flag, gate, &[]);
            check(series, gate, gate, &[]);
            // Both together are an error for etcd 3.6.
            check(series, &format!("{flag} {gate}"), gate, &[]);
        }
        check("3.5", "--feature-gates=NoSuchGate=true", "", &["feature-gates=NoSuchGate"]);
    }

    #[test]
    fn what_a_version_does_not_know_is_left_out_with_a_reason() {
        check("3.5", "--max-learners=2", "", &["max-learners"]);
        check("3.7", "--no-such-flag=1 --max-wals=5", "--max-wals=5", &["no-such-flag"]);
        let reasons = |extra: &str, series: &str| {
            let fitted = arguments(&[extra.to_owned()], series.parse().unwrap());
            fitted.left_out[0].reason.clone()
        };
        assert_eq!(reasons("--max-learners=2", "3.5"), "only etcd 3.6 and later know it");
        assert!(reasons("--quota-backend-bytes=8", "3.5").contains("no quota"));
    }

    #[test]
    fn variables_are_fitted_like_flags() {
        let all = [("ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", "true"), ("ETCD_MAX_WALS", "5")];
        let more = [("ETCD_FEATURE_GATES", "InitialCorruptCheck=true"), ("PATH", "/bin")];
        let all = all.into_iter().chain(more).map(|(name, value)| (name.into(), value.into()));
        let fitted = variables(all, "3.6".parse().unwrap());
        let expected = [("max-wals", "5"), ("feature-gates", "InitialCorruptCheck=true")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fitted, FittedFlags { flags: expected.to_vec(), ..FittedFlags::default() });
    }

    #[test]
    fn what_would_move_data_or_change_the_cluster_is_refused() {
        let name = |extra: &str| {
            let words: Vec<_> = extra.split_whitespace().map(str::to_owned).collect();
            refused(&words).map(|(name, _)| name)
        };
        assert_eq!(name("--max-wals 5 --force-new-cluster").as_deref(), Some("force-new-cluster"));
        assert_eq!(name("-data-dir /x").as_deref(), Some("data-dir"));
        assert_eq!(name("--name --data-dir"), None);
    }
}
