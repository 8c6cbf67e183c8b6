//! Writes one layer into the store: tar, compression and digests in one pass.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::format::Compression;
use super::gzip::GzipWriter;
use super::ustar::{self, BLOCK, EntryKind, HeaderError};
use super::windows::{self, ObjectKind};
use crate::digest::{Digest, Hasher};
use crate::store::{BlobWriter, Store, StoreError};

/// A finished layer in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Where clients download the layer, if its blob must not be pushed: some old Windows bases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

/// The media type of layers whose blobs are only at their URLs.
pub const NONDISTRIBUTABLE_TYPE: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

impl Layer {
    /// Whether clients download the blob from its URLs: then neither a layout nor a registry needs
    /// it.
    pub fn is_foreign(&self) -> bool {
        self.media_type == NONDISTRIBUTABLE_TYPE
    }
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Reading the content or writing the layer failed.
    #[error("cannot write a layer")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A file is shorter than it was announced.
    #[error("`{path}` ended after {actual} of {expected} bytes")]
    Short { path: String, expected: u64, actual: u64 },
}

/// Writes a layer into the store; every byte is hashed and compressed as it is written.
#[derive(Debug)]
pub struct LayerWriter {
    sink: Sink,
    diff_id: Hasher,
    mtime: u64,
    compression: Compression,
    dialect: Dialect,
}

/// Which attributes the entries have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    #[default]
    Posix,
    Windows,
}

enum Sink {
    Gzip(GzipWriter<BlobWriter>),
    Zstd(zstd::Encoder<'static, BlobWriter>),
}

impl LayerWriter {
    pub fn new(store: &Store, compression: Compression, mtime: u64) -> Result<Self, LayerError> {
        let blob = store.writer()?;
        let sink = match compression {
            Compression::Gzip => Sink::Gzip(GzipWriter::new(blob, compression.level())?),
            Compression::Zstd => Sink::Zstd(zstd::Encoder::new(blob, compression.level())?),
        };
        let dialect = Dialect::default();
        Ok(Self { sink, diff_id: Hasher::default(), mtime, compression, dialect })
    }

    #[must_use]
    pub fn in_dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    pub fn directory(&mut self, path: &str, mode: u32) -> Result<(), LayerError> {
        self.header(&format!("{path}/"), mode, EntryKind::Directory)
    }

    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> Result<(), LayerError> {
        self.header(path, mode, EntryKind::File { size })?;
        let actual = io::copy(&mut content.take(size), self)?;
        if actual != size {
            return Err(LayerError::Short { path: path.to_owned(), expected: size, actual });
        }
        Ok(self.write_all(&[0; BLOCK][..ustar::padding(size)])?)
    }

    pub fn hard_link(&mut self, path: &str, mode: u32, to: &str) -> Result<(), LayerError> {
        self.header(path, mode, EntryKind::HardLink { to })
    }

    pub fn symlink(&mut self, path: &str, to: &str) -> Result<(), LayerError> {
        self.header(path, 0o777, EntryKind::Symlink { to })
    }

    fn header(&mut self, path: &str, mode: u32, kind: EntryKind<'_>) -> Result<(), LayerError> {
        if self.dialect == Dialect::Windows {
            self.records(path, kind)?;
        }
        let block = ustar::header(path, mode, self.mtime, kind)?;
        Ok(self.write_all(&block)?)
    }

    /// Writes the PAX records of an entry. A link has none: it is the same file.
    fn records(&mut self, path: &str, kind: EntryKind<'_>) -> Result<(), LayerError> {
        let object = match kind {
            EntryKind::Directory => ObjectKind::Directory,
            EntryKind::File { .. } => ObjectKind::File,
            EntryKind::HardLink { .. } | EntryKind::Symlink { .. } | EntryKind::Records { .. } => {
                return Ok(());
            }
        };
        let records = windows::records(object, self.mtime);
        let size = records.len() as u64;
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
        let kind = EntryKind::Records { size };
        let block = ustar::header(&format!("PaxHeaders.0/{name}"), 0o644, self.mtime, kind)?;
        self.write_all(&block)?;
        self.write_all(&records)?;
        Ok(self.write_all(&[0; BLOCK][..ustar::padding(size)])?)
    }

