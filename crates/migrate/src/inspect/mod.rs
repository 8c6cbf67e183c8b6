//! Reads what is in a data directory. Changes nothing and decides nothing about what to do.

pub mod bolt;
pub mod current_version;
pub mod data_dir;
pub mod disk_space;
pub mod keys;
pub mod protobuf;
pub mod series;
pub mod version_pair;
pub mod wal;
