//! Blobs of the store: reading verified bytes and writing new ones.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use tempfile::TempPath;

use super::{Store, StoreError};
use oci::digest::{Digest, Hasher};

/// An open file whose bytes matched a digest when it was opened.
/// [`Store::open_verified`] is the only way to one.
#[derive(Debug)]
pub struct Verified {
    file: File,
    digest: Digest,
    size: u64,
}

impl Verified {
    pub(super) fn open(path: PathBuf, digest: Digest) -> Result<Self, StoreError> {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(digest));
            }
            Err(error) => return Err(StoreError::io("open", path)(error)),
        };
        let (actual, size) = Digest::of_reader(&mut file).map_err(StoreError::io("read", &path))?;
        if actual != digest {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            return Err(StoreError::Corrupt { digest, actual });
        }
        file.seek(SeekFrom::Start(0)).map_err(StoreError::io("read", &path))?;
        Ok(Self { file, digest, size })
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for Verified {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// Writes a new blob. It is invisible until [`BlobWriter::commit`]; if it is dropped before, it
/// leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    file: BufWriter<File>,
    path: TempPath,
    hasher: Hasher,
}

impl BlobWriter {
    pub(super) fn new(store: Store) -> Result<Self, StoreError> {
        // In two parts: an error of the whole would name the temporary path.
        let (file, path) = store.temporary()?.into_parts();
        let file = BufWriter::with_capacity(1 << 17, file);
        Ok(Self { store, file, path, hasher: Hasher::default() })
    }

    /// Ends the blob and gives it its name: its digest and its size in bytes.
    pub fn commit(mut self) -> Result<(Digest, u64), StoreError> {
        let (digest, size) = self.hasher.finish();
        let tmp = self.store.root.join("tmp");
        self.file.flush().map_err(StoreError::io("write in", tmp))?;
        let path = self.store.blob_path(&digest);
        self.path
            .persist(&path)
            .map_err(|error| StoreError::io("rename to", &path)(error.error))?;
        Ok((digest, size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
