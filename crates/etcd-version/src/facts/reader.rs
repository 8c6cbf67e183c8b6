//! Reads `etcd-versions.json`. Unknown keys are left alone, so that an older program can read a
//! newer table; a key that is missing or has another type is an error that names its place.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::{
    ALL_PROGRAMS, BetweenVersions, EvidenceFacts, Facts, Flag, FlagKind, Floor, MinorChange,
    RaftSnapshots, Replacement, ReplayLimits, SeriesFacts,
};
use crate::{EtcdVersion, Series};

/// The shape that this program reads.
const SCHEMA_VERSION: u64 = 1;

/// What is wrong with the table, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactsError {
    /// For example `flags[3].until`.
    pub at: String,
    pub problem: String,
}

impl fmt::Display for FactsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd-versions.json, {}: {}", self.at, self.problem)
    }
}

impl std::error::Error for FactsError {}

pub(super) fn read(text: &str) -> Result<Facts, FactsError> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| FactsError { at: "the text".to_owned(), problem: error.to_string() })?;
    let root = JsonNode { value: &value, at: String::new() };
    let schema = root.get("schemaVersion")?;
    if schema.value.as_u64() != Some(SCHEMA_VERSION) {
        return Err(schema.error(format!("this program reads version {SCHEMA_VERSION} only")));
    }
    let series = root.rows("series", series)?;
    if series.is_empty() || !series.is_sorted_by(|a, b| a.since < b.since) {
        return Err(root.get("series")?.error("the rows are not in ascending order".to_owned()));
    }
    Ok(Facts {
        series,
        replay: replay(&root)?,
        evidence: evidence(&root)?,
        floors: root.rows("floors", floor)?,
        flags: root.rows("flags", flag)?,
    })
}

fn series(row: &JsonNode<'_>) -> Result<SeriesFacts, FactsError> {
    let packages = row.get("packages")?;
    let names = packages.value.as_object().ok_or_else(|| packages.error("no object".to_owned()))?;
    let names = names.keys().map(|name| Ok((name.clone(), packages.text(name)?.to_owned())));
    let program = |node: &JsonNode<'_>| {
        let name = node.as_text()?;
        let known = ALL_PROGRAMS.iter().find(|known| **known == name);
        known.copied().ok_or_else(|| node.error(format!("`{name}` is no program of etcd")))
    };
    Ok(SeriesFacts {
        since: row.parsed("since")?,
        programs: row.rows("programs", program)?,
        packages: names.collect::<Result<_, _>>()?,
        strip: row.text("strip")?.to_owned(),
        architectures: row.rows("architectures", |node| node.as_text().map(str::to_owned))?,
        has_storage_version: row.flag("storageVersion")?,
        downgrade_in_place: row.flag("downgradeInPlace")?,
        downgrade_by_snapshot: row.flag("downgradeBySnapshot")?,
        raft_snapshots: raft_snapshots(&row.get("raftSnapshots")?)?,
    })
}

fn raft_snapshots(node: &JsonNode<'_>) -> Result<RaftSnapshots, FactsError> {
    match node.as_text()? {
        "files" => Ok(RaftSnapshots::Files),
        "log" => Ok(RaftSnapshots::Log),
        other => Err(node.error(format!("`{other}` is neither `files` nor `log`"))),
    }
}

/// Both kinds of requests must have a limit: without it, `migrate` would take such a request for
/// one that every version can replay.
fn replay(root: &JsonNode<'_>) -> Result<ReplayLimits, FactsError> {
    let rows = root.rows("replay", |row| Ok((row.text("requests")?, row.parsed("until")?)))?;
    let until = |requests: &str| {
        let row = rows.iter().find(|(name, _)| *name == requests);
        row.map(|(_, until)| *until)
            .ok_or_else(|| root.error(format!("`replay` has no row for the requests `{requests}`")))
    };
    Ok(ReplayLimits { v2: until("v2")?, converted: until("converted")? })
}

fn evidence(root: &JsonNode<'_>) -> Result<EvidenceFacts, FactsError> {
    let rows = root.rows("evidence", |row| {
        let kind = row.text("in")?;
        Ok((kind, row.parsed(if kind == "term" { "since" } else { "version" })?))
    })?;
    let version = |kind: &str| {
        let row = rows.iter().find(|(name, _)| *name == kind);
        row.map(|(_, version)| *version)
            .ok_or_else(|| root.error(format!("`evidence` has no row for `{kind}`")))
    };
    Ok(EvidenceFacts { term_since: version("term")?, undecided: version("undecided")? })
}

