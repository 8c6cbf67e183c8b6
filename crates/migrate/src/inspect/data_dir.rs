//! Reads a data directory: its database and `version.txt`.
//!
//! Starts nothing and changes nothing. Does not decide what to do about it.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use serde_json::Value;

use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::bolt::{self, Database};
use crate::inspect::version_pair::VersionPair;
use etcd_version::Series;

/// The directory of this program, with its lock and its journal. It is inside the data directory,
/// because that may be a mount point on a read-only root file system.
pub const STATE_DIR: &str = ".migrate";

/// Entries of a directory that still counts as empty: those of a new file system, our own, and the
/// certificates that etcd writes (`--peer-auto-tls`) before it makes `member`.
const IGNORED: &[&str] = &[
    "lost+found",
    "System Volume Information",
    "$RECYCLE.BIN",
    "version.txt",
    "version.txt-next",
    "fixtures",
];

/// A data directory as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DataDir {
    pub contents: DataDirContents,
    /// What `version.txt` says; `None` if it is missing or empty.
    pub file: Option<VersionPair>,
    /// Whether this program has worked here. If not, `version.txt` may be of the old image, which
    /// recorded the next minor version whatever the version of the data was.
    pub is_ours: bool,
}

/// What kind of data there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum DataDirContents {
    /// No etcd has started here: the directory is missing or counts as empty.
    #[default]
    Empty,
    /// A write-ahead log without a v3 database.
    Etcd2,
    /// A v3 database with its write-ahead log.
    Etcd3(Box<MemberData>),
}

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
    pub db_bytes: u64,
}

/// A member of the cluster, as the database has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Empty until the member has started for the first time.
    pub name: String,
    pub peer_urls: Vec<String>,
}

impl MemberData {
    /// The member of a cluster of one, if it has a name and URLs.
    pub fn only_member(&self) -> Option<&Member> {
        let [member] = &self.members[..] else { return None };
        let is_known = !member.name.is_empty() && !member.peer_urls.is_empty();
        is_known.then_some(member)
    }

    /// The minor version of the data; `None` if the data does not say.
    pub fn series(&self) -> Option<Series> {
        // etcd first writes 3.0 while not all members of the cluster answer.
        const UNDECIDED: Series = Series::new(3, 0);
        let decided = self.cluster_version.filter(|series| *series > UNDECIDED);
        // A downgrade lowers the cluster version before the storage version; until both are down
        // only the newer etcd can open the data.
        let newest = decided.max(self.storage_version);
        // etcd's own rule for data without either: a term was first written by 3.5.
        newest.or(self.term.filter(|term| *term > 0).map(|_| Series::new(3, 5)))
    }
}

/// Reads a data directory, which need not exist.
pub fn read(data_dir: &Path) -> Result<DataDir, MigrateError> {
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DataDir::default()),
        Err(error) => return Err(MigrateError::file("read the data directory", data_dir, &error)),
    };
    let mut is_fresh = true;
    for entry in entries {
        let path = entry.map_err(|error| MigrateError::file("read", data_dir, &error))?.path();
        is_fresh &= is_ignored(&path);
    }
    let contents = if is_fresh {
        refuse_set_aside(data_dir)?;
        DataDirContents::Empty
    } else {
        look_at_member(&data_dir.join("member"), data_dir)?
    };
    let is_ours = data_dir.join(STATE_DIR).join("lock").exists();
    Ok(DataDir { contents, file: read_version_file(data_dir)?, is_ours })
}

/// Whether an entry does not count. Hidden entries such as `.snapshot` belong to a file system or
/// a volume, unless they are data directories themselves.
fn is_ignored(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let is_hidden = name.as_encoded_bytes().starts_with(b".") && !path.join("member").exists();
    is_hidden || IGNORED.iter().any(|known| name == *known)
}

/// An error if there is no `member`, but the data that a downgrade had moved away is still there: it
/// is the only data then.
fn refuse_set_aside(data_dir: &Path) -> Result<(), MigrateError> {
    let replaced = data_dir.join(STATE_DIR).join("replaced");
    if !replaced.exists() {
        return Ok(());
    }
    let what = format_args!("{} holds data, and there is no `member`", replaced.display());
    let hint = "move it to `member`, or remove it to start with no data";
    Err(MigrateError::new(MigrateErrorKind::NotMigratable, what).hint(hint))
}

fn look_at_member(member: &Path, data_dir: &Path) -> Result<DataDirContents, MigrateError> {
    let refuse = |what: &str| MigrateError::new(MigrateErrorKind::NotMigratable, what);
    let db = member.join("snap").join("db");
    let has_wal = has_wal(&member.join("wal"))?;
    match (db.is_file(), has_wal) {
        (true, true) => Ok(DataDirContents::Etcd3(Box::new(read_db(&db)?))),
        (false, true) => Ok(DataDirContents::Etcd2),
        (true, false) => Err(refuse(&format!(
            "{} has a database but no write-ahead log: an etcd would start as a new, empty cluster",
            data_dir.display()
        ))
        .hint("if this is a copied database, restore it with `etcdutl snapshot restore` instead")),
        (false, false) if member.exists() => Err(refuse(&format!(
            "{} holds neither a database nor a write-ahead log",
            member.display()
        ))
        .hint("an etcd was killed before it had written any data; remove `member` to start with no data")),
        (false, false) => {
            Err(refuse(&format!("{} is not an etcd data directory", data_dir.display())).hint(
                "it is not empty and has no `member` directory; is the volume the right one?",
            ))
        }
    }
}

fn has_wal(directory: &Path) -> Result<bool, MigrateError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(MigrateError::file("read", directory, &error)),
    };
    let mut paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths.any(|path| path.extension().is_some_and(|extension| extension == "wal")))
}

/// Reads `version.txt`; `None` if it is missing or empty.
pub fn read_version_file(data_dir: &Path) -> Result<Option<VersionPair>, MigrateError> {
    let path = data_dir.join("version.txt");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(MigrateError::file("read", &path, &error)),
    };
    // A version is shorter than this, and the text may be printed in an error.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(128)]);
    if text.trim().is_empty() {
        // The old image left an empty file when the disk was full.
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: String| {
        MigrateError::new(
            MigrateErrorKind::NotMigratable,
            format_args!(
                "failed to parse etcd '<version>/<storage-version>' string from version.txt file \
                 contents '{}': {error}",
                text.trim().escape_debug()
            ),
        )
        .hint("remove version.txt, and the version is read from the data")
    })
}

fn read_db(path: &Path) -> Result<MemberData, MigrateError> {
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
            data.members.push(member(value));
        })?;
    }
    if let Some(auth) = database.bucket("auth")? {
        let enabled = database.get(&auth, "authEnabled")?;
        data.needs_credentials = enabled.is_some_and(|value| value == [1]);
    }
    Ok(data)
}

/// A member as etcd stores it: `{"id":1,"peerURLs":["http://a:2380"],"name":"n",…}`.
fn member(json: &[u8]) -> Member {
    let value: Value = serde_json::from_slice(json).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let urls = value["peerURLs"].as_array();
    Member {
        name: text(&value["name"]).unwrap_or_default(),
        peer_urls: urls
            .into_iter()
            .flatten()
            .filter_map(text)
            .filter(|url| !url.is_empty())
            .collect(),
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
#[path = "data_dir_tests.rs"]
mod tests;
