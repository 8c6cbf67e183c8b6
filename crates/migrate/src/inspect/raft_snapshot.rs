//! The raft snapshots in `member/snap`.

use std::fs;
use std::io;
use std::path::Path;

use crate::inspect::crc32c::crc32c;
use crate::inspect::protobuf;

/// The name of a raft snapshot, `<term>-<index>.snap` in 16 hexadecimal digits each. Ordered by
/// age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName {
    pub term: u64,
    /// The last entry that it covers.
    pub index: u64,
}

impl SnapshotName {
    fn parse(name: &str) -> Option<Self> {
        let (term, index) = name.strip_suffix(".snap")?.split_once('-')?;
        let number = |text: &str| {
            let is_number = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(text, 16).ok().filter(|_| is_number)
        };
        Some(Self { term: number(term)?, index: number(index)? })
    }

    pub fn file_name(self) -> String {
        format!("{:016x}-{:016x}.snap", self.term, self.index)
    }
}

/// All raft snapshots, in no order. What somebody else has put there under another name, or as a
/// directory, is not one: etcd does not read it either.
pub fn names(snap_dir: &Path) -> io::Result<Vec<SnapshotName>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(snap_dir)? {
        let entry = entry?;
        let name = entry.file_name().to_str().and_then(SnapshotName::parse);
        let is_file = fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file());
        names.extend(name.filter(|_| is_file));
    }
    Ok(names)
}

/// The newest one.
pub fn newest(snap_dir: &Path) -> Option<SnapshotName> {
    names(snap_dir).ok()?.into_iter().max()
}

/// What the state machine has stored in a file (`raftpb.Snapshot.Data`): from etcd 3.0 on the tree
/// of the v2 API. An error if the file is damaged.
pub fn content(path: &Path) -> io::Result<Vec<u8>> {
    let damaged = || {
        let what = format!("{} is damaged", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    content_of(&fs::read(path)?).ok_or_else(damaged)
}

/// `snappb.Snapshot`, and in it `raftpb.Snapshot`.
fn content_of(file: &[u8]) -> Option<Vec<u8>> {
    let snapshot = protobuf::bytes(file, 2)?;
    let is_whole = protobuf::number(file, 1) == u64::from(crc32c(0, snapshot));
    protobuf::bytes(snapshot, 1).filter(|_| is_whole).map(<[u8]>::to_vec)
}

/// The bytes of a file that holds `content`.
#[cfg(test)]
pub fn sample(content: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    };
    let snapshot = field(1, content);
    let mut checksum = vec![8];
    let mut rest = crc32c(0, &snapshot);
    while rest > 0x7f {
        checksum.push((rest & 0x7f | 0x80).to_le_bytes()[0]);
        rest >>= 7;
    }
    checksum.push(rest.to_le_bytes()[0]);
    [checksum, field(2, &snapshot)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_checksum_is_damaged() {
        let mut file = sample(b"{}");
        assert_eq!(content_of(&file).unwrap(), b"{}");
        file[1] ^= 1;
        assert_eq!(content_of(&file), None);
    }

    #[test]
    fn only_names_that_etcd_writes_count() {
        let scratch = crate::scratch::ScratchDirectory::new();
        let good = "0000000000000002-000000000000000a.snap";
        for name in [
            good,
            "0000000000000002-000000000000000b.snap.broken",
            "000000000000000b.snap.db",
            "2-c.snap",
            "copy of 0000000000000002-000000000000000d.snap",
            "+000000000000002-000000000000000d.snap",
            "0000000000000002-000000000000000e.snap/x",
        ] {
            scratch.write(name, b"");
        }
        let names = names(scratch.path()).unwrap();
        assert_eq!(names, [SnapshotName { term: 2, index: 10 }]);
        assert_eq!(names[0].file_name(), good);
    }
}
