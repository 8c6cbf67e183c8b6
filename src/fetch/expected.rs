//! What is known of a file before it is fetched.

use crate::digest::Digest;

/// A file that is to be fetched, wherever it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpectedFile<'a> {
    /// For people.
    pub(crate) name: &'a str,
    pub(crate) digest: Digest,
    /// In bytes; `None` if it is not pinned.
    pub(crate) size: Option<u64>,
    /// No more bytes than this are written.
    pub(crate) limit: u64,
}
