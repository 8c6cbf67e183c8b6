//! Where cargo has put a program of the workspace.

use std::path::{Path, PathBuf};

use crate::command::Cmd;
use crate::error::Result;

/// The path of a program of the workspace that cargo has built with a profile.
pub fn path(profile: &str, program: &str) -> Result<PathBuf> {
    let metadata =
        Cmd::cargo().args(["metadata", "--format-version=1", "--no-deps", "--locked"]).text()?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().unwrap_or("target");
    Ok(Path::new(target).join(profile).join(program))
}
