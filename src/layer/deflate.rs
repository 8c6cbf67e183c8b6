//! Finds the last block of a raw DEFLATE stream (RFC 1951).
//!
//! libdeflate compresses whole buffers and marks the last block of each as final. To join the
//! streams of several chunks into one, that mark must go from all but the last chunk, so the
//! block's first bit must be found. This scans the symbols without writing anything, about
//! ten times faster than the compressor wrote them.
//! Not responsible for decompressing: the streams are our own and complete.

/// Where the last block begins and where the stream ends, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBlock {
    pub start: usize,
    pub end: usize,
}

const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

/// The order in which code length code lengths are sent (RFC 1951, 3.2.7).
const PRECODE_ORDER: [usize; 19] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

const END_OF_BLOCK: u16 = 256;

/// Finds the last block; `None` if the stream is damaged or truncated.
pub fn last_block(stream: &[u8]) -> Option<LastBlock> {
    let mut bits = Bits { bytes: stream, next: 0, buffer: 0, count: 0 };
    loop {
        let start = bits.position();
        bits.refill();
        let is_final = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => skip_stored(&mut bits)?,
            1 => skip_symbols(&mut bits, &fixed_literals()?, &Code::new(&[5; 30])?)?,
            2 => {
                let (literals, distances) = read_codes(&mut bits)?;
                skip_symbols(&mut bits, &literals, &distances)?;
            }
            _ => return None,
        }
        if is_final {
            return Some(LastBlock { start, end: bits.position() });
        }
    }
}

fn skip_stored(bits: &mut Bits<'_>) -> Option<()> {
    let header = bits.position().div_ceil(8);
    let length = bits.bytes.get(header..header + 2)?;
    let end = header + 4 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    bits.seek(end)
}

fn skip_symbols(bits: &mut Bits<'_>, literals: &Code, distances: &Code) -> Option<()> {
    loop {
        bits.refill();
        let symbol = literals.decode(bits)?;
        if symbol < END_OF_BLOCK {
            continue;
        }
        if symbol == END_OF_BLOCK {
            return Some(());
        }
        let extra = *LENGTH_EXTRA.get(usize::from(symbol) - 257)?;
        bits.take(u32::from(extra))?;
        let distance = u32::from(distances.decode(bits)?);
        bits.take((distance / 2).saturating_sub(1))?;
    }
}