    /// Writes a whole archive as it is, to its end.
    pub fn archive(mut self, mut tar: impl Read) -> Result<Layer, LayerError> {
        io::copy(&mut tar, &mut self)?;
        self.close()
    }

    /// Ends the archive with two empty blocks and puts the layer into the store.
    pub fn finish(mut self) -> Result<Layer, LayerError> {
        self.write_all(&[0; 2 * BLOCK])?;
        self.close()
    }

    fn close(self) -> Result<Layer, LayerError> {
        let blob = match self.sink {
            Sink::Gzip(writer) => writer.finish()?,
            Sink::Zstd(encoder) => encoder.finish()?,
        };
        let (digest, size) = blob.commit()?;
        let (diff_id, _) = self.diff_id.finish();
        let media_type = self.compression.media_type().to_owned();
        Ok(Layer { media_type, digest, size, diff_id, urls: Vec::new() })
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.sink {
            Sink::Gzip(writer) => writer.write(bytes)?,
            Sink::Zstd(encoder) => encoder.write(bytes)?,
        };
        self.diff_id.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A golden digest: when this fails, released images change. Give the format a new number.
    #[test]
    fn a_small_layer_has_the_digests_of_format_1() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let text = |compression| {
            let mut writer = LayerWriter::new(&store, compression, 0).unwrap();
            let content = b"etcd".repeat(400_000);
            writer.directory("usr", 0o755).unwrap();
            writer.file("usr/etcd", 0o555, content.len() as u64, &content[..]).unwrap();
            writer.hard_link("usr/link", 0o555, "usr/etcd").unwrap();
            writer.symlink("usr/sh", "etcd").unwrap();
            let layer = writer.finish().unwrap();
            format!("{} {}\n{}\n", layer.size, layer.digest, layer.diff_id)
        };
        insta::assert_snapshot!(text(Compression::Gzip), @"
        1860 sha256:077c6e6453638bfe5a7f4c0c16b1655946e3a9d6f809cb9ff4f19fc95cf41128
        sha256:1d06f4d4e3bd19ea10daffff472a49224c4ee2cf3a5eb9fa2e6ba7c2d9baa677
        ");
        insta::assert_snapshot!(text(Compression::Zstd), @"
        313 sha256:2a6be08e58f6b8324a458b01b5271f520c34ff8487c2dcdf9fd3f76ce6772944
        sha256:1d06f4d4e3bd19ea10daffff472a49224c4ee2cf3a5eb9fa2e6ba7c2d9baa677
        ");
    }

    /// Golden too, and read back as hcsshim does: by the PAX records before each entry.
    #[test]
    fn a_windows_layer_has_attributes_and_rights() {
        use std::fmt::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let writer = LayerWriter::new(&store, Compression::Gzip, 7).unwrap();
        let mut writer = writer.in_dialect(Dialect::Windows);
        writer.directory("Files", 0o755).unwrap();
        writer.file("Files/etcd.exe", 0o555, 4, &b"etcd"[..]).unwrap();
        writer.hard_link("Files/link.exe", 0o555, "Files/etcd.exe").unwrap();
        let layer = writer.finish().unwrap();
        let bytes = store.read(&layer.digest).unwrap();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let mut text = String::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            writeln!(text, "{}", entry.path().unwrap().display()).unwrap();
            let Some(records) = entry.pax_extensions().unwrap() else { continue };
            for record in records.map(Result::unwrap) {
                let value: String = record.value().unwrap().chars().take(20).collect();
                writeln!(text, "  {} = {value}", record.key().unwrap()).unwrap();
            }
        }
        insta::assert_snapshot!(text, @"
        Files/
          LIBARCHIVE.creationtime = 7
          MSWINDOWS.fileattr = 16
          MSWINDOWS.rawsd = AQAEgBQAAAAkAAAAAAAA
        Files/etcd.exe
          LIBARCHIVE.creationtime = 7
          MSWINDOWS.fileattr = 32
          MSWINDOWS.rawsd = AQAEgBQAAAAkAAAAAAAA
        Files/link.exe
        ");
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut writer = LayerWriter::new(&store, Compression::Gzip, 0).unwrap();
        let error = writer.file("etcd", 0o555, 9, &b"etcd"[..]).unwrap_err();
        assert_eq!(error.to_string(), "`etcd` ended after 4 of 9 bytes");
        drop(writer);
        assert_eq!(store.entries().unwrap(), []);
    }
}
