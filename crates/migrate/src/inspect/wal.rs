//! Reads the write-ahead log in `member/wal`, as far as one question needs it: what will the next
//! server replay that it does not understand?
//!
//! A file is a row of records, each after its length in eight bytes, up to a length of zero. What
//! is damaged ends a file here; to judge that is etcd's own affair, which keeps sums over it all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::inspect::protobuf;

/// Longer than any request that a server lets in, unless it was told otherwise; a damaged length may
/// be as long as the file.
const LONGEST_RECORD: u64 = 16 << 20;

/// `walpb.Record.Type`.
const ENTRY: u64 = 2;
const SNAPSHOT: u64 = 5;

/// Whether the next server will replay requests of etcd's old API that etcd 3.6 and later refuse:
/// all but a member's attributes and the cluster version. etcd 3.4 logs one each time somebody
/// asks for `/health`, and they stay in the log until a raft snapshot has been written after them.
pub fn replays_v2_requests(member: &Path) -> io::Result<bool> {
    let mut log = LogReader::default();
    for path in files(&member.join("wal"), "wal")? {
        let file = File::open(&path)?;
        let size_bytes = file.metadata()?.len();
        log.read(BufReader::with_capacity(1 << 16, file), size_bytes)?;
    }
    let snapshots = files(&member.join("snap"), "snap")?;
    let taken = snapshots.iter().filter_map(|path| index_of(path)).collect();
    Ok(log.replays_refused(&taken))
}

/// The index of a raft snapshot, the second number of its name `<term>-<index>.snap`.
fn index_of(path: &Path) -> Option<u64> {
    let (_, index) = path.file_stem()?.to_str()?.split_once('-')?;
    u64::from_str_radix(index, 16).ok()
}

/// Files of one kind in the order of their names, which is that of their content.
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
    /// The indexes of entries that are refused, ascending.
    refused: Vec<u64>,
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
                // A new leader writes over what its predecessor could not commit.
                while self.refused.last().is_some_and(|last| *last >= index) {
                    self.refused.pop();
                }
                let is_normal = protobuf::number(data, 1) == 0;
                if is_normal && protobuf::bytes(data, 4).is_some_and(is_refused) {
                    self.refused.push(index);
                }
            }
            SNAPSHOT => {
                self.snapshots.insert(protobuf::number(data, 1));
            }
            _ => {}
        }
    }

    /// `taken` are the snapshots that exist as files. The newest that the log knows counts.
    fn replays_refused(&self, taken: &BTreeSet<u64>) -> bool {
        let start = self.snapshots.intersection(taken).last().copied().unwrap_or(0);
        self.refused.last().is_some_and(|last| *last > start)
    }
}

/// Whether a request is one of the old API that etcd 3.6 cannot translate. It comes bare, as 3.4
/// writes it, or as the second field of a newer request; other requests have no such field.
fn is_refused(request: &[u8]) -> bool {
    let Some(second) = protobuf::bytes(request, 2) else { return false };
    let is_method = !second.is_empty() && second.iter().all(u8::is_ascii_uppercase);
    let (method, path) = if is_method {
        (Some(second), protobuf::bytes(request, 3))
    } else {
        (protobuf::bytes(second, 2), protobuf::bytes(second, 3))
    };
    let path = String::from_utf8_lossy(path.unwrap_or_default());
    method != Some(b"PUT") || !(path == "/0/version" || is_attributes(&path))
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
    fn check(records: &[Vec<u8>], taken: &[u64], expected: bool) {
        let mut log = LogReader::default();
        let file = file(records);
        log.read(&file[..], file.len() as u64).unwrap();
        assert_eq!(log.replays_refused(&taken.iter().copied().collect()), expected);
    }

    #[test]
    fn requests_of_the_old_api_are_found() {
        let health = request("QGET", "");
        check(&[entry(4, &health)], &[], true);
        check(&[entry(4, &field(2, &health))], &[], true);
        check(&[entry(4, &request("PUT", "/1/key"))], &[], true);
        check(&[entry(4, &request("SYNC", ""))], &[], true);
        check(&[], &[], false);
    }

    #[test]
    fn requests_that_newer_etcds_translate_are_none_of_them() {
        let attributes = request("PUT", "/0/members/8e9e05c52164694d/attributes");
        check(&[entry(4, &attributes)], &[], false);
        check(&[entry(4, &field(2, &attributes))], &[], false);
        check(&[entry(4, &request("PUT", "/0/version"))], &[], false);
        // A put of the new API.
        check(&[entry(4, &field(4, b"key and value"))], &[], false);
    }

    #[test]
    fn what_a_snapshot_covers_is_not_replayed() {
        let health = request("QGET", "");
        let records = [entry(4, &health), snapshot(5), entry(6, &field(4, b"put"))];
        check(&records, &[5], false);
        // A snapshot whose file or whose record is missing is not used.
        check(&records, &[], true);
        check(&records, &[9], true);
        check(&[snapshot(5), entry(6, &health)], &[5], true);
    }

    #[test]
    fn entries_that_were_written_over_do_not_count() {
        let put = field(4, b"put");
        let health = request("QGET", "");
        check(&[entry(3, &health), entry(4, &health), entry(3, &put)], &[], false);
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
        assert!(!log.replays_refused(&BTreeSet::new()));
    }
}
