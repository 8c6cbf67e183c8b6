//! Reads the write-ahead log in `member/wal`: what a server will do with the data when it replays
//! the log, before any server runs.
//!
//! Everything counts from the newest usable raft snapshot on, since a server replays nothing older.

mod entry;
pub mod puts;
mod record;
mod snapshot_records;
pub mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use etcd_version::facts::{RaftSnapshots, Requests};
use etcd_version::{Facts, Series};

use self::entry::{Content, Entry};
use self::record::Record;
use crate::inspect::member::Member;
use crate::inspect::raft_snapshot::{self, SnapshotName};
use crate::inspect::v2_store::{self, Request, V2Store};

/// What the log says from the newest usable raft snapshot on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogContents {
    /// The newest raft snapshot that the log knows of and that, where the version of the data has
    /// files of them, exists as a file.
    pub snapshot: Option<SnapshotName>,
    /// The last minor version that can replay the log; `None` if every later one can.
    pub replayed_until: Option<Series>,
    /// The versions that the cluster agreed on, each with the index of its entry, ascending.
    cluster_versions: Vec<(u64, Series)>,
    /// What the file of `snapshot` holds: the tree of the v2 API as JSON. Empty without one.
    tree: Vec<u8>,
    /// What changes the tree of the v2 API after it, in order.
    v2_changes: Vec<V2Change>,
    /// The names that members had when they were added, by their numbers.
    member_names: BTreeMap<u64, String>,
}

/// An entry that changes the tree of the v2 API, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum V2Change {
    Request(Vec<u8>),
    Members(Vec<u8>),
}

impl LogContents {
    /// The newest version that the cluster has agreed on in an entry after `index`, which is the
    /// last one that the database has.
    pub fn cluster_version_after(&self, index: u64) -> Option<Series> {
        let (last, version) = self.cluster_versions.last()?;
        (*last > index).then_some(*version)
    }

    /// The member with its name: a snapshot that was restored and never served lacks it. `id` is
    /// its number in hexadecimal.
    pub fn with_name(&self, id: &str, member: Member) -> Member {
        let added = || self.member_names.get(&u64::from_str_radix(id, 16).ok()?).cloned();
        match member.name.as_str() {
            "" => Member { name: added().unwrap_or_default(), ..member },
            _ => member,
        }
    }

    /// The tree of the v2 API as a server has it after a replay; `None` if the snapshot holds
    /// something else.
    pub fn v2_store(&self) -> Option<V2Store> {
        let mut store = match self.snapshot {
            Some(_) => v2_store::parse(&self.tree)?,
            None => V2Store::default(),
        };
        for change in &self.v2_changes {
            match change {
                V2Change::Request(bytes) => {
                    if let Some(request) = Request::read(bytes) {
                        store.apply(&request);
                    }
                }
                V2Change::Members(bytes) => store.change_members(bytes),
            }
        }
        Some(store)
    }
}

/// Reads the log in `wal_dir` of data at a version, if it is known; `snap_dir` holds what it has of
/// raft snapshots. Damaged ones are passed over, as etcd does.
pub fn read(wal_dir: &Path, snap_dir: &Path, data: Option<Series>) -> io::Result<LogContents> {
    if data.map(raft_snapshots) == Some(RaftSnapshots::Log) {
        let files = files(wal_dir)?;
        return read_from(&files, &snapshot_records::newest(&files)?.into_iter().collect());
    }
    let mut taken: BTreeSet<_> = raft_snapshot::names(snap_dir)?.into_iter().collect();
    let files = files(wal_dir)?;
    loop {
        let contents = read_from(&files, &taken)?;
        let Some(name) = contents.snapshot else { return Ok(contents) };
        match raft_snapshot::content(&snap_dir.join(name.file_name())) {
            Ok(tree) => return Ok(LogContents { tree, ..contents }),
            // A server that runs removes old ones.
            Err(error)
                if [io::ErrorKind::InvalidData, io::ErrorKind::NotFound]
                    .contains(&error.kind()) =>
            {
                taken.remove(&name);
            }
            Err(error) => return Err(error),
        }
    }
}

fn read_from(files: &[PathBuf], taken: &BTreeSet<SnapshotName>) -> io::Result<LogContents> {
    // The newest snapshot may not be in the log yet when a server was killed.
    let from = taken.iter().rev().nth(1).map_or(0, |name| first_file(files, name.index));
    let contents = read_files(&files[from..], taken)?;
    if contents.snapshot.is_none() && from > 0 {
        return read_files(files, taken);
    }
    Ok(contents)
}

/// The newest raft snapshot of data at a version: a file, or a record of the log where there are no
/// files. `None` also if nothing can be read, such as while a server removes files.
pub fn newest_snapshot(wal_dir: &Path, snap_dir: &Path, data: Series) -> Option<SnapshotName> {
    match raft_snapshots(data) {
        RaftSnapshots::Files => raft_snapshot::newest(snap_dir),
        RaftSnapshots::Log => snapshot_records::newest(&files(wal_dir).ok()?).ok()?,
    }
}

