//! Reads the data of a member: its database `member/snap/db`, and its log as far as it says more.
//!
//! Starts nothing and changes nothing.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use etcd_version::facts::Requests;
use etcd_version::{Facts, Series};
use serde_json::Value;

use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::bolt::{self, Database};
use crate::inspect::layout::DataLayout;
use crate::inspect::log::{self, LogContents};
pub use crate::inspect::member::Member;
use crate::inspect::protobuf;
use crate::inspect::v2_store::V2Contents;

/// What `member/snap/db` says about itself and its cluster. `None` means that it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberData {
    /// The version that all members of the cluster have agreed on.
    pub cluster_version: Option<Series>,
    /// Written from etcd 3.6 on.
    pub storage_version: Option<Series>,
    /// The term of the last applied entry; written from etcd 3.5 on.
    pub term: Option<u64>,
    /// The raft index of the last applied entry.
    pub consistent_index: Option<u64>,
    pub has_conf_state: bool,
    pub members: Vec<Member>,
    /// Whether authentication is enabled.
    pub needs_credentials: bool,
    /// The target of a downgrade that was enabled and has not ended.
    pub downgrade_to: Option<Series>,
    /// Those that members have raised and nobody has disarmed.
    pub alarms: Vec<Alarm>,
    pub db_bytes: u64,
    /// Whether a client has ever written a key.
    pub has_keys: bool,
    pub log: LogContents,
    /// What clients of the v2 API have stored. Not read where no server would use it.
    pub v2: V2Contents,
}

/// An alarm of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The database is as large as its quota allows: puts are refused.
    NoSpace,
    /// The data of a member differs from that of the others: all requests are refused.
    Corrupt,
}

impl MemberData {
    /// The member of a cluster of one, if it has a name and URLs.
    pub fn only_member(&self) -> Option<&Member> {
        let [member] = &self.members[..] else { return None };
        let is_known = !member.name.is_empty() && !member.peer_urls.is_empty();
        is_known.then_some(member)
    }

    /// Whether no etcd has stored anything in the database: a first start that failed leaves such
    /// a database behind.
    pub fn is_unused(&self) -> bool {
        self.members.is_empty() && !self.has_keys
    }

    /// The minor version of the data after a server has replayed the log; `None` if the data does
    /// not say.
    pub fn series(&self) -> Option<Series> {
        self.agreed_in_log().or(self.db_series())
    }

    /// The version that the cluster has agreed on, if only the log says so: a server was killed
    /// before it had written the database.
    fn agreed_in_log(&self) -> Option<Series> {
        let agreed = self.log.cluster_version_after(self.consistent_index.unwrap_or(0))?;
        // A downgrade has not ended before the storage version is down, too.
        (is_decided(agreed) && Some(agreed) != self.db_series())
            .then_some(agreed.max(self.storage_version.unwrap_or(agreed)))
    }

    /// The minor version of the database alone.
    pub fn db_series(&self) -> Option<Series> {
        let decided = self.cluster_version.filter(|series| is_decided(*series));
        // A downgrade lowers the cluster version before the storage version; until both are down
        // only the newer etcd can open the data.
        let newest = decided.max(self.storage_version);
        // etcd's own rule for data without either.
        let has_term = self.term.is_some_and(|term| term > 0);
        newest.or(has_term.then_some(Facts::current().evidence.term_since))
    }
}

/// Whether a cluster version says something about the data.
fn is_decided(cluster_version: Series) -> bool {
    cluster_version > Facts::current().evidence.undecided
}

/// Reads a database and its log.
pub fn read(layout: &DataLayout) -> Result<MemberData, MigrateError> {
    let db = layout.db();
    let mut data = read_db(&db)?;
    let unreadable = |error| MigrateError::file("read the log in", &layout.wal, &error);
    data.log = log::read(&layout.wal, &layout.snap, data.db_series()).map_err(unreadable)?;
    refuse_older_than_log(&data, &db)?;
    let last_with_v2 = Facts::current().replayed_until(Requests::V2);
    if data.series().is_none_or(|series| series <= last_with_v2) {
        let store = data.log.v2_store().ok_or_else(|| {
            let what = "the newest raft snapshot does not hold what etcd writes into it";
            MigrateError::new(MigrateErrorKind::NotMigratable, what)
                .hint("restore a copy or a snapshot")
        })?;
        data.v2 = store.contents();
        // Up to this version a server takes its members from there, and the database may name
        // others as well: those of the cluster that a snapshot was taken of.
        let members = store.members();
        if !members.is_empty() {
            data.members =
                members.into_iter().map(|(id, member)| data.log.with_name(id, member)).collect();
        }
    }
    Ok(data)
}

/// An error if the database lacks entries that are no longer in the log: the server would panic.
fn refuse_older_than_log(data: &MemberData, db: &Path) -> Result<(), MigrateError> {
    let (Some(applied), Some(snapshot)) = (data.consistent_index, data.log.snapshot) else {
        return Ok(());
    };
    // A database that came from another member, and is moved into place at the next start.
    let received = db.with_file_name(format!("{:016x}.snap.db", snapshot.index));
    if applied >= snapshot.index || received.exists() {
        return Ok(());
    }
    let what = format_args!(
        "{} ends at entry {applied} of the log, but the log begins only after entry {}, where the \
         newest raft snapshot is",
        db.display(),
        snapshot.index
    );
    Err(MigrateError::new(MigrateErrorKind::NotMigratable, what)
        .hint("it is an older database than the one that the log belongs to; put that one back")
        .hint("or restore a snapshot or a copy of the whole directory"))
}

