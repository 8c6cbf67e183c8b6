//! Prints a plan as text or JSON.

use std::path::Path;

use etcd_version::EtcdVersion;

use crate::inspect::current_version::{CurrentVersion, Evidence};
use crate::inspect::v2_store::V2Contents;
use crate::inspect::version_pair::VersionPair;
use crate::plan::changes::ContentChange;
use crate::plan::steps::{DowngradeMethod, Step};
use crate::plan::v2_content::V2Removal;
use crate::report::Report;
use crate::report::json::{Json, SCHEMA_VERSION};

/// A plan with what its text needs.
#[derive(Debug)]
pub struct PlanReport<'a> {
    pub data_dir: &'a Path,
    pub target: &'a VersionPair,
    pub origin: &'a CurrentVersion,
    pub steps: &'a [Step],
    /// The directory of the backups.
    pub backup: &'a Path,
    /// `None` if the data is there already.
    pub restore: Option<RestorePlan<'a>>,
}

/// The snapshot that is restored before the steps, and the version whose tool does it.
#[derive(Debug)]
pub struct RestorePlan<'a> {
    pub snapshot: &'a Path,
    pub tool: &'a EtcdVersion,
    /// Whether the data then goes to the target version.
    pub goes_on: bool,
}

impl Report for PlanReport<'_> {
    fn text(&self) -> String {
        let data_dir = self.data_dir.display();
        let origin = describe(self.origin);
        let first = match &self.restore {
            None => format!("data directory {data_dir}: {origin}"),
            Some(restore) => format!(
                "snapshot {}: {origin}\ndata directory {data_dir}: restored by the tools of etcd {}",
                restore.snapshot.display(),
                restore.tool
            ),
        };
        let mut lines = vec![first, format!("target {}", self.target)];
        if let Some(contents) = self.v2() {
            lines.push(format!("content of the v2 API: {contents}"));
        }
        for (index, step) in self.steps.iter().enumerate() {
            lines.push(format!("  {}. {}", index + 1, self.sentence(step)));
        }
        if self.restore.as_ref().is_some_and(|restore| !restore.goes_on) {
            lines.push("  nothing more: the data stays at the version of the snapshot".to_owned());
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
                Step::DropV2 { version, removal } => ("drop-v2", v2_details(version, *removal)),
                Step::ConvertV2 { version, removal, .. } => {
                    ("convert-v2", v2_details(version, *removal))
                }
                Step::Defrag(version) => ("defrag", vec![("version", Json::text(version))]),
                Step::Record(version) => ("record", vec![("version", Json::text(version))]),
                Step::Downgrade { from, to, method } => {
                    let method = match method {
                        DowngradeMethod::InPlace => "in-place",
                        DowngradeMethod::Snapshot => "snapshot",
                    };
                    let details = [("from", Json::text(from)), ("to", Json::text(to))];
                    let drops = self.drops_v2(step).then_some(("dropsV2", Json::bool(true)));
                    let details = details.into_iter().chain([("way", Json::text(method))]);
                    ("downgrade", details.chain(drops).collect())
                }
            };
            let changes = step.may_change(members).into_iter().map(ContentChange::name);
            let changes: Vec<_> = changes.map(Json::text).collect();
            let changes = (!changes.is_empty()).then_some(("mayChange", Json::List(changes)));
            let action = ("action", Json::text(action));
            Json::Object([action].into_iter().chain(details).chain(changes).collect())
        };
        let restore = self.restore.as_ref().map(|restore| {
            let tool = ("tool", Json::text(restore.tool));
            let only = ("only", Json::bool(!restore.goes_on));
            Json::Object(vec![("snapshot", Json::text(restore.snapshot.display())), tool, only])
        });
        let mut fields = vec![
            ("schemaVersion", Json::number(SCHEMA_VERSION)),
            ("dataDirectory", Json::text(self.data_dir.display())),
            ("from", origin(self.origin)),
            ("target", Json::text(self.target)),
            ("steps", Json::List(self.steps.iter().map(step).collect())),
        ];
        fields.extend(restore.map(|restore| ("restore", restore)));
        Json::Object(fields)
    }
}

