//! Reads pages of a file. Most of them lie one behind the other, and then more is read at once.

use std::io::{self, Read, Seek, SeekFrom};

const AHEAD_BYTES: u64 = 64 << 10;

/// A file of a known size.
#[derive(Debug)]
pub struct ReadAhead<R> {
    source: R,
    size_bytes: u64,
    /// Where the bytes lie that were read ahead.
    start: u64,
    bytes: Vec<u8>,
    /// Where the last page ended that was asked for.
    last_end: u64,
}

impl<R: Read + Seek> ReadAhead<R> {
    pub fn new(source: R, size_bytes: u64) -> Self {
        Self { source, size_bytes, start: 0, bytes: Vec::new(), last_end: 0 }
    }

    /// Fills `bytes` with what lies at `start`.
    pub fn read_at(&mut self, start: u64, bytes: &mut [u8]) -> io::Result<()> {
        let is_next = start == self.last_end;
        self.last_end = start.saturating_add(bytes.len() as u64);
        if self.copy(start, bytes) {
            return Ok(());
        }
        self.source.seek(SeekFrom::Start(start))?;
        if !is_next || bytes.len() as u64 >= AHEAD_BYTES {
            return self.source.read_exact(bytes);
        }
        self.start = start;
        self.bytes.clear();
        let left = self.size_bytes.saturating_sub(start);
        self.source.by_ref().take(AHEAD_BYTES.min(left)).read_to_end(&mut self.bytes)?;
        if self.copy(start, bytes) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Whether the bytes were read ahead.
    fn copy(&self, start: u64, bytes: &mut [u8]) -> bool {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let ahead = at.and_then(|at| self.bytes.get(at..)?.get(..bytes.len()));
        ahead.inspect(|ahead| bytes.copy_from_slice(ahead)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_the_one_of_the_file_in_any_order() {
        let mut random = fastrand::Rng::with_seed(1);
        let file: Vec<u8> = (0..300_000).map(|_| random.u8(..)).collect();
        let mut reader = ReadAhead::new(io::Cursor::new(&file), file.len() as u64);
        let mut start = 0;
        for _ in 0..3000 {
            if start >= file.len() || random.u8(..8) == 0 {
                start = random.usize(..file.len());
            }
            let most = if random.u8(..20) == 0 { 100_000 } else { 9_000 };
            let mut bytes = vec![0; random.usize(..most)];
            let end = start + bytes.len();
            let read = reader.read_at(start as u64, &mut bytes);
            match file.get(start..end) {
                Some(expected) => {
                    read.unwrap();
                    assert!(bytes == expected, "{start} {end}");
                }
                None => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
            }
            start = end;
        }
    }
}
