//! Reads the write-ahead log in `member/wal`, as far as one question needs it: up to which minor
//! version can a server replay it?
//!
//! A file is a sequence of records, each after its length in eight bytes, up to a length of zero. A
//! damaged record ends the file here. Only etcd itself checks the checksums.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::inspect::protobuf;
use etcd_version::facts::Requests;
use etcd_version::{Facts, Series};

/// In bytes. By default a server accepts no request of this size, while a damaged length may be as
/// long as the file.
const LONGEST_RECORD: u64 = 16 << 20;

/// `walpb.Record.Type`.
const ENTRY: u64 = 2;
const SNAPSHOT: u64 = 5;

/// The last minor version that can replay the log, or `None` if every later one can. Requests count
/// from the newest raft snapshot on, since a server replays nothing older.
pub fn replayed_until(member: &Path) -> io::Result<Option<Series>> {
    let mut log = LogReader::default();
    for path in files(&member.join("wal"), "wal")? {
        let file = File::open(&path)?;
        let size_bytes = file.metadata()?.len();
        log.read(BufReader::with_capacity(1 << 16, file), size_bytes)?;
    }
    let snapshots = files(&member.join("snap"), "snap")?;
    let taken = snapshots.iter().filter_map(|path| index_of(path)).collect();
    Ok(log.replayed_until(&taken))
}

/// The index of a raft snapshot, the second number of its name `<term>-<index>.snap`.
fn index_of(path: &Path) -> Option<u64> {
    let (_, index) = path.file_stem()?.to_str()?.split_once('-')?;
    u64::from_str_radix(index, 16).ok()
}

/// Files with an extension, sorted by name, which is the order of their content.
fn files(directory: &Path, kind: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == kind) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[derive(Debug, Default)]
struct LogReader {
    /// Requests of the v2 API: the index, ascending, and the last minor version that replays it.
    old: Vec<(u64, Series)>,
    /// The indexes of snapshots that the log knows of.
    snapshots: BTreeSet<u64>,
}

impl LogReader {
    fn read(&mut self, mut source: impl Read, size_bytes: u64) -> io::Result<()> {
        let mut left = size_bytes;
        let mut frame = [0; 8];
        let mut record = Vec::new();
        while left >= 8 {
            source.read_exact(&mut frame)?;
            left -= 8;
            let field = u64::from_le_bytes(frame);
            // The first bit says that three bits after it count bytes of padding.
            let padding = if field >> 63 == 1 { field >> 56 & 7 } else { 0 };
            let length = field & ((1 << 56) - 1);
            if field == 0 || length.saturating_add(padding) > left {
                break;
            }
            left -= length + padding;
            let mut content = source.by_ref().take(length + padding);
            if length > LONGEST_RECORD {
                io::copy(&mut content, &mut io::sink())?;
                continue;
            }
            record.clear();
            content.read_to_end(&mut record)?;
            record.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            self.add(&record);
        }
        Ok(())
    }

    fn add(&mut self, record: &[u8]) {
        let data = protobuf::bytes(record, 3).unwrap_or_default();
        match protobuf::number(record, 1) {
            ENTRY => {
                let index = protobuf::number(data, 3);
                // A new leader overwrites entries that were not committed.
                while self.old.last().is_some_and(|(last, _)| *last >= index) {
                    self.old.pop();
                }
                let is_normal = protobuf::number(data, 1) == 0;
                let request = protobuf::bytes(data, 4).filter(|_| is_normal);
                if let Some(until) = request.and_then(request_until) {
                    self.old.push((index, until));
                }
            }
            SNAPSHOT => {
                self.snapshots.insert(protobuf::number(data, 1));
            }
            _ => {}
        }
    }

    /// `taken` are the snapshots that exist as files. The newest one that is also in the log
    /// counts.
    fn replayed_until(&self, taken: &BTreeSet<u64>) -> Option<Series> {
        let start = self.snapshots.intersection(taken).last().copied().unwrap_or(0);
        let replayed = self.old.iter().rev().take_while(|(index, _)| *index > start);
        replayed.map(|(_, until)| *until).min()
    }
}

/// The last minor version that replays a request, or `None` for a request of the v3 API. One of the
/// v2 API comes bare, as 3.4 writes it, or as the second field of a newer request; requests of the
/// v3 API have no such field.
fn request_until(request: &[u8]) -> Option<Series> {
    let second = protobuf::bytes(request, 2)?;
    let is_method = !second.is_empty() && second.iter().all(u8::is_ascii_uppercase);
    let (method, path) = if is_method {
        (Some(second), protobuf::bytes(request, 3))
    } else {
        (protobuf::bytes(second, 2), protobuf::bytes(second, 3))
    };
    let path = String::from_utf8_lossy(path.unwrap_or_default());
    let is_converted = method == Some(b"PUT") && (path == "/0/version" || is_attributes(&path));
    let requests = if is_converted { Requests::Converted } else { Requests::V2 };
    Some(Facts::compiled_in().replayed_until(requests))
}

