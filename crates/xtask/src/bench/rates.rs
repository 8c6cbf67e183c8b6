//! The single-thread speed of the steps that every build needs, on given files. The lower bound
//! ("floor") that a build is compared with is computed from it.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use etcdimg::digest::Digest;
use etcdimg::layer::format::Compression;
use libdeflater::{CompressionLvl, Compressor, Decompressor};

use crate::error::{Result, TaskError};

const CHUNK: usize = 1 << 20;
const N_ROUNDS: usize = 3;
const LEVELS: [i32; 4] = [1, 4, 6, 9];

/// Bytes per second of each step, and sizes after compression.
#[derive(Debug)]
pub struct Rates {
    /// Of all files together.
    pub n_bytes: usize,
    pub speeds: Vec<(String, f64)>,
    pub sizes: Vec<(String, usize)>,
}

impl Rates {
    pub fn speed(&self, name: &str) -> f64 {
        self.speeds.iter().find(|(known, _)| known == name).map_or(f64::NAN, |(_, speed)| *speed)
    }

    pub fn size(&self, name: &str) -> usize {
        self.sizes.iter().find(|(known, _)| known == name).map_or(0, |(_, size)| *size)
    }
}

/// The name of a compression level in the report.
pub fn deflate(level: i32) -> String {
    format!("deflate{level}")
}

pub fn measure(paths: &[PathBuf]) -> Result<Rates> {
    let files = paths.iter().map(fs::read).collect::<std::io::Result<Vec<_>>>()?;
    let n_bytes = files.iter().map(Vec::len).sum();
    let mut rates = Rates { n_bytes, speeds: Vec::new(), sizes: Vec::new() };
    rates.add("sha256", &mut || {
        for file in &files {
            black_box(Digest::of(file));
        }
    })?;
    for level in LEVELS {
        let mut compressor = compressor(level)?;
        let mut out = vec![0; compressor.deflate_compress_bound(CHUNK)];
        let mut size = 0_usize;
        rates.add(&deflate(level), &mut || {
            let chunks = files.iter().flat_map(|file| file.chunks(CHUNK));
            size = chunks.filter_map(|it| compressor.deflate_compress(it, &mut out).ok()).sum();
        })?;
        rates.sizes.push((deflate(level), size));
    }
    let archives = files.iter().map(|file| gzip(file)).collect::<Result<Vec<_>>>()?;
    let mut out = vec![0; files.iter().map(Vec::len).max().unwrap_or(0)];
    rates.add("gunzip", &mut || {
        for archive in &archives {
            let n = Decompressor::new().gzip_decompress(archive, &mut out);
            black_box(n.is_ok());
        }
    })?;
    black_box(&out);
    Ok(rates)
}

impl Rates {
    fn add(&mut self, name: &str, work: &mut dyn FnMut()) -> Result<()> {
        let speed = best(self.n_bytes, work)?;
        self.speeds.push((name.to_owned(), speed));
        Ok(())
    }
}

fn compressor(level: i32) -> Result<Compressor> {
    let level = CompressionLvl::new(level).map_err(|_| TaskError::new("no such level of gzip"))?;
    Ok(Compressor::new(level))
}

fn gzip(file: &[u8]) -> Result<Vec<u8>> {
    let mut compressor = compressor(Compression::Gzip.level())?;
    let mut out = vec![0; compressor.gzip_compress_bound(file.len())];
    let n = compressor.gzip_compress(file, &mut out)?;
    out.truncate(n);
    Ok(out)
}

/// By the CPU time of this thread, because other programs may use the cores, too.
fn best(n_bytes: usize, work: &mut dyn FnMut()) -> Result<f64> {
    let mut shortest = f64::INFINITY;
    for _ in 0..N_ROUNDS {
        let before = core_seconds()?;
        work();
        shortest = shortest.min(core_seconds()? - before);
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok((n_bytes as f64 / shortest).round())
}

fn core_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().and_then(|it| it.parse::<f64>().ok());
    Ok(nanoseconds.unwrap_or(0.0) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![7; 3 << 20]).unwrap();
        let rates = measure(&[path]).unwrap();
        assert_eq!(rates.n_bytes, 3 << 20);
        for name in ["sha256", "deflate1", "deflate4", "deflate6", "deflate9", "gunzip"] {
            assert!(rates.speed(name) > 0.0, "{name}");
        }
        assert!(rates.size("deflate9") > 0 && rates.size("deflate9") < 1 << 20);
    }
}
