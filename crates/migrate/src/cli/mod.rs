//! What the caller asked for: flags, environment variables and their meaning.

pub mod arguments;
pub mod options;
pub mod shell_words;
