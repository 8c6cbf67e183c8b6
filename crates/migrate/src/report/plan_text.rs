//! Prints a plan as text or JSON.

use std::path::Path;

use crate::inspect::current_version::{CurrentVersion, Evidence};
use crate::inspect::version_pair::VersionPair;
use crate::plan::changes::Change;
use crate::plan::steps::{DowngradeMethod, Step};
use crate::report::Report;
use crate::report::json::Json;

/// A plan with what its text needs.
#[derive(Debug)]
pub struct PlanReport<'a> {
    pub data_dir: &'a Path,
    pub target: &'a VersionPair,
    pub origin: &'a CurrentVersion,
    pub steps: &'a [Step],
    /// The directory of the backups.
    pub backup: &'a Path,
}

impl Report for PlanReport<'_> {
    fn text(&self) -> String {
        let data_dir = self.data_dir.display();
        let mut lines = vec![
            format!("data directory {data_dir}: {}", describe(self.origin)),
            format!("target {}", self.target),
        ];
        for (index, step) in self.steps.iter().enumerate() {
            lines.push(format!("  {}. {}", index + 1, self.sentence(step)));
        }
        lines.join("\n") + "\n"
    }

    fn json(&self) -> Json {
        let members = match self.origin {
            CurrentVersion::Etcd3(known) => known.members,
            CurrentVersion::Fresh | CurrentVersion::Etcd2 => 0,
        };
        let step = |step: &Step| {
            let (action, details) = match step {
                Step::Backup => ("backup", vec![("to", Json::text(self.backup.display()))]),
                Step::CancelDowngrade(version) => {
                    ("cancel-downgrade", vec![("version", Json::text(version))])
                }
                Step::Serve(version) => ("serve", vec![("version", Json::text(version))]),
                Step::Record(version) => ("record", vec![("version", Json::text(version))]),
                Step::Downgrade { from, to, method } => {
                    let method = match method {
                        DowngradeMethod::InPlace => "in-place",
                        DowngradeMethod::Snapshot => "snapshot",
                    };
                    let details = [("from", Json::text(from)), ("to", Json::text(to))];
                    (
                        "downgrade",
                        details.into_iter().chain([("way", Json::text(method))]).collect(),
                    )
                }
            };
            let changes = step.may_change(members).into_iter().map(Change::name);
            let changes: Vec<_> = changes.map(Json::text).collect();
            let changes = (!changes.is_empty()).then_some(("mayChange", Json::List(changes)));
            let action = ("action", Json::text(action));
            Json::Object([action].into_iter().chain(details).chain(changes).collect())
        };
        Json::Object(vec![
            ("dataDirectory", Json::text(self.data_dir.display())),
            ("from", origin(self.origin)),
            ("target", Json::text(self.target)),
            ("steps", Json::List(self.steps.iter().map(step).collect())),
        ])
    }
}

impl PlanReport<'_> {
    fn sentence(&self, step: &Step) -> String {
        match step {
            Step::Backup => format!("copy the data to {}", self.backup.display()),
            Step::CancelDowngrade(version) => format!(
                "start etcd {version}, cancel the downgrade that an earlier run began, stop it"
            ),
            Step::Serve(version) => format!(
                "start etcd {version}, wait until the cluster is at {}, stop it",
                version.series()
            ),
            Step::Downgrade { from, to, method: DowngradeMethod::InPlace } => format!(
                "start etcd {from}, let it downgrade the data to {}, stop it; nothing is lost",
                to.series()
            ),
            Step::Downgrade { from, to, method: DowngradeMethod::Snapshot } => format!(
                "start and stop etcd {from}, restore its database with the tools of {to}; keys, \
                 leases, users and revisions stay, the raft log and the cluster's ids are new"
            ),
            Step::Record(version) if self.is_left_to_the_target(step) => format!(
                "write {version}/etcd3 into version.txt; etcd {version} makes the last upgrade \
                 itself when it starts"
            ),
            Step::Record(version) => format!("write {version}/etcd3 into version.txt"),
        }
    }

    /// Whether a record is one minor version ahead of the data, because the target itself makes that
    /// upgrade.
    fn is_left_to_the_target(&self, step: &Step) -> bool {
        let CurrentVersion::Etcd3(known) = self.origin else { return false };
        let reached = self.steps.iter().rev().find_map(|step| match step {
            Step::Serve(version) => Some(version.minor()),
            Step::Downgrade { to, .. } => Some(to.minor()),
            Step::Backup | Step::CancelDowngrade(_) | Step::Record(_) => None,
        });
        self.steps.last() == Some(step)
            && self.target.version.minor() > reached.unwrap_or(known.series.minor)
    }
}

fn origin(origin: &CurrentVersion) -> Json {
    match origin {
        CurrentVersion::Fresh => Json::NULL,
        CurrentVersion::Etcd2 => Json::Object(vec![("storage", Json::text("etcd2"))]),
        CurrentVersion::Etcd3(known) => Json::Object(vec![
            ("series", Json::text(known.series)),
            ("version", Json::optional(known.exact.as_ref(), Json::text)),
            (
                "witness",
                Json::text(match known.evidence {
                    Evidence::Both => "both",
                    Evidence::Data => "data",
                    Evidence::File => "version.txt",
                    Evidence::DataBeforeFile | Evidence::DataBeforeOurFile => {
                        "data-before-version.txt"
                    }
                }),
            ),
            ("members", Json::number(known.members as u64)),
            ("auth", Json::bool(known.needs_credentials)),
        ]),
    }
}

/// The current version as a phrase, for a log or a status.
pub fn describe(origin: &CurrentVersion) -> String {
    let known = match origin {
        CurrentVersion::Fresh => return "no etcd has started here yet".to_owned(),
        CurrentVersion::Etcd2 => return "etcd2 storage".to_owned(),
        CurrentVersion::Etcd3(known) => known,
    };
    let version = known.exact.as_ref().map_or(known.series.to_string(), ToString::to_string);
    let evidence = match known.evidence {
        Evidence::Both => "version.txt and the data agree",
        Evidence::Data => "read from the data",
        Evidence::File => "by version.txt",
        Evidence::DataBeforeFile | Evidence::DataBeforeOurFile => {
            "read from the data; the next minor is recorded but has not upgraded it yet"
        }
    };
    format!("etcd {version} ({evidence})")
}
