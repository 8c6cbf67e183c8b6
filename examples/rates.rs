//! Single-thread rates of what a build cannot do without, on the files that are named: the floor
//! that `scripts/bench` compares with is made of them. Prints JSON: bytes a second, and sizes after compression.

use std::hint::black_box;

use libdeflater::{CompressionLvl, Compressor, Decompressor};

use etcdimg::digest::Digest;
use etcdimg::layer::format::Compression;

const CHUNK: usize = 1 << 20;
const N_ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths = std::env::args_os().skip(1);
    let files = paths.map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let n_bytes = files.iter().map(Vec::len).sum();
    let (mut rates, mut sizes) = (serde_json::Map::new(), serde_json::Map::new());
    let mut measure = |name: &str, work: &mut dyn FnMut()| -> std::io::Result<()> {
        rates.insert(name.to_owned(), best(n_bytes, work)?.into());
        Ok(())
    };
    measure("sha256", &mut || {
        for file in &files {
            black_box(Digest::of(file));
        }
    })?;
    for level in [1, 4, 6, 9] {
        let mut compressor = Compressor::new(CompressionLvl::new(level).map_err(|_| "level")?);
        let mut out = vec![0; compressor.deflate_compress_bound(CHUNK)];
        let mut size = 0_usize;
        measure(&format!("deflate{level}"), &mut || {
            let chunks = files.iter().flat_map(|file| file.chunks(CHUNK));
            size = chunks.filter_map(|it| compressor.deflate_compress(it, &mut out).ok()).sum();
        })?;
        sizes.insert(format!("deflate{level}"), size.into());
    }
    let mut compressor =
        Compressor::new(CompressionLvl::new(Compression::Gzip.level()).map_err(|_| "level")?);
    let gzipped = |file: &Vec<u8>| {
        let mut out = vec![0; compressor.gzip_compress_bound(file.len())];
        let n = compressor.gzip_compress(file, &mut out).unwrap_or(0);
        out.truncate(n);
        out
    };
    let archives: Vec<_> = files.iter().map(gzipped).collect();
    let mut out = vec![0; files.iter().map(Vec::len).max().unwrap_or(0)];
    measure("gunzip", &mut || {
        for archive in &archives {
            let n = Decompressor::new().gzip_decompress(archive, &mut out);
            black_box(n.is_ok());
        }
    })?;
    black_box(&out);
    #[expect(clippy::disallowed_macros, reason = "an example has no ui")]
    {
        println!("{}", serde_json::json!({ "bytes": n_bytes, "rates": rates, "sizes": sizes }));
    }
    Ok(())
}

/// By the time that this thread had a core, because others may be using them, too.
fn best(n_bytes: usize, work: &mut dyn FnMut()) -> std::io::Result<f64> {
    let mut shortest = f64::INFINITY;
    for _ in 0..N_ROUNDS {
        let before = core_seconds()?;
        work();
        shortest = shortest.min(core_seconds()? - before);
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok((n_bytes as f64 / shortest).round())
}

fn core_seconds() -> std::io::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().and_then(|it| it.parse::<f64>().ok());
    Ok(nanoseconds.unwrap_or(0.0) / 1e9)
}
