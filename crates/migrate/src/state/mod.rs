//! What one run leaves for the next one: the lock, the journal and the backups.

pub mod backup_store;
pub mod baseline;
pub mod copy_record;
pub mod journal;
pub mod lock;
mod part_swap;
pub mod swap;
pub mod version_file;
