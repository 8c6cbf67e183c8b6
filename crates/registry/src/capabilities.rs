//! What a registry was seen to support, remembered so that the next push need not probe it again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Capabilities seen so far; `None` means not probed yet. Contains no secrets, so it may be
/// cached on disk. The names of the fields there stay as they are, so that older files are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Mounting a blob from its own repository answers whether the blob exists, and opens an
    /// upload when it does not: one request where other registries need two.
    #[serde(rename = "tells_by_mount")]
    pub mount_checks_existence: Option<Support>,
    /// A blob can be mounted without naming the repository it is in.
    #[serde(rename = "mounts_from_anywhere")]
    pub anonymous_mount: Option<Support>,
    /// A small blob can be sent with the POST that would open its upload.
    #[serde(rename = "takes_single_post")]
    pub single_post: Option<Support>,
    /// An upload can be sent in chunks, by PATCH.
    #[serde(rename = "takes_chunks")]
    pub chunks: Option<Support>,
    /// The largest body worth trying, in bytes; a body of twice the size was refused.
    pub largest_body: Option<u64>,
    /// The last `WWW-Authenticate`, without its scope: with it, the first request can already carry
    /// a token.
    pub challenge: Option<String>,
}

/// Whether a registry supports something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    Yes,
    No,
}

impl From<bool> for Support {
    fn from(is_supported: bool) -> Self {
        if is_supported { Self::Yes } else { Self::No }
    }
}

/// The capabilities of one registry, in a file of the cache. A file that cannot be read counts
/// as empty.
#[derive(Debug)]
pub(super) struct CapabilityCache {
    path: PathBuf,
    known: Mutex<Capabilities>,
}

impl CapabilityCache {
    pub(super) fn open(cache_dir: &Path, registry: &str) -> Self {
        let file = format!("{}.json", registry.replace(':', "_"));
        let path = cache_dir.join("registries").join(file);
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, known: Mutex::new(known.unwrap_or_default()) }
    }

    pub(super) fn read(&self) -> Capabilities {
        self.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Capabilities)) {
        let mut known = self.lock();
        let before = known.clone();
        change(&mut known);
        if *known != before {
            // What is not saved is probed again by the next run: no reason to fail.
            let _ = self.save(&known);
        }
    }

    fn save(&self, capabilities: &Capabilities) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(capabilities)?)?;
        file.persist(&self.path)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Capabilities> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &tempfile::TempDir) -> CapabilityCache {
        CapabilityCache::open(folder.path(), "[::1]:5000")
    }

    #[test]
    fn what_was_learned_is_known_next_time() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(open(&folder).read(), Capabilities::default());
        open(&folder).update(|it| it.mount_checks_existence = Some(Support::Yes));
        assert_eq!(open(&folder).read().mount_checks_existence, Some(Support::Yes));
    }

    #[test]
    fn files_of_older_versions_are_read_and_broken_ones_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        open(&folder).update(|it| it.largest_body = Some(7));
        let path = open(&folder).path;
        let old = r#"{"tells_by_mount": "yes", "mounts_from_anywhere": "no",
            "takes_single_post": "yes", "takes_chunks": "no", "largest_body": 9, "gone": 1}"#;
        fs::write(&path, old).unwrap();
        let expected = Capabilities {
            mount_checks_existence: Some(Support::Yes),
            anonymous_mount: Some(Support::No),
            single_post: Some(Support::Yes),
            chunks: Some(Support::No),
            largest_body: Some(9),
            challenge: None,
        };
        assert_eq!(open(&folder).read(), expected);
        for broken in ["", "broken", r#"{"takes_chunks": "perhaps"}"#] {
            fs::write(&path, broken).unwrap();
            assert_eq!(open(&folder).read(), Capabilities::default(), "{broken}");
        }
    }
}
