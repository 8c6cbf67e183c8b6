//! Prints a status as text or JSON.

use etcd_version::facts::Requests;
use etcd_version::{Facts, Series};

use std::fmt::Display;

use crate::inspect::contents::Contents;
use crate::inspect::current_version;
use crate::inspect::current_version::Trust;
use crate::inspect::data_dir::DataDirContents;
use crate::inspect::member_data::{Member, MemberData};
use crate::report::Report;
use crate::report::json::{Json, SCHEMA_VERSION};
use crate::report::plan_text;
use crate::report::status::{BackupCopy, Status, StatusDetails};
use crate::state::journal::Journal;

impl Report for Status {
    fn text(&self) -> String {
        let mut lines = Lines::new(format!("data directory {}", self.data_dir.display()));
        lines.add("version", self.version());
        let file = self.found.file.as_ref();
        lines.add("version.txt", file.map_or("none".to_owned(), ToString::to_string));
        if let (DataDirContents::Etcd3(data), Some(details)) = (&self.found.contents, &self.details)
        {
            lines.data(data, details);
        }
        if let Some(holder) = &self.migrated_by {
            lines.add("in use", format_args!("being migrated by {holder}"));
        }
        if let Some(journal) = &self.journal {
            let step = if journal.step.is_empty() {
                String::new()
            } else {
                format!(", in the step `{}`", journal.step)
            };
            lines.add("last run", format_args!("to {}: {}{step}", journal.target, journal.outcome));
        }
        lines.add("backups", format_args!("{} in {}", self.copies.len(), self.backups.display()));
        for copy in &self.copies {
            let name = copy.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let version = copy.version.as_ref().map_or("-".to_owned(), ToString::to_string);
            lines.add("", format_args!("{name}  {version}  {}", mebibytes(copy.size_bytes)));
        }
        lines.print()
    }

    fn json(&self) -> Json {
        let data = match &self.found.contents {
            DataDirContents::Etcd3(data) => Some(data),
            DataDirContents::Empty | DataDirContents::Etcd2 => None,
        };
        let both = data.zip(self.details.as_ref());
        Json::Object(vec![
            ("schemaVersion", Json::number(SCHEMA_VERSION)),
            ("dataDirectory", Json::text(self.data_dir.display())),
            (
                "storage",
                match self.found.contents {
                    DataDirContents::Empty => Json::NULL,
                    DataDirContents::Etcd2 => Json::text("etcd2"),
                    DataDirContents::Etcd3(_) => Json::text("etcd3"),
                },
            ),
            ("version", Json::text(self.version())),
            ("versionFile", Json::optional(self.found.file.as_ref(), Json::text)),
            ("data", Json::optional(both, |(data, details)| data_json(data, details))),
            ("migratedBy", Json::optional(self.migrated_by.as_ref(), Json::text)),
            ("isBeingMoved", Json::bool(self.is_being_moved)),
            (
                "lastJourney",
                Json::optional(self.journal.as_ref(), |journal| {
                    Json::Object(vec![
                        ("target", Json::text(&journal.target)),
                        (
                            "step",
                            Json::optional(
                                Some(&journal.step).filter(|it| !it.is_empty()),
                                Json::text,
                            ),
                        ),
                        ("outcome", Json::text(&journal.outcome)),
                        (
                            "backup",
                            Json::optional(journal.backup.as_ref(), |it| Json::text(it.display())),
                        ),
                    ])
                }),
            ),
            ("copies", Json::List(self.copies.iter().map(copy_json).collect())),
        ])
    }
}

impl Status {
    /// The version of the data, or why it is not known.
    fn version(&self) -> String {
        if self.is_being_moved {
            return "a downgrade was interrupted while it moved the restored data; run migrate to finish it"
                .to_owned();
        }
        let is_under_way = self.journal.as_ref().is_some_and(Journal::is_unfinished);
        match current_version::current_version(
            &self.found,
            Trust::Neither.while_under_way(is_under_way),
        ) {
            Ok(origin) => plan_text::describe(&origin),
            Err(unclear) => unclear.to_string(),
        }
    }
}

fn data_json(data: &MemberData, details: &StatusDetails) -> Json {
    let log = [
        ("logFiles", Json::number(details.log_files)),
        ("logBytes", Json::number(details.log_bytes)),
        ("raftSnapshots", Json::number(details.raft_snapshots)),
        ("replaysV2Requests", Json::bool(has_v2_requests(data.log.replayed_until))),
        ("logReplayedUntil", Json::optional(data.log.replayed_until, Json::text)),
        ("v2Keys", Json::number(data.v2.keys as u64)),
        ("v2Names", Json::List(data.v2.names.iter().map(Json::text).collect())),
        ("v2Auth", Json::bool(data.v2.has_auth)),
        ("isServed", Json::bool(details.is_served)),
    ];
    let database = database_json(data, &details.contents).into_iter();
    Json::Object(database.chain(log).chain(members_json(data)).collect())
}

