//! A release archive for Linux. What is fuzzed is the tar; the gzip around it is made here.
#![no_main]

use std::io::{Cursor, Write};

use etcdimg::archive::{ArchiveError, read_files};
use flate2::Compression;
use flate2::write::GzEncoder;

libfuzzer_sys::fuzz_target!(|tar: &[u8]| {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(tar).expect("written to memory");
    let mut archive = Cursor::new(encoder.finish().expect("written to memory"));
    let wanted = ["etcd".to_owned(), "etcd-v3.6.14-linux-amd64/etcdctl".to_owned()];
    let _ = read_files::<ArchiveError>(&mut archive, "x.tar.gz", &wanted, |_, bytes| {
        assert!(bytes.len() <= tar.len());
        Ok(())
    });
});
