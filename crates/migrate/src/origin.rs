//! Decides which version the data is at, from the two witnesses: the data and `version.txt`.

use std::fmt;

use etcd_version::EtcdVersion;

use crate::found::{Contents, Found};
use crate::options::Trust;
use crate::series::Series;
use crate::version_pair::Storage;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No etcd has started here yet.
    Nothing,
    Etcd2,
    Etcd3(Known),
}

/// Where the journey begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub series: Series,
    /// With its patch, when `version.txt` says it and the data does not object.
    pub exact: Option<EtcdVersion>,
    pub witness: Witness,
    pub members: usize,
    pub needs_credentials: bool,
    /// The last minor version that can replay the log; `None` if every later one can.
    pub replayed_until: Option<Series>,
    /// An earlier run enabled a downgrade, and this one goes elsewhere.
    pub abandons_downgrade: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
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
pub enum Unclear {
    NoWitness,
    Contradiction { file: EtcdVersion, data: Series },
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWitness => {
                f.write_str("neither version.txt nor the data says which etcd wrote this directory")
            }
            Self::Contradiction { file, data } => {
                write!(f, "version.txt says etcd {file}, but the data was written by etcd {data}")
            }
        }
    }
}

pub fn origin(found: &Found, trust: Trust) -> Result<Origin, Unclear> {
    let data = match &found.contents {
        Contents::Nothing => return Ok(Origin::Nothing),
        Contents::Etcd2 => return Ok(Origin::Etcd2),
        Contents::Etcd3(data) => data,
    };
    if found.file.as_ref().is_some_and(|pair| pair.storage == Storage::Etcd2) {
        return Ok(Origin::Etcd2);
    }
    let file = found.file.as_ref().map(|pair| &pair.version);
    let known = |series, exact: Option<&EtcdVersion>, witness| {
        Ok(Origin::Etcd3(Known {
            series,
            exact: exact.cloned(),
            witness,
            members: data.members.len(),
            needs_credentials: data.needs_credentials,
            replayed_until: None,
            abandons_downgrade: false,
        }))
    };
    let by_file = |file| known(Series::of(file), Some(file), Witness::File);
    match (file, data.series()) {
        (None, None) => Err(Unclear::NoWitness),
        (None, Some(series)) => known(series, None, Witness::Data),
        (Some(file), None) => by_file(file),
        (Some(file), Some(series)) if series == Series::of(file) => {
            known(series, Some(file), Witness::Both)
        }
        (Some(file), Some(_)) if trust == Trust::File => by_file(file),
        (Some(_), Some(series)) if trust == Trust::Data => known(series, None, Witness::Data),
        (Some(file), Some(series)) if series.next() == Series::of(file) => {
            let witness =
                if found.is_ours { Witness::DataBeforeOurFile } else { Witness::DataBeforeFile };
            known(series, None, witness)
        }
        (Some(file), Some(data)) => Err(Unclear::Contradiction { file: file.clone(), data }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::found::Data;

    fn found(file: &str, data: &str) -> Found {
        Found {
            file: Some(file).filter(|text| !text.is_empty()).map(|text| text.parse().unwrap()),
            contents: Contents::Etcd3(Box::new(Data {
                cluster_version: data.parse().ok(),
                ..Data::default()
            })),
            is_ours: true,
        }
    }

    #[track_caller]
    fn check(file: &str, data: &str, trust: Trust, expected: &str) {
        let found = found(file, data);
        let actual = match origin(&found, trust) {
            Ok(Origin::Etcd3(known)) => {
                let exact = known.exact.map_or("?".to_owned(), |version| version.to_string());
                format!("{} {exact} {:?}", known.series, known.witness)
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(actual, expected, "{file} {data} {trust:?}");
    }

    #[test]
    fn the_old_program_recorded_the_next_minor_whatever_the_data_was() {
        let found = Found { is_ours: false, ..found("3.6.4/etcd3", "3.5.0") };
        let Ok(Origin::Etcd3(known)) = origin(&found, Trust::Neither) else { panic!() };
        assert_eq!(known.witness, Witness::DataBeforeFile);
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