fn floor(row: &JsonNode<'_>) -> Result<Floor, FactsError> {
    let change = match row.optional("before") {
        Some(_) => MinorChange::UpTo(row.parsed("before")?),
        None => MinorChange::DownFrom(row.parsed("after")?),
    };
    let version = |key| row.optional(key).map(|_| row.parsed::<EtcdVersion>(key)).transpose();
    Ok(Floor {
        minor: row.parsed("minor")?,
        change,
        required: version("required")?,
        wanted: version("wanted")?,
        reason: row.text("reason")?.to_owned(),
        source: row.text("source")?.to_owned(),
    })
}

fn flag(row: &JsonNode<'_>) -> Result<Flag, FactsError> {
    let series = |key| row.optional(key).map(|_| row.parsed::<Series>(key)).transpose();
    let text = |key| row.optional(key).map(|_| row.text(key).map(str::to_owned)).transpose();
    Ok(Flag {
        name: row.text("name")?.to_owned(),
        kind: kind(&row.get("kind")?)?,
        since: series("since")?,
        until: series("until")?,
        replacement: replacement(row)?,
        between: match (text("leftOut")?, text("refused")?) {
            (None, None) => BetweenVersions::Kept,
            (Some(reason), None) => BetweenVersions::LeftOut(reason),
            (None, Some(reason)) => BetweenVersions::Refused(reason),
            (Some(_), Some(_)) => return Err(row.error("both left out and refused".to_owned())),
        },
        sample: text("sample")?,
        reason: text("reason")?,
        source: text("source")?,
    })
}

fn kind(node: &JsonNode<'_>) -> Result<FlagKind, FactsError> {
    Ok(match node.as_text()? {
        "bool" => FlagKind::Bool,
        "duration" => FlagKind::Duration,
        "gates" => FlagKind::Gates,
        "integer" => FlagKind::Integer,
        "text" => FlagKind::Text,
        "urls" => FlagKind::Urls,
        "word" => FlagKind::Word,
        other => return Err(node.error(format!("`{other}` is no kind of value"))),
    })
}

fn replacement(row: &JsonNode<'_>) -> Result<Option<Replacement>, FactsError> {
    if let Some(instead) = row.optional("instead") {
        let text = |key| instead.text(key).map(str::to_owned);
        let (name, value, when) = (text("name")?, text("value")?, text("when")?);
        return Ok(Some(Replacement::Instead { name, value, when }));
    }
    if row.optional("gate").is_some() {
        return Ok(Some(Replacement::Gate(row.text("gate")?.to_owned())));
    }
    let twin = row.optional("twin").map(|twin| twin.as_text().map(str::to_owned)).transpose()?;
    Ok(twin.map(Replacement::Twin))
}

/// A value of the document, and its place for errors.
struct JsonNode<'a> {
    value: &'a Value,
    at: String,
}

impl<'a> JsonNode<'a> {
    fn error(&self, problem: String) -> FactsError {
        let at = if self.at.is_empty() { "the table" } else { &self.at };
        FactsError { at: at.to_owned(), problem }
    }

    fn optional(&self, key: &str) -> Option<JsonNode<'a>> {
        let dot = if self.at.is_empty() { "" } else { "." };
        let at = format!("{}{dot}{key}", self.at);
        self.value.get(key).map(|value| JsonNode { value, at })
    }

    fn get(&self, key: &str) -> Result<JsonNode<'a>, FactsError> {
        self.optional(key).ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    fn as_text(&self) -> Result<&'a str, FactsError> {
        self.value.as_str().ok_or_else(|| self.error("no text".to_owned()))
    }

    fn text(&self, key: &str) -> Result<&'a str, FactsError> {
        self.get(key)?.as_text()
    }

    fn flag(&self, key: &str) -> Result<bool, FactsError> {
        let node = self.get(key)?;
        node.value.as_bool().ok_or_else(|| node.error("neither true nor false".to_owned()))
    }

    fn parsed<T: FromStr>(&self, key: &str) -> Result<T, FactsError>
    where
        T::Err: fmt::Display,
    {
        let node = self.get(key)?;
        node.as_text()?.parse().map_err(|error: T::Err| node.error(error.to_string()))
    }

    fn rows<T>(
        &self,
        key: &str,
        read: impl Fn(&JsonNode<'a>) -> Result<T, FactsError>,
    ) -> Result<Vec<T>, FactsError> {
        let list = self.get(key)?;
        let rows = list.value.as_array().ok_or_else(|| list.error("no list".to_owned()))?;
        let rows = rows.iter().enumerate();
        rows.map(|(i, value)| read(&JsonNode { value, at: format!("{}[{i}]", list.at) })).collect()
    }
}
