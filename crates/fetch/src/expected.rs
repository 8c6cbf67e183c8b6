//! What is known of a file before it is fetched.

use oci::digest::Digest;

/// A file that is to be fetched, wherever it comes from.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedFile<'a> {
    /// For people.
    pub name: &'a str,
    pub digest: Digest,
    /// In bytes; `None` if it is not pinned.
    pub size: Option<u64>,
    /// No more bytes than this are written.
    pub limit: u64,
}
