use std::collections::BTreeSet;

use serde_json::json;

use super::context::Context;
use crate::cli::{CacheCommand, Format};
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::store::{Store, StoreError};
use crate::ui::size;

pub(super) fn run(context: &Context, command: &CacheCommand) -> Result<(), Failure> {
    let store = context.store()?;
    match command {
        CacheCommand::Ls => ls(context, &store),
        CacheCommand::Verify => verify(context, &store),
        CacheCommand::Gc { all } => gc(context, &store, *all),
    }
}

fn ls(context: &Context, store: &Store) -> Result<(), Failure> {
    let entries = store.entries()?;
    if context.format == Format::Json {
        let blobs = entries.iter().map(|it| json!({ "digest": it.digest, "size": it.size_bytes }));
        return context.out_json(&blobs.collect::<Vec<_>>());
    }
    for entry in &entries {
        context.ui.out(format!("{} {:>9}", entry.digest, size(entry.size_bytes)));
    }
    let total = entries.iter().map(|entry| entry.size_bytes).sum();
    context.ui.note(format!(
        "{} blobs, {} in {}",
        entries.len(),
        size(total),
        store.root().display()
    ));
    Ok(())
}

fn verify(context: &Context, store: &Store) -> Result<(), Failure> {
    let entries = store.entries()?;
    let mut removed = Vec::new();
    for entry in &entries {
        match store.open_verified(&entry.digest) {
            Ok(_) => {}
            Err(error @ StoreError::Corrupt { .. }) => removed.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    context.ui.status("Verified", format!("{} blobs", entries.len() - removed.len()));
    if removed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Verification, removed.join("\n"))
        .hint("the next build makes or fetches them again"))
}

/// What a build of the present catalog would look for first is kept: its records name the blobs.
fn gc(context: &Context, store: &Store, all: bool) -> Result<(), Failure> {
    let keep: BTreeSet<Digest> = if all { BTreeSet::new() } else { needed(context, store)? };
    let swept = store.sweep(&keep)?;
    context.ui.status("Removed", format!("{} files, {}", swept.files, size(swept.size_bytes)));
    Ok(())
}

fn needed(context: &Context, store: &Store) -> Result<BTreeSet<Digest>, Failure> {
    let locked = context.locked()?;
    let releases = locked.lock.releases.iter().map(|release| release.digest);
    let recorded = store.recorded()?;
    Ok(releases.chain(recorded).collect())
}