/// The database alone.
pub fn read_db(path: &Path) -> Result<MemberData, MigrateError> {
    let file = File::open(path).map_err(|error| MigrateError::file("open", path, &error))?;
    Database::open(BufReader::new(file)).and_then(|mut database| read_data(&mut database)).map_err(
        |error| {
            MigrateError::new(
                MigrateErrorKind::NotMigratable,
                format_args!("cannot read {}: {error}", path.display()),
            )
            .hint("no etcd could open it either; restore a backup or a snapshot")
        },
    )
}

fn read_data<R: io::Read + io::Seek>(
    database: &mut Database<R>,
) -> Result<MemberData, bolt::Error> {
    let mut data = MemberData { db_bytes: database.size_bytes(), ..MemberData::default() };
    if let Some(cluster) = database.bucket("cluster")? {
        data.cluster_version = series(database.get(&cluster, "clusterVersion")?);
        data.downgrade_to = database.get(&cluster, "downgrade")?.as_deref().and_then(downgrade);
    }
    if let Some(meta) = database.bucket("meta")? {
        data.storage_version = series(database.get(&meta, "storageVersion")?);
        data.term = number(database.get(&meta, "term")?);
        data.consistent_index = number(database.get(&meta, "consistent_index")?);
        data.has_conf_state = database.get(&meta, "confState")?.is_some();
    }
    if let Some(members) = database.bucket("members")? {
        database.each(&members, &mut |_, value| {
            data.members.push(Member::from_json(value));
        })?;
    }
    if let Some(keys) = database.bucket("key")? {
        data.has_keys = !database.is_empty(&keys)?;
    }
    if let Some(alarms) = database.bucket("alarm")? {
        // The key is an `AlarmMember`, the value is empty.
        database.each(&alarms, &mut |key, _| {
            data.alarms.extend(alarm(key));
        })?;
    }
    if let Some(auth) = database.bucket("auth")? {
        let enabled = database.get(&auth, "authEnabled")?;
        data.needs_credentials = enabled.is_some_and(|value| value == [1]);
    }
    Ok(data)
}

fn alarm(key: &[u8]) -> Option<Alarm> {
    match protobuf::number(key, 2) {
        1 => Some(Alarm::NoSpace),
        2 => Some(Alarm::Corrupt),
        _ => None,
    }
}

/// A downgrade as etcd stores it: `{"target-version":"3.6.0","enabled":true}`.
fn downgrade(json: &[u8]) -> Option<Series> {
    let value: Value = serde_json::from_slice(json).ok()?;
    if value["enabled"] != true {
        return None;
    }
    value["target-version"].as_str()?.parse().ok()
}

fn series(value: Option<Vec<u8>>) -> Option<Series> {
    String::from_utf8(value?).ok()?.parse().ok()
}

/// etcd writes these big-endian on every machine.
fn number(value: Option<Vec<u8>>) -> Option<u64> {
    Some(u64::from_be_bytes(value?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_enabled_downgrade_counts() {
        let to = |json: &str| downgrade(json.as_bytes()).map(|series| series.to_string());
        assert_eq!(to(r#"{"target-version":"3.6.0","enabled":true}"#).as_deref(), Some("3.6"));
        assert_eq!(
            to(r#"{ "enabled" : true, "target-version" : "3.6.0" }"#).as_deref(),
            Some("3.6")
        );
        for json in [
            r#"{"target-version":"3.6.0","enabled":false}"#,
            r#"{"target-version":"3.6.0"}"#,
            "",
            "{",
        ] {
            assert_eq!(to(json), None, "{json}");
        }
    }

    #[test]
    fn the_log_says_more_than_a_database_that_a_killed_server_has_not_written() {
        let [v3_5, v3_6, v3_7] = [5, 6, 7].map(|minor| Some(Series::new(3, minor)));
        for (db, storage, log, expected) in [
            (v3_5, None, None, v3_5),
            (v3_5, None, v3_6, v3_6),
            (v3_6, v3_6, v3_7, v3_7),
            (v3_6, v3_6, v3_6, v3_6),
            // A downgrade lowers the storage version last.
            (v3_7, v3_7, v3_6, v3_7),
            (v3_5, None, Some(Facts::current().evidence.undecided), v3_5),
        ] {
            let data = MemberData {
                cluster_version: db,
                storage_version: storage,
                consistent_index: Some(7),
                log: LogContents::agreed(log.map(|series| (8, series))),
                ..MemberData::default()
            };
            assert_eq!(data.series(), expected, "{db:?} {storage:?} {log:?}");
            let older = LogContents::agreed(log.map(|series| (7, series)));
            assert_eq!(MemberData { log: older, ..data.clone() }.series(), data.db_series());
        }
    }
}
