//! Decides which version the data is at, by two pieces of evidence: the data and `version.txt`.

use std::fmt;

use etcd_version::EtcdVersion;

use crate::inspect::data_dir::{DataDir, DataDirContents};
use crate::inspect::member_data::{Alarm, MemberData};
use crate::inspect::v2_store::V2Contents;
use crate::inspect::version_pair::Storage;
use etcd_version::Series;

/// Which one is right when `version.txt` and the data disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Neither: it is an error.
    Neither,
    Data,
    File,
}

impl Trust {
    /// After an interrupted step the data may be ahead of `version.txt`, and then the data is
    /// right.
    pub fn while_under_way(self, is_under_way: bool) -> Self {
        if self == Self::Neither && is_under_way { Self::Data } else { self }
    }
}

/// Which etcd wrote the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurrentVersion {
    /// No etcd has started here yet.
    Fresh,
    /// The storage of etcd 2, whatever the version.
    Etcd2,
    Etcd3(KnownVersion),
}

/// The version of etcd 3 data, with what else decides about the steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownVersion {
    pub series: Series,
    /// With its patch, if `version.txt` says it and does not contradict the data.
    pub exact: Option<EtcdVersion>,
    pub evidence: Evidence,
    /// How many members the cluster has.
    pub members: usize,
    pub cluster: ClusterState,
    /// Whether authentication is enabled.
    pub needs_credentials: bool,
    /// The last minor version that can replay the log; `None` if every later one can.
    pub replayed_until: Option<Series>,
    /// What clients of the v2 API have stored.
    pub v2: V2Contents,
    /// An earlier run enabled a downgrade, and this run has another target.
    pub abandons_downgrade: bool,
}

#[cfg(test)]
impl KnownVersion {
    /// Data of a single member that has nothing unusual.
    pub fn plain(series: Series) -> Self {
        Self {
            series,
            exact: None,
            evidence: Evidence::Both,
            members: 1,
            cluster: ClusterState {
                voters: 1,
                started_voters: 1,
                is_corrupt: false,
                is_full: false,
                open_downgrade: None,
            },
            needs_credentials: false,
            replayed_until: None,
            v2: V2Contents::default(),
            abandons_downgrade: false,
        }
    }
}

/// What may keep a server from becoming healthy, whatever its version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterState {
    /// How many members have a vote, and how many of them have ever started.
    pub voters: usize,
    pub started_voters: usize,
    /// Whether a member has raised the CORRUPT alarm.
    pub is_corrupt: bool,
    /// Whether a member has raised the NOSPACE alarm: no key can be written.
    pub is_full: bool,
    /// The target of a downgrade that somebody else has enabled, and that has not ended.
    pub open_downgrade: Option<Series>,
}

impl ClusterState {
    fn of(data: &MemberData) -> Self {
        let voters = || data.members.iter().filter(|member| !member.is_learner);
        Self {
            voters: voters().count(),
            started_voters: voters().filter(|member| !member.name.is_empty()).count(),
            is_corrupt: data.alarms.contains(&Alarm::Corrupt),
            is_full: data.alarms.contains(&Alarm::NoSpace),
            open_downgrade: data.downgrade_to,
        }
    }
}

/// How the version is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// `version.txt` and the data agree.
    Both,
    /// Only by the data: there is no `version.txt`, or it is not trusted.
    Data,
    /// Only by `version.txt`: the data does not say, or is not trusted.
    File,
    /// By the data. `version.txt` names the next minor version, which was recorded but has not
    /// upgraded the data yet.
    DataBeforeFile,
    /// The same, recorded by this program, which had prepared the data for it.
    DataBeforeOurFile,
}

/// Why the version is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnclearVersion {
    NoEvidence,
    Contradiction { file: EtcdVersion, data: Series },
}

impl fmt::Display for UnclearVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEvidence => {
                f.write_str("neither version.txt nor the data says which etcd wrote this directory")
            }
            Self::Contradiction { file, data } => {
                write!(f, "version.txt says etcd {file}, but the data was written by etcd {data}")
            }
        }
    }
}

