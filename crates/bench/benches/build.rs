//! What a build spends its time on: `cargo bench -p etcdimg-bench`. Each case shows bytes of input
//! per second. For whole builds beside other tools there is `scripts/bench`.

use std::io::{self, Cursor, Write as _};

use divan::Bencher;
use divan::counter::BytesCount;
use etcdimg::layer::format::Compression;
use etcdimg::layer::{GzipWriter, LayerWriter, last_block};
use etcdimg::program::{Expected, Identity, check};
use etcdimg_bench::program_like;
use oci::{Digest, Platform};
use store::Store;

const MIB: usize = 1 << 20;

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 10)]
fn sha256(bencher: Bencher<'_, '_>) {
    let bytes = program_like(8 * MIB);
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| Digest::of(divan::black_box(&bytes)));
}

/// Deflate, and joining its chunks.
#[divan::bench(args = [1, 4, 6], sample_count = 10)]
fn gzip(bencher: Bencher<'_, '_>, level: i32) {
    let bytes = program_like(8 * MIB);
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| {
        let mut writer = GzipWriter::new(io::sink(), level).expect("a level of libdeflate");
        writer.write_all(divan::black_box(&bytes)).expect("a sink takes everything");
        writer.finish().map(drop).expect("a sink takes everything");
    });
}

/// Joining alone: the scan of the symbols of one chunk. Bytes are those of the stream.
#[divan::bench(sample_count = 10)]
fn last_block_of_a_chunk(bencher: Bencher<'_, '_>) {
    let mut encoder =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&program_like(MIB)).expect("written to memory");
    let stream = encoder.finish().expect("written to memory");
    bencher
        .counter(BytesCount::of_slice(&stream))
        .bench(|| last_block(divan::black_box(&stream)).expect("a whole stream"));
}

/// A layer of one program into the store: tar, diff ID, compression, digest, file.
#[divan::bench(args = [Compression::Gzip, Compression::Zstd], sample_count = 5)]
fn layer(bencher: Bencher<'_, '_>, compression: Compression) {
    let bytes = program_like(16 * MIB);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path()).expect("an empty store");
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| {
        let mut writer = LayerWriter::new(&store, compression, 0).expect("a new layer");
        let size = u64::try_from(bytes.len()).expect("fits");
        let path = "usr/local/bin/etcd-3.6.14";
        writer.file(path, 0o555, size, &mut Cursor::new(&bytes)).expect("one file");
        writer.finish().expect("a layer")
    });
}

/// The checks of a program: header, linkage, Go's build info and the version.
#[divan::bench(args = ["linux/amd64", "windows/amd64:ltsc2022"], sample_count = 10)]
fn program_check(bencher: Bencher<'_, '_>, platform: &str) {
    let header: &[u8] = if platform.starts_with("linux") {
        include_bytes!("../../../fuzz/seeds/program/elf-go")
    } else {
        include_bytes!("../../../fuzz/seeds/program/pe-go")
    };
    let program = [header, &program_like(16 * MIB)].concat();
    let platform: Platform = platform.parse().expect("a known platform");
    let content = Identity::Etcd {
        program: "etcd",
        version: "3.6.14",
        go: "1.25.12",
        commit: "fc04cf702b0a46c2fd85547a2be05705b100a496",
    };
    let expected = Expected { name: "etcd-3.6.14", platform: &platform, content };
    bencher
        .counter(BytesCount::of_slice(&program))
        .bench(|| check(divan::black_box(&program), &expected));
}
