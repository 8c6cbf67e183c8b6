//! The records of a log file (`walpb.Record`), each after its length in eight bytes, up to a length
//! of zero. A damaged length ends the file here; whether etcd reads a record is a question of its
//! checksum, which only those look at who ask.

use std::io::{self, Read};

use crate::inspect::crc32c::crc32c;
use crate::inspect::protobuf;
use crate::inspect::raft_snapshot::SnapshotName;

/// In bytes. By default a server accepts no request of this size, while a damaged length may be as
/// long as the file.
const LONGEST_RECORD: u64 = 16 << 20;

/// A record that says something about the state of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A raft entry (`raftpb.Entry`).
    Entry(&'a [u8]),
    /// The last entry that is known to be committed (`raftpb.HardState`).
    Committed(u64),
    /// A raft snapshot was taken, or received (`walpb.Snapshot`).
    Snapshot(SnapshotName),
    /// More than [`LONGEST_RECORD`], so it was not read.
    TooLong,
    /// Something else.
    Other,
}

/// A record in its file.
#[derive(Debug)]
pub struct Framed<'a> {
    pub record: Record<'a>,
    data: &'a [u8],
    checksum: u32,
    /// That of the record before it, which this one continues. Every file begins with a record that
    /// has no data and this checksum.
    before: Option<u32>,
}

impl Framed<'_> {
    /// Whether its checksum is right, if that of the record before it was. etcd replays no other.
    pub fn is_whole(&self) -> bool {
        match self.before {
            Some(before) => crc32c(before, self.data) == self.checksum,
            None => self.record == Record::Other && self.data.is_empty(),
        }
    }
}

/// `walpb.Record.Type`.
const ENTRY: u64 = 2;
const STATE: u64 = 3;
const SNAPSHOT: u64 = 5;

/// Calls `visit` with each record of a file, in order. `checksum` is that of the record before, and
/// afterwards that of the last one; `None` if it is not known.
pub fn each(
    mut source: impl Read,
    size_bytes: u64,
    checksum: &mut Option<u32>,
    visit: &mut dyn FnMut(&Framed<'_>),
) -> io::Result<()> {
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
            *checksum = None;
            visit(&Framed { record: Record::TooLong, data: &[], checksum: 0, before: None });
            continue;
        }
        record.clear();
        content.read_to_end(&mut record)?;
        record.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        let framed = parse(&record, *checksum);
        visit(&framed);
        *checksum = Some(framed.checksum);
    }
    Ok(())
}

fn parse(record: &[u8], before: Option<u32>) -> Framed<'_> {
    let data = protobuf::bytes(record, 3).unwrap_or_default();
    let [kind, checksum] = [1, 2].map(|field| protobuf::number(record, field));
    let record = match kind {
        ENTRY => Record::Entry(data),
        STATE => Record::Committed(protobuf::number(data, 3)),
        SNAPSHOT => {
            let [index, term] = [1, 2].map(|field| protobuf::number(data, field));
            Record::Snapshot(SnapshotName { term, index })
        }
        _ => Record::Other,
    };
    // A larger number is none that etcd has written.
    Framed { record, data, checksum: u32::try_from(checksum).unwrap_or_default(), before }
}