fn fixed_literals() -> Option<Code> {
    let mut lengths = [8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    Code::new(&lengths)
}

fn read_codes(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    let n_literals = bits.take(5)? as usize + 257;
    let n_distances = bits.take(5)? as usize + 1;
    let n_precode = bits.take(4)? as usize + 4;
    let mut precode_lengths = [0; 19];
    for &symbol in &PRECODE_ORDER[..n_precode] {
        bits.refill();
        precode_lengths[symbol] = u8::try_from(bits.take(3)?).ok()?;
    }
    let precode = Code::new(&precode_lengths)?;
    let lengths = read_lengths(bits, &precode, n_literals + n_distances)?;
    let (literals, distances) = lengths.split_at(n_literals);
    Some((Code::new(literals)?, Code::new(distances)?))
}

fn read_lengths(bits: &mut Bits<'_>, precode: &Code, n: usize) -> Option<Vec<u8>> {
    let mut lengths: Vec<u8> = Vec::with_capacity(n);
    while lengths.len() < n {
        bits.refill();
        let (value, repeat) = match precode.decode(bits)? {
            16 => (*lengths.last()?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (u8::try_from(length).ok()?, 1),
        };
        lengths.extend(std::iter::repeat_n(value, repeat as usize));
    }
    (lengths.len() == n).then_some(lengths)
}

/// A canonical Huffman code as one table, indexed by the next bits of the stream.
struct Code {
    /// `symbol << 4 | length`; 0 where no code word begins with these bits.
    table: Vec<u16>,
    mask: u64,
}

impl Code {
    fn new(lengths: &[u8]) -> Option<Self> {
        let longest = u32::from(*lengths.iter().max()?).max(1);
        let mut table = vec![0; 1 << longest];
        let mut code = 0_u32;
        for length in 1..=longest {
            for (symbol, _) in lengths.iter().enumerate().filter(|(_, l)| u32::from(**l) == length)
            {
                if code >> length != 0 {
                    return None;
                }
                // Code words are in the stream with their highest bit first.
                let first = (code.reverse_bits() >> (32 - length)) as usize;
                let entry = u16::try_from(symbol << 4).ok()? | u16::try_from(length).ok()?;
                table.iter_mut().skip(first).step_by(1 << length).for_each(|slot| *slot = entry);
                code += 1;
            }
            code <<= 1;
        }
        Some(Self { table, mask: (1 << longest) - 1 })
    }

    #[inline]
    fn decode(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let entry = self.table[usize::try_from(bits.buffer & self.mask).ok()?];
        let length = u32::from(entry & 15);
        if length == 0 {
            return None;
        }
        bits.take(length)?;
        Some(entry >> 4)
    }
}

/// The stream as bits, lowest first.
struct Bits<'a> {
    bytes: &'a [u8],
    next: usize,
    buffer: u64,
    count: u32,
}

impl Bits<'_> {
    fn position(&self) -> usize {
        self.next * 8 - self.count as usize
    }

    fn seek(&mut self, byte: usize) -> Option<()> {
        (byte <= self.bytes.len()).then(|| {
            self.next = byte;
            self.buffer = 0;
            self.count = 0;
        })
    }

    /// Reads until there are at least 56 bits, or all that are left: enough for one symbol with its
    /// extra bits.
    #[inline]
    fn refill(&mut self) {
        if let Some(Ok(word)) = self.bytes.get(self.next..self.next + 8).map(<[u8; 8]>::try_from) {
            self.buffer |= u64::from_le_bytes(word) << self.count;
            let n_bytes = (63 - self.count) / 8;
            self.next += n_bytes as usize;
            self.count += n_bytes * 8;
            // Bits above `count` came along; they are read again by the next refill.
            self.buffer &= u64::MAX >> (64 - self.count);
        } else {
            while self.count <= 56 && self.next < self.bytes.len() {
                self.buffer |= u64::from(self.bytes[self.next]) << self.count;
                self.next += 1;
                self.count += 8;
            }
        }
    }

    #[inline]
    fn take(&mut self, n: u32) -> Option<u32> {
        if n > self.count {
            return None;
        }
        let value = self.buffer & ((1 << n) - 1);
        self.buffer >>= n;
        self.count -= n;
        u32::try_from(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libdeflater::{CompressionLvl, Compressor};

    fn compress(bytes: &[u8], level: i32) -> Vec<u8> {
        let mut compressor = Compressor::new(CompressionLvl::new(level).unwrap());
        let mut out = vec![0; compressor.deflate_compress_bound(bytes.len())];
        let n = compressor.deflate_compress(bytes, &mut out).unwrap();
        out.truncate(n);
        out
    }

    /// Text-like, random and constant stretches: dynamic, stored and fixed blocks.
    fn sample(n: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut bytes = Vec::with_capacity(n);
        while bytes.len() < n {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let random = state >> 33;
            match (bytes.len() / 70_000) % 3 {
                0 => bytes.extend_from_slice(format!("{:x} etcd ", random % 4096).as_bytes()),
                1 => bytes.extend_from_slice(&random.to_le_bytes()[..4]),
                _ => bytes.push(0),
            }
        }
        bytes.truncate(n);
        bytes
    }

    #[test]
    fn the_end_of_every_stream_is_found() {
        for level in [0, 1, 6, 12] {
            for n in [0, 1, 3, 300, 70_000, 400_000, 1 << 20] {
                let stream = compress(&sample(n), level);
                let last = last_block(&stream).unwrap();
                assert_eq!(last.end.div_ceil(8), stream.len(), "level {level}, {n} bytes");
                assert_eq!(stream[last.start / 8] >> (last.start % 8) & 1, 1);
            }
        }
    }

    #[test]
    fn a_cut_or_damaged_stream_is_no_panic() {
        let stream = compress(&sample(200_000), 6);
        for n in (0..stream.len()).step_by(997) {
            assert_eq!(last_block(&stream[..n]), None);
            let mut damaged = stream.clone();
            damaged[n] ^= 0x55;
            let _ = last_block(&damaged);
        }
    }
}
