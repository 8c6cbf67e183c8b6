//! Defragments the database while no server runs.

use std::fs;
use std::process::Command;

use etcd_version::EtcdVersion;

use super::step_context::StepContext;
use crate::error::MigrateError;
use crate::plan::tools::restorer;

/// The tool writes a new file beside the database, and renames it when it is complete.
pub fn run(context: &StepContext<'_>, version: &EtcdVersion) -> Result<(), MigrateError> {
    let before = database_bytes(context)?;
    let mut command = Command::new(context.program(restorer(version), version)?);
    command.arg("defrag").arg("--data-dir").arg(&context.options.data_dir);
    context.run_tool(command, &format!("etcd {version} could not defragment the database"))?;
    let after = database_bytes(context)?;
    let counts = [("bytesBefore", before), ("bytesAfter", after)];
    context.server.log.counts(
        "defragmented",
        &counts.map(|(name, bytes)| (name, usize::try_from(bytes).unwrap_or(usize::MAX))),
        format_args!("the database has {after} bytes, and had {before}"),
    );
    Ok(())
}

fn database_bytes(context: &StepContext<'_>) -> Result<u64, MigrateError> {
    let db = context.options.layout.db();
    let metadata = fs::metadata(&db).map_err(|error| MigrateError::file("read", &db, &error))?;
    Ok(metadata.len())
}
