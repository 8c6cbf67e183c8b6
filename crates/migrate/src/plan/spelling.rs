//! How versions of etcd write one and the same setting.

use etcd_version::facts::{Flag, Replacement};
use etcd_version::{Facts, Series};

/// The flag with a list of features.
pub const GATES: &str = "feature-gates";

/// Another way to write a setting.
pub enum Spelling<'a> {
    /// A flag with the same value.
    Flag(&'a str),
    /// A feature of `GATES`.
    Gate(&'a str),
}

/// How a version writes the same setting, if it has another way.
pub fn other_spelling(flag: &Flag, series: Series) -> Option<Spelling<'_>> {
    let facts = Facts::current();
    let is_known = |name: &str| facts.flag(name).is_some_and(|flag| flag.is_known_to(series));
    match &flag.replacement {
        Some(Replacement::Twin(twin)) if is_known(twin) => return Some(Spelling::Flag(twin)),
        Some(Replacement::Gate(gate)) if is_known(GATES) => return Some(Spelling::Gate(gate)),
        _ => {}
    }
    // The other way round: a new spelling for an old version.
    let is_twin = |old: &&Flag| {
        old.is_known_to(series)
            && matches!(&old.replacement, Some(Replacement::Twin(twin)) if *twin == flag.name)
    };
    let old = facts.flags().iter().find(is_twin).filter(|_| !flag.is_known_to(series))?;
    Some(Spelling::Flag(&old.name))
}

/// The flag by which a version without feature gates writes a feature.
pub fn flag_of_gate(gate: &str, series: Series) -> Option<&'static Flag> {
    let is_same = |flag: &&Flag| {
        flag.is_known_to(series)
            && matches!(&flag.replacement, Some(Replacement::Gate(name)) if name == gate)
    };
    Facts::current().flags().iter().find(is_same)
}

/// The variable that sets a flag: `ETCD_` and its name in capitals.
pub fn variable_of(flag: &str) -> String {
    format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// The flag that a variable sets.
pub fn flag_of_variable(variable: &str) -> Option<&'static Flag> {
    let name = variable.strip_prefix("ETCD_").filter(|name| *name == name.to_ascii_uppercase())?;
    Facts::current().flag(&name.to_ascii_lowercase().replace('_', "-"))
}

/// Why a version does not know a flag.
pub fn unknown(flag: &Flag, series: Series) -> String {
    let range = match (flag.since, flag.until) {
        (Some(since), _) if series < since => format!("only etcd {since} and later know it"),
        (_, Some(until)) => format!("only etcd {until} and older know it"),
        _ => format!("etcd {series} does not know it"),
    };
    match &flag.reason {
        Some(reason) => format!("{range}: {reason}"),
        None => range,
    }
}
