//! Why the logins of the user cannot be used.

use std::io;
use std::path::PathBuf;

/// Why a file with logins cannot be used. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is not a Docker config.json: see line {line}, column {column}", path.display())]
    Parse { path: PathBuf, line: usize, column: usize },
    #[error("the credential helper `{name}` cannot be used: {why}")]
    Helper { name: String, why: &'static str },
}
