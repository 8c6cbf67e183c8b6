//! The bytes of a file that have arrived so far, kept from one process to the next.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::digest::{Digest, Hasher};
use store::{Store, StoreError};

/// How often a file is looked at that another process has locked. A blocking wait could not be
/// cancelled.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// The bytes of one blob so far, hashed, in a file that only this process writes.
///
/// The file outlives a break, a failure and a kill; the next process continues it.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    /// The number of responses that the bytes come from.
    n_responses: u32,
}

impl Partial {
    /// Waits while another process fetches the same blob. `None` if it then is in the store.
    pub(super) async fn open(
        store: &Store,
        digest: &Digest,
        on_wait: impl FnOnce(),
    ) -> Result<Option<Self>, StoreError> {
        let path = store.partial_path(digest);
        let mut on_wait = Some(on_wait);
        loop {
            if store.has(digest) {
                return Ok(None);
            }
            let file = open_file(&path).map_err(StoreError::io("open", &path))?;
            match file.try_lock() {
                // The process that held it may have finished or removed it meanwhile.
                Ok(()) if store.has(digest) || !is_at(&file, &path) => {}
                Ok(()) => return Self::resume(file, path).await.map(Some),
                Err(TryLockError::WouldBlock) => {
                    if let Some(on_wait) = on_wait.take() {
                        on_wait();
                    }
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(TryLockError::Error(error)) => {
                    return Err(StoreError::io("lock", &path)(error));
                }
            }
        }
    }

    /// Hashes what an earlier process left.
    async fn resume(file: File, path: PathBuf) -> Result<Self, StoreError> {
        let read = tokio::task::spawn_blocking(move || hash(file)).await;
        let (file, hasher) =
            read.map_err(io::Error::from).flatten().map_err(StoreError::io("read", &path))?;
        // It is not known from how many responses they came: no single mirror is at fault.
        let n_responses = if hasher.size() > 0 { 2 } else { 0 };
        Ok(Self { file, path, hasher, n_responses })
    }

    pub(super) fn len(&self) -> u64 {
        self.hasher.size()
    }

    /// Whether all bytes came in one response, so that wrong ones are the fault of its mirror.
    pub(super) fn is_one_response(&self) -> bool {
        self.n_responses == 1
    }

    pub(super) fn begin_response(&mut self) {
        self.n_responses += 1;
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Removes all bytes.
    pub(super) fn restart(&mut self) -> Result<(), StoreError> {
        self.hasher = Hasher::default();
        self.n_responses = 0;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(StoreError::io("truncate", &self.path))?;
        Ok(())
    }

    /// Compares the digest of all bytes. If it is wrong, they are removed and it is returned.
    pub(super) fn seal(&mut self, expected: &Digest) -> Result<Option<Digest>, StoreError> {
        let (actual, _) = std::mem::take(&mut self.hasher).finish();
        if actual == *expected {
            return Ok(None);
        }
        self.restart()?;
        Ok(Some(actual))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Also after `seal`, when the file has its final name and this one is gone.
        if self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn hash(mut file: File) -> io::Result<(File, Hasher)> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((file, hasher)),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Whether an open file still has its name: one that was removed or renamed keeps its lock.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}