/// The version of a data directory. `trust` decides if `version.txt` and the data disagree.
pub fn current_version(found: &DataDir, trust: Trust) -> Result<CurrentVersion, UnclearVersion> {
    let data = match &found.contents {
        DataDirContents::Empty => return Ok(CurrentVersion::Fresh),
        DataDirContents::Etcd2 => return Ok(CurrentVersion::Etcd2),
        DataDirContents::Etcd3(data) => data,
    };
    if found.file.as_ref().is_some_and(|pair| pair.storage == Storage::Etcd2) {
        return Ok(CurrentVersion::Etcd2);
    }
    let file = found.file.as_ref().map(|pair| &pair.version);
    let known = |series, exact: Option<&EtcdVersion>, evidence| {
        Ok(CurrentVersion::Etcd3(KnownVersion {
            series,
            exact: exact.cloned(),
            evidence,
            members: data.members.len(),
            cluster: ClusterState::of(data),
            needs_credentials: data.needs_credentials,
            replayed_until: data.log.replayed_until,
            v2: data.v2.clone(),
            abandons_downgrade: false,
        }))
    };
    let by_file = |file: &EtcdVersion| known(file.series(), Some(file), Evidence::File);
    match (file, data.series()) {
        (None, None) => Err(UnclearVersion::NoEvidence),
        (None, Some(series)) => known(series, None, Evidence::Data),
        (Some(file), None) => by_file(file),
        (Some(file), Some(series)) if series == file.series() => {
            known(series, Some(file), Evidence::Both)
        }
        (Some(file), Some(_)) if trust == Trust::File => by_file(file),
        (Some(_), Some(series)) if trust == Trust::Data => known(series, None, Evidence::Data),
        (Some(file), Some(series)) if series.next() == file.series() => {
            let evidence =
                if found.is_ours { Evidence::DataBeforeOurFile } else { Evidence::DataBeforeFile };
            known(series, None, evidence)
        }
        (Some(file), Some(data)) => Err(UnclearVersion::Contradiction { file: file.clone(), data }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, data: &str) -> DataDir {
        DataDir {
            file: Some(file).filter(|text| !text.is_empty()).map(|text| text.parse().unwrap()),
            contents: DataDirContents::Etcd3(Box::new(MemberData {
                cluster_version: data.parse().ok(),
                ..MemberData::default()
            })),
            is_ours: true,
        }
    }

    #[track_caller]
    fn check(file: &str, data: &str, trust: Trust, expected: &str) {
        let found = found(file, data);
        let actual = match current_version(&found, trust) {
            Ok(CurrentVersion::Etcd3(known)) => {
                let exact = known.exact.map_or("?".to_owned(), |version| version.to_string());
                format!("{} {exact} {:?}", known.series, known.evidence)
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(actual, expected, "{file} {data} {trust:?}");
    }

    #[test]
    fn the_old_program_recorded_the_next_minor_whatever_the_data_was() {
        let found = DataDir { is_ours: false, ..found("3.6.4/etcd3", "3.5.0") };
        let Ok(CurrentVersion::Etcd3(known)) = current_version(&found, Trust::Neither) else {
            panic!()
        };
        assert_eq!(known.evidence, Evidence::DataBeforeFile);
    }

    #[test]
    fn both_pieces_of_evidence_are_weighed() {
        use Trust::{Data, File, Neither};
        check("3.4.27/etcd3", "3.4.0", Neither, "3.4 3.4.27 Both");
        check("", "3.5.0", Neither, "3.5 ? Data");
        check("3.5.33/etcd3", "", Neither, "3.5 3.5.33 File");
        check("3.5.33/etcd3", "3.4.0", Neither, "3.4 ? DataBeforeOurFile");
        check("3.5.33/etcd3", "3.4.0", File, "3.5 3.5.33 File");
        check("3.5.33/etcd3", "3.4.0", Data, "3.4 ? Data");
        check("2.2.1/etcd2", "3.0.0", Neither, "Etcd2");
        check(
            "3.4.27/etcd3",
            "3.5.0",
            Neither,
            "error: version.txt says etcd 3.4.27, but the data was written by etcd 3.5",
        );
        check(
            "3.6.14/etcd3",
            "3.4.0",
            Neither,
            "error: version.txt says etcd 3.6.14, but the data was written by etcd 3.4",
        );
        check("3.4.27/etcd3", "3.5.0", Data, "3.5 ? Data");
        check("3.4.27/etcd3", "3.5.0", File, "3.4 3.4.27 File");
        check(
            "",
            "",
            Neither,
            "error: neither version.txt nor the data says which etcd wrote this directory",
        );
    }
}
