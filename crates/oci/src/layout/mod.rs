//! An OCI image layout on disk (image-spec `image-layout.md`): the seam between building and
//! everything after it.
//!
//! Blobs arrive by rename, then index.json is replaced by rename. So a killed build leaves the
//! layout as it was, with at most a blob that nothing names.

mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub use read::{IndexEntry, Tagged};

use crate::digest::Digest;

/// The annotation that names a manifest in index.json.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A folder that is an OCI image layout. Cheap to clone; holds no open file.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` is not an OCI image layout: {why}", path.display())]
    NotALayout { path: PathBuf, why: String },
    #[error("`{}` has no image tagged {tag}", path.display())]
    NoTag { path: PathBuf, tag: String },
    #[error("`{}` holds several images: {}", path.display(), tags.join(", "))]
    SeveralTags { path: PathBuf, tags: Vec<String> },
    #[error(
        "the blob {digest} is not what its name says\n  expected {digest}\n  received {actual}"
    )]
    WrongBlob { digest: Digest, actual: Digest },
}

impl LayoutError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Layout {
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }
}
