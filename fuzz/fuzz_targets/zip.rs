//! A release archive for Windows.
#![no_main]

use std::io::Cursor;

use etcdimg::archive::{ArchiveError, read_files};

libfuzzer_sys::fuzz_target!(|zip: &[u8]| {
    let wanted = ["etcd.exe".to_owned(), "etcd-v3.6.14-windows-amd64/etcdctl.exe".to_owned()];
    let _ = read_files::<ArchiveError>(&mut Cursor::new(zip), "x.zip", &wanted, |_, _| Ok(()));
});
