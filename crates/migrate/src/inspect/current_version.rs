//! Decides which version the data is at, from the two witnesses: the data and `version.txt`.

use std::fmt;

use etcd_version::EtcdVersion;

use crate::cli::options::Trust;
use crate::inspect::data_dir::{DataDir, DataDirContents};
use crate::inspect::series::Series;
use crate::inspect::version_pair::Storage;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurrentVersion {
    /// No etcd has started here yet.
    Fresh,
    Etcd2,
    Etcd3(KnownVersion),
}

/// Where the journey begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownVersion {
    pub series: Series,
    /// With its patch, when `version.txt` says it and the data does not object.
    pub exact: Option<EtcdVersion>,
    pub evidence: Evidence,
    pub members: usize,
    pub needs_credentials: bool,
    /// The last minor version that can replay the log; `None` if every later one can.
    pub replayed_until: Option<Series>,
    /// An earlier run enabled a downgrade, and this one goes elsewhere.
    pub abandons_downgrade: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    Both,
    /// There is no `version.txt`, or it is not to be trusted.
    Data,
    /// The data does not say, or is not to be trusted.
    File,
    /// `version.txt` names the next minor, which was recorded but has not upgraded the data yet.
    DataBeforeFile,
    /// The same, and it was this program that recorded it, after it had cleared the way.
    DataBeforeOurFile,
}

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
            needs_credentials: data.needs_credentials,
            replayed_until: None,
            abandons_downgrade: false,
        }))
    };
    let by_file = |file| known(Series::of(file), Some(file), Evidence::File);
    match (file, data.series()) {
        (None, None) => Err(UnclearVersion::NoEvidence),
        (None, Some(series)) => known(series, None, Evidence::Data),
        (Some(file), None) => by_file(file),
        (Some(file), Some(series)) if series == Series::of(file) => {
            known(series, Some(file), Evidence::Both)
        }
        (Some(file), Some(_)) if trust == Trust::File => by_file(file),
        (Some(_), Some(series)) if trust == Trust::Data => known(series, None, Evidence::Data),
        (Some(file), Some(series)) if series.next() == Series::of(file) => {
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
    use crate::inspect::data_dir::MemberData;

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
    fn the_two_witnesses_are_weighed() {
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