impl PlanReport<'_> {
    /// What clients of the v2 API have stored, if anything.
    fn v2(&self) -> Option<&V2Contents> {
        let CurrentVersion::Etcd3(known) = self.origin else { return None };
        Some(&known.v2).filter(|contents| !contents.is_empty())
    }

    /// Whether a downgrade by snapshot is what drops it: no earlier step has converted it.
    fn drops_v2(&self, step: &Step) -> bool {
        let is_first = self.steps.iter().find(|step| step.ends_v2()) == Some(step);
        is_first && self.v2().is_some()
    }

    /// What of it does not come into the v3 API.
    fn lost_in_conversion(&self) -> String {
        let Some(contents) = self.v2() else { return String::new() };
        let mut lost = match contents.hidden_keys {
            0 => String::new(),
            1 => "; 1 hidden key is lost".to_owned(),
            count => format!("; {count} hidden keys are lost"),
        };
        if contents.has_auth {
            lost.push_str("; its users and roles are lost");
        }
        lost
    }

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
            Step::DropV2 { version, removal } => {
                removed_v2(version, "drop the content of the v2 API", *removal)
            }
            Step::ConvertV2 { version, removal, .. } => {
                let work = "write the keys of the v2 API into the v3 API unless they exist there, \
                    delete them";
                removed_v2(version, work, *removal) + &self.lost_in_conversion()
            }
            Step::Downgrade { from, to, method: DowngradeMethod::InPlace } => format!(
                "start etcd {from}, let it downgrade the data to {}, stop it; nothing is lost",
                to.series()
            ),
            Step::Downgrade { from, to, method: DowngradeMethod::Snapshot } => format!(
                "start and stop etcd {from}, restore its database with the tools of {to}; {STAYS}{}",
                if self.drops_v2(step) { "; the content of the v2 API is lost" } else { "" }
            ),
            Step::Defrag(version) => {
                format!("defragment the database with the tools of etcd {version}")
            }
            Step::Record(version) if self.is_left_to_the_target(step) => format!(
                "write {version}/etcd3 into version.txt; etcd {version} makes the last upgrade \
                 itself when it starts"
            ),
            Step::Record(version) => format!("write {version}/etcd3 into version.txt"),
        }
    }

    /// Whether a record is one minor version ahead of the data, because the target itself makes
    /// that upgrade.
    fn is_left_to_the_target(&self, step: &Step) -> bool {
        let CurrentVersion::Etcd3(known) = self.origin else { return false };
        let reached = self.steps.iter().rev().find_map(|step| match step {
            Step::Downgrade { to, .. } => Some(to.minor()),
            step => step.served().map(EtcdVersion::minor),
        });
        self.steps.last() == Some(step)
            && self.target.version.minor() > reached.unwrap_or(known.series.minor)
    }
}

/// What a restored snapshot keeps.
const STAYS: &str = "keys, leases, users and revisions stay, the raft log and the cluster's ids are \
    new";

fn removed_v2(version: &EtcdVersion, work: &str, removal: V2Removal) -> String {
    let series = version.series();
    let served = format!("start etcd {version}, wait until the cluster is at {series}, {work}");
    match removal {
        V2Removal::Delete => format!("{served}, stop it"),
        V2Removal::Restore => {
            format!("{served} by restoring the database with the tools of {version}; {STAYS}")
        }
    }
}

fn v2_details(version: &EtcdVersion, removal: V2Removal) -> Vec<(&'static str, Json)> {
    let way = match removal {
        V2Removal::Delete => "delete",
        V2Removal::Restore => "snapshot",
    };
    vec![("version", Json::text(version)), ("way", Json::text(way))]
}

fn v2_json(contents: &V2Contents) -> Json {
    Json::Object(vec![
        ("keys", Json::number(contents.keys as u64)),
        ("hiddenKeys", Json::number(contents.hidden_keys as u64)),
        ("names", Json::List(contents.names.iter().map(Json::text).collect())),
        ("auth", Json::bool(contents.has_auth)),
    ])
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
            ("v2", Json::optional(Some(&known.v2).filter(|it| !it.is_empty()), v2_json)),
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

#[cfg(test)]
#[path = "plan_text_tests.rs"]
mod tests;
