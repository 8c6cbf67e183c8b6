//! Reads what is in a data directory. Changes nothing and decides nothing about what to do.
//!
//! The parsers of foreign bytes are public, so that they can be fuzzed.

pub mod bolt;
pub mod contents;
mod crc32c;
pub(crate) mod current_version;
pub(crate) mod data_dir;
pub(crate) mod disk_space;
pub mod keys;
pub(crate) mod layout;
pub mod log;
pub(crate) mod member;
pub(crate) mod member_data;
pub(crate) mod member_files;
pub mod protobuf;
pub(crate) mod raft_snapshot;
pub(crate) mod sha256;
pub(crate) mod snapshot;
pub mod v2_store;
pub mod version_pair;
