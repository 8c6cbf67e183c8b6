//! The files of a package as a tar, and their sums. The programs are read out of the layers of the
//! image, one part in memory at a time.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use md5::{Digest as _, Md5};

use super::contents::{
    COMMAND, DIRECTORY_MODE, FILE_MODE, PROGRAM_MODE, directories, from_image, texts,
};
use super::{NAME, PackageError, PackageJob, changelog};
use crate::layer::format::Compression;
use crate::layer::{Layer, LayerWriter};
use crate::store::Store;

/// The tar of all files, and what the control data says of them.
pub(super) struct Data {
    /// In the store, compressed.
    pub tar: Layer,
    /// Each file with its MD5, as `md5sums` wants them.
    pub sums: Vec<(String, String)>,
    /// What the package takes when it is installed, as Debian counts it.
    pub installed_kib: u64,
}

/// The writer of the tar, and what it has counted.
struct DataWriter {
    tar: LayerWriter,
    sums: Vec<(String, String)>,
    installed_kib: u64,
}

pub(super) fn write(store: &Store, job: &PackageJob<'_>) -> Result<Data, PackageError> {
    let tar = LayerWriter::new(store, Compression::Gzip, job.plan.epoch_seconds)?;
    let mut writer = DataWriter { tar, sums: Vec::new(), installed_kib: 0 };
    writer.tar.directory(".", DIRECTORY_MODE)?;
    for path in directories() {
        writer.tar.directory(&format!("./{path}"), DIRECTORY_MODE)?;
        writer.installed_kib += 1;
    }
    for file in texts(job) {
        let text = file.text.as_bytes();
        writer.file(&file.path, file.mode, text.len() as u64, text)?;
    }
    let history = changelog::changelog(job)?;
    let path = format!("usr/share/doc/{NAME}/changelog.Debian.gz");
    writer.file(&path, FILE_MODE, history.len() as u64, &history[..])?;
    programs(store, job, &mut writer)?;
    let (path, to) = COMMAND;
    writer.tar.symlink(&format!("./{path}"), to)?;
    writer.installed_kib += 1;
    writer.sums.sort();
    let DataWriter { tar, sums, installed_kib } = writer;
    Ok(Data { tar: tar.finish()?, sums, installed_kib })
}

/// Copies what is wanted out of the layers. A file that no layer has is an error.
fn programs(
    store: &Store,
    job: &PackageJob<'_>,
    writer: &mut DataWriter,
) -> Result<(), PackageError> {
    let mut wanted = from_image(job.image);
    for layer in job.layers {
        let unreadable = |source| {
            let path = layer.digest.to_string();
            PackageError::Layer { path, source }
        };
        let blob = store.open_verified(&layer.digest)?;
        let mut tar = tar::Archive::new(MultiGzDecoder::new(blob));
        for entry in tar.entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path().map_err(unreadable)?.display().to_string();
            let is_file = entry.header().entry_type().is_file();
            let at = wanted.iter().position(|(from, ..)| is_file && *from == path);
            let Some(at) = at else { continue };
            let (_, to, mode) = wanted.remove(at);
            writer.file(&to, mode, entry.size(), entry)?;
        }
    }
    match wanted.into_iter().next() {
        Some((path, ..)) => Err(PackageError::Missing(path)),
        None => Ok(()),
    }
}

impl DataWriter {
    fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> Result<(), PackageError> {
        debug_assert!(mode == FILE_MODE || mode == PROGRAM_MODE, "{mode:o}");
        let mut hashing = Md5Reader { inner: content, md5: Md5::new() };
        self.tar.file(&format!("./{path}"), mode, size, &mut hashing)?;
        self.sums.push((path.to_owned(), hex::encode(hashing.md5.finalize())));
        self.installed_kib += size.div_ceil(1024);
        Ok(())
    }
}

/// Computes the MD5 of everything that is read through it.
struct Md5Reader<R> {
    inner: R,
    md5: Md5,
}

impl<R: Read> Read for Md5Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.md5.update(&buffer[..n]);
        Ok(n)
    }
}
