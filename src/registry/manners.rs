//! What a registry was seen to do, so that the next push need not find out again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Nothing: not known yet. Holds no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manners {
    /// Mounting a blob from its own repository says whether it is there, and opens an upload
    /// when it is not: one request where others need two.
    pub tells_by_mount: Option<Told>,
    /// A blob can be mounted without saying from where.
    pub mounts_from_anywhere: Option<Told>,
    /// A small blob can come with the request that opens its upload.
    pub takes_single_post: Option<Told>,
    /// An upload can come in pieces.
    pub takes_chunks: Option<Told>,
    /// A body longer than this was refused.
    pub largest_body: Option<u64>,
    /// How it asks who we are, so that the first request can bring the answer.
    pub challenge: Option<String>,
}

/// What it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    Yes,
    No,
}

/// The manners of one registry, in a file of the cache.
#[derive(Debug)]
pub(super) struct Notebook {
    path: PathBuf,
    known: Mutex<Manners>,
}

impl Notebook {
    pub(super) fn open(folder: &Path, registry: &str) -> Self {
        let path = folder.join("registries").join(format!("{}.json", registry.replace(':', "_")));
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, known: Mutex::new(known.unwrap_or_default()) }
    }

    pub(super) fn read(&self) -> Manners {
        self.lock().clone()
    }

    pub(super) fn write(&self, change: impl FnOnce(&mut Manners)) {
        let mut known = self.lock();
        let before = known.clone();
        change(&mut known);
        if *known != before {
            // What cannot be remembered is found out again: no reason to stop.
            let _ = self.save(&known);
        }
    }

    fn save(&self, manners: &Manners) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(manners)?)?;
        file.persist(&self.path)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Manners> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_is_known_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Notebook::open(folder.path(), "[::1]:5000");
        assert_eq!(open().read(), Manners::default());
        open().write(|manners| manners.tells_by_mount = Some(Told::Yes));
        assert_eq!(open().read().tells_by_mount, Some(Told::Yes));
        fs::write(&open().path, "broken").unwrap();
        assert_eq!(open().read(), Manners::default());
    }
}
