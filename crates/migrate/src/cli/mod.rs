//! What the caller asked for: flags, environment variables and their meaning.

pub mod arguments;
pub mod etcd_flags;
pub mod options;
pub mod reader;
pub mod shell_words;