fn raft_snapshots(series: Series) -> RaftSnapshots {
    Facts::current().of(series).raft_snapshots
}

/// The tree of the v2 API of a member that runs, as it has it after a replay. All versions that
/// have the v2 API have files of raft snapshots.
pub fn v2_store(wal_dir: &Path, snap_dir: &Path) -> io::Result<V2Store> {
    let contents = read(wal_dir, snap_dir, None)?;
    contents.v2_store().ok_or_else(|| {
        let what = "the newest raft snapshot does not hold what etcd writes into it";
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

fn read_files(files: &[PathBuf], taken: &BTreeSet<SnapshotName>) -> io::Result<LogContents> {
    let mut reader =
        LogReader { taken, snapshot: None, entries: Vec::new(), member_names: BTreeMap::new() };
    for path in files {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        let source = BufReader::with_capacity(1 << 16, file);
        record::each(source, size_bytes, &mut None, &mut |framed| reader.add(framed.record))?;
    }
    Ok(reader.finish())
}

/// The files of the log, `<sequence>-<first index>.wal` in hexadecimal, in the order of their
/// content. Etcd ignores whatever else is there, and so does this.
fn files(wal_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(wal_dir)? {
        let path = entry?.path();
        if first_index(&path).is_some() && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The first index of a file of the log, if it has the name of one.
fn first_index(path: &Path) -> Option<u64> {
    let number = |digits: &str| {
        let is_number = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_number { u64::from_str_radix(digits, 16).ok() } else { None }
    };
    let name = path.file_name()?.to_str()?.strip_suffix(".wal")?;
    let (sequence, first) = name.split_once('-')?;
    number(sequence).and(number(first))
}

/// The position of the last file that begins at `index` or before it.
fn first_file(files: &[PathBuf], index: u64) -> usize {
    files.iter().rposition(|path| first_index(path) <= Some(index)).unwrap_or(0)
}

/// An entry that is kept until the end of the log is known.
#[derive(Clone, Debug)]
enum Kept {
    V2 { replayed_by: Requests, request: Vec<u8> },
    ClusterVersion(Series),
    Members(Vec<u8>),
}

#[derive(Debug)]
struct LogReader<'a> {
    /// The snapshots that a server can start from.
    taken: &'a BTreeSet<SnapshotName>,
    snapshot: Option<SnapshotName>,
    /// By index, ascending.
    entries: Vec<(u64, Kept)>,
    member_names: BTreeMap<u64, String>,
}

impl LogReader<'_> {
    fn add(&mut self, record: Record<'_>) {
        match record {
            Record::Entry(bytes) => self.add_entry(&Entry::parse(bytes)),
            Record::Committed(_) | Record::TooLong | Record::Other => {}
            Record::Snapshot(snapshot) => {
                let taken = self.taken.iter().find(|name| name.index == snapshot.index);
                self.snapshot = self.snapshot.max(taken.copied());
                // Never replayed again.
                let start = self.snapshot.map_or(0, |name| name.index);
                self.entries.retain(|(index, _)| *index > start);
            }
        }
    }

    fn add_entry(&mut self, entry: &Entry<'_>) {
        let index = entry.index;
        // A new leader overwrites entries that were not committed.
        while self.entries.last().is_some_and(|(last, _)| *last >= index) {
            self.entries.pop();
        }
        let kept = match &entry.content {
            Content::V2(replayed_by, request) => {
                // Health checks are many and change nothing.
                let changes = Request::read(request).map_or(&[][..], |_| request);
                Kept::V2 { replayed_by: *replayed_by, request: changes.to_vec() }
            }
            Content::ClusterVersion(series) => Kept::ClusterVersion(*series),
            Content::Members(change) => {
                let (id, member) = v2_store::changed_member(change);
                if !member.name.is_empty() {
                    self.member_names.insert(id, member.name);
                }
                Kept::Members(change.to_vec())
            }
            Content::Other => return,
        };
        self.entries.push((index, kept));
    }

    fn finish(self) -> LogContents {
        let mut contents = LogContents {
            snapshot: self.snapshot,
            member_names: self.member_names,
            ..LogContents::default()
        };
        for (index, kept) in self.entries {
            match kept {
                Kept::ClusterVersion(series) => contents.cluster_versions.push((index, series)),
                Kept::Members(change) => contents.v2_changes.push(V2Change::Members(change)),
                Kept::V2 { replayed_by, request } => {
                    let until = Facts::current().replayed_until(replayed_by);
                    contents.replayed_until =
                        contents.replayed_until.into_iter().chain([until]).min();
                    let version = entry::cluster_version(&request);
                    contents.cluster_versions.extend(version.map(|series| (index, series)));
                    contents.v2_changes.push(V2Change::Request(request));
                }
            }
        }
        contents
    }
}

#[cfg(test)]
impl LogContents {
    /// A log in which the cluster has agreed on these versions, each with the index of its entry.
    pub fn agreed(versions: impl IntoIterator<Item = (u64, Series)>) -> Self {
        Self { cluster_versions: versions.into_iter().collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