/// `/0/members/8e9e05c52164694d/attributes`.
fn is_attributes(path: &str) -> bool {
    let id = path.strip_prefix("/0/members/").and_then(|rest| rest.strip_suffix("/attributes"));
    id.is_some_and(|id| id.len() <= 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn numbers(pairs: &[(u8, u8)]) -> Vec<u8> {
        pairs.iter().flat_map(|(number, value)| [number << 3, *value]).collect()
    }

    fn request(method: &str, path: &str) -> Vec<u8> {
        [numbers(&[(1, 7)]), field(2, method.as_bytes()), field(3, path.as_bytes())].concat()
    }

    fn entry(index: u8, request: &[u8]) -> Vec<u8> {
        let entry = [numbers(&[(1, 0), (2, 1), (3, index)]), field(4, request)].concat();
        [numbers(&[(1, 2), (2, 0)]), field(3, &entry)].concat()
    }

    fn snapshot(index: u8) -> Vec<u8> {
        [numbers(&[(1, 5), (2, 0)]), field(3, &numbers(&[(1, index), (2, 1)]))].concat()
    }

    /// As etcd frames records: padded to eight bytes, and zeros up to the end of the file.
    fn file(records: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Vec::new();
        for record in records {
            let padding = (8 - record.len() % 8) % 8;
            let mark = if padding == 0 { 0 } else { (0x80 | padding as u64) << 56 };
            file.extend((record.len() as u64 | mark).to_le_bytes());
            file.extend(record);
            file.resize(file.len() + padding, 0);
        }
        file.resize(file.len() + 64, 0);
        file
    }

    #[track_caller]
    fn check(records: &[Vec<u8>], taken: &[u64], expected: Option<Series>) {
        let mut log = LogReader::default();
        let file = file(records);
        log.read(&file[..], file.len() as u64).unwrap();
        assert_eq!(log.replayed_until(&taken.iter().copied().collect()), expected);
    }

    const V2_STORE: Option<Series> = Some(Series::new(3, 5));
    const CONVERTED: Option<Series> = Some(Series::new(3, 6));

    #[test]
    fn requests_of_the_v2_api_end_at_3_5() {
        let health = request("QGET", "");
        check(&[entry(4, &health)], &[], V2_STORE);
        check(&[entry(4, &field(2, &health))], &[], V2_STORE);
        check(&[entry(4, &request("PUT", "/1/key"))], &[], V2_STORE);
        check(&[entry(4, &request("SYNC", ""))], &[], V2_STORE);
        // Another key than the attributes of a member, and another method than PUT.
        check(&[entry(4, &request("PUT", "/0/members/8e9e/raftAttributes"))], &[], V2_STORE);
        check(&[entry(4, &request("DELETE", "/0/version"))], &[], V2_STORE);
        check(&[], &[], None);
    }

    #[test]
    fn requests_that_3_6_converts_end_there() {
        let attributes = request("PUT", "/0/members/8e9e05c52164694d/attributes");
        check(&[entry(4, &attributes)], &[], CONVERTED);
        check(&[entry(4, &field(2, &attributes))], &[], CONVERTED);
        check(&[entry(4, &request("PUT", "/0/version"))], &[], CONVERTED);
        // A put of the v3 API.
        check(&[entry(4, &field(4, b"key and value"))], &[], None);
    }

    #[test]
    fn the_oldest_request_that_is_replayed_decides() {
        let (health, version) = (request("QGET", ""), request("PUT", "/0/version"));
        check(&[entry(4, &health), entry(5, &version)], &[], V2_STORE);
        check(&[entry(4, &version), entry(5, &health)], &[], V2_STORE);
        check(&[entry(4, &health), snapshot(4), entry(5, &version)], &[4], CONVERTED);
    }

    #[test]
    fn what_a_snapshot_covers_is_not_replayed() {
        let health = request("QGET", "");
        let records = [entry(4, &health), snapshot(5), entry(6, &field(4, b"put"))];
        check(&records, &[5], None);
        // A snapshot whose file or whose record is missing is not used.
        check(&records, &[], V2_STORE);
        check(&records, &[9], V2_STORE);
        check(&[snapshot(5), entry(6, &health)], &[5], V2_STORE);
    }

    #[test]
    fn entries_that_were_written_over_do_not_count() {
        let put = field(4, b"put");
        let health = request("QGET", "");
        check(&[entry(3, &health), entry(4, &health), entry(3, &put)], &[], None);
    }

    #[test]
    fn damage_ends_a_file_and_nothing_else() {
        let whole = file(&[entry(4, &request("QGET", "")), snapshot(5)]);
        for length in 0..whole.len() {
            let mut log = LogReader::default();
            let _ = log.read(&whole[..length], length as u64);
        }
        let mut log = LogReader::default();
        log.read(&[0xff; 100][..], 100).unwrap();
        assert_eq!(log.replayed_until(&BTreeSet::new()), None);
    }
}
