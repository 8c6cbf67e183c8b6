//! Writes one gzip member (RFC 1952) as a stream, with a compressor that takes whole buffers.
//!
//! The input is cut every [`CHUNK`] bytes, each chunk is compressed by libdeflate alone, and the
//! streams are joined with an empty stored block between them, as zlib's Z_SYNC_FLUSH does. So a
//! layer is never in memory as a whole, every reader accepts the result, and the bytes depend on
//! the input only.

use std::io::{self, Write};

use libdeflater::{CompressionLvl, Compressor, Crc};

use super::deflate;

/// Part of the format: another size means other bytes.
const CHUNK: usize = 1 << 20;

/// deflate, no flags, no time, no extra flags, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Compresses what is written to it. [`GzipWriter::finish`] must be called.
pub struct GzipWriter<W> {
    inner: W,
    compressor: Compressor,
    crc: Crc,
    size: u32,
    chunk: Vec<u8>,
    compressed: Vec<u8>,
}

impl<W: Write> GzipWriter<W> {
    pub fn new(mut inner: W, level: i32) -> io::Result<Self> {
        inner.write_all(&HEADER)?;
        let level = CompressionLvl::new(level)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no such gzip level"))?;
        let mut compressor = Compressor::new(level);
        let compressed = vec![0; compressor.deflate_compress_bound(CHUNK)];
        let chunk = Vec::with_capacity(CHUNK);
        Ok(Self { inner, compressor, crc: Crc::new(), size: 0, chunk, compressed })
    }

    /// Writes the last chunk and the trailer.
    pub fn finish(mut self) -> io::Result<W> {
        let n = self.compress()?;
        self.inner.write_all(&self.compressed[..n])?;
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.size.to_le_bytes())?;
        Ok(self.inner)
    }

    fn compress(&mut self) -> io::Result<usize> {
        self.crc.update(&self.chunk);
        // ISIZE is the size modulo 2^32, by the RFC; a chunk is far smaller than that.
        self.size =
            self.size.wrapping_add(u32::try_from(self.chunk.len()).map_err(io::Error::other)?);
        let n = self.compressor.deflate_compress(&self.chunk, &mut self.compressed);
        self.chunk.clear();
        n.map_err(io::Error::other)
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        let n = self.compress()?;
        let last = deflate::last_block(&self.compressed[..n])
            .ok_or_else(|| io::Error::other("libdeflate wrote a stream that cannot be read"))?;
        self.compressed[last.start / 8] &= !(1 << (last.start % 8));
        self.inner.write_all(&self.compressed[..n])?;
        self.inner.write_all(empty_stored_block(last.end))
    }
}

/// Ends a stream at a byte boundary. The three header bits of a stored block are zero, and so is
/// the padding after `end`, so the header is there already unless fewer than three bits are left.
fn empty_stored_block(end: usize) -> &'static [u8] {
    const BLOCK: [u8; 5] = [0, 0, 0, 0xff, 0xff];
    let padding = (8 - end % 8) % 8;
    if padding >= 3 { &BLOCK[1..] } else { &BLOCK }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk is written when the next byte comes, so that the last chunk is not empty
        // (unless the whole input is).
        if self.chunk.len() == CHUNK {
            self.write_chunk()?;
        }
        let n = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W> std::fmt::Debug for GzipWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GzipWriter").field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn gzip(bytes: &[u8], level: i32) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new(), level).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    /// `GzDecoder` reads one member alone, `libdeflate` refuses bytes behind it.
    #[track_caller]
    fn check(bytes: &[u8], level: i32) {
        let compressed = gzip(bytes, level);
        let mut streamed = Vec::new();
        flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut streamed).unwrap();
        assert!(streamed == bytes);
        let mut whole = vec![0; bytes.len()];
        libdeflater::Decompressor::new().gzip_decompress(&compressed, &mut whole).unwrap();
        assert!(whole == bytes);
    }

    #[test]
    fn sizes_around_the_chunk_are_one_member() {
        for n in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17] {
            let bytes: Vec<_> = (0..n).map(|i| ((i * i) >> 7).to_le_bytes()[0]).collect();
            for level in [1, 6] {
                check(&bytes, level);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_bytes_come_back(seed in any::<u64>(), n in 0_usize..(3 << 20), runs in 1_usize..500) {
            let mut state = seed | 1;
            let mut bytes = Vec::with_capacity(n);
            while bytes.len() < n {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let length = (usize::try_from(state >> 33).unwrap() % runs + 1).min(n - bytes.len());
                bytes.extend(std::iter::repeat_n(state.to_le_bytes()[3], length));
            }
            check(&bytes, 6);
        }
    }
}