/// What the database says of itself, and counts of what clients have stored in it.
pub fn database_json(data: &MemberData, contents: &Contents) -> Vec<(&'static str, Json)> {
    let compacted = Some(contents.compacted).filter(|revision| *revision > 0);
    vec![
        ("series", Json::optional(data.series(), Json::text)),
        ("clusterVersion", Json::optional(data.cluster_version, Json::text)),
        ("storageVersion", Json::optional(data.storage_version, Json::text)),
        ("downgradeTo", Json::optional(data.downgrade_to, Json::text)),
        ("consistentIndex", Json::optional(data.consistent_index, Json::number)),
        ("term", Json::optional(data.term, Json::number)),
        ("databaseBytes", Json::number(data.db_bytes)),
        ("keys", Json::number(contents.keys.unwrap_or_default())),
        ("revisions", Json::number(contents.revisions)),
        ("revision", Json::number(contents.revision)),
        ("compactRevision", Json::optional(compacted, Json::number)),
        ("leases", Json::number(contents.leases)),
        ("users", Json::number(contents.users)),
        ("roles", Json::number(contents.roles)),
        ("auth", Json::bool(data.needs_credentials)),
    ]
}

pub fn members_json(data: &MemberData) -> [(&'static str, Json); 1] {
    let member = |member: &Member| {
        Json::Object(vec![
            ("name", Json::text(&member.name)),
            ("peerURLs", Json::List(member.peer_urls.iter().map(Json::text).collect())),
        ])
    };
    [("members", Json::List(data.members.iter().map(member).collect()))]
}

fn copy_json(copy: &BackupCopy) -> Json {
    Json::Object(vec![
        ("path", Json::text(copy.path.display())),
        ("versionFile", Json::optional(copy.version.as_ref(), Json::text)),
        ("bytes", Json::number(copy.size_bytes)),
    ])
}

/// The lines of a status: a first one, and below it names with their values.
pub struct Lines(Vec<String>);

impl Lines {
    pub fn new(first: String) -> Self {
        Self(vec![first])
    }

    pub fn print(self) -> String {
        self.0.join("\n") + "\n"
    }

    pub fn add(&mut self, name: &str, value: impl Display) {
        self.0.push(format!("  {name:<13}{value}"));
    }

    fn data(&mut self, data: &MemberData, details: &StatusDetails) {
        self.database(data, &details.contents);
        let limit = data.log.replayed_until.map(|until| {
            format!(
                "; holds requests that etcd {} cannot replay, so {until} has to run first",
                until.next()
            )
        });
        let limit = limit.unwrap_or_default();
        self.add(
            "log",
            format_args!(
                "{}, {}, {}{limit}",
                counted(details.log_files, "file"),
                mebibytes(details.log_bytes),
                counted(details.raft_snapshots, "raft snapshot")
            ),
        );
        if !data.v2.is_empty() {
            let last = Facts::current().replayed_until(Requests::V2);
            let next = last.next();
            self.add("v2 API", format_args!("{}, on which etcd {next} does not start", data.v2));
        }
        self.users_and_members(data, &details.contents);
        if details.is_served {
            self.add("in use", "an etcd server has the database open");
        }
    }

    pub fn database(&mut self, data: &MemberData, contents: &Contents) {
        let or_none = |series: Option<Series>| {
            series.map_or("not recorded".to_owned(), |series| series.to_string())
        };
        self.add("cluster", or_none(data.cluster_version));
        self.add("storage", or_none(data.storage_version));
        if let Some(to) = data.downgrade_to {
            self.add("downgrade", format_args!("to {to} is enabled"));
        }
        let compacted = match contents.compacted {
            0 => String::new(),
            revision => format!(", compacted at {revision}"),
        };
        self.add(
            "database",
            format_args!(
                "{}, {} at revision {}{compacted}, {} kept, {}",
                mebibytes(data.db_bytes),
                counted(contents.keys.unwrap_or_default(), "key"),
                contents.revision,
                counted(contents.revisions, "revision"),
                counted(contents.leases, "lease")
            ),
        );
    }

    pub fn users_and_members(&mut self, data: &MemberData, contents: &Contents) {
        let enabled = if data.needs_credentials { "enabled" } else { "not enabled" };
        let users = match (contents.users, contents.roles) {
            (0, 0) => String::new(),
            (users, roles) => format!(", {}, {}", counted(users, "user"), counted(roles, "role")),
        };
        self.add("auth", format_args!("{enabled}{users}"));
        self.add("members", data.members.len());
        for member in &data.members {
            let name = if member.name.is_empty() { "(not started)" } else { &member.name };
            self.add("", format_args!("{name}  {}", member.peer_urls.join(",")));
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

pub fn mebibytes(bytes: u64) -> String {
    // Rounded to tenths, with whole numbers only.
    let tenths = (bytes * 10 + (1 << 19)) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Whether the log has requests of the v2 API that no version converts.
fn has_v2_requests(replayed_until: Option<Series>) -> bool {
    replayed_until.is_some_and(|until| until <= Facts::current().replayed_until(Requests::V2))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
