//! `etcdimg cache`: lists, checks and cleans the store.

use std::time::Duration;

use serde_json::json;

use super::context::Context;
use crate::cli::{CacheCommand, Format};
use crate::failure::{Failure, Kind};
use crate::store::{Store, StoreError};
use crate::ui::size;

pub(super) fn run(context: &Context, command: &CacheCommand) -> Result<(), Failure> {
    let store = context.store()?;
    match command {
        CacheCommand::Ls => ls(context, &store),
        CacheCommand::Verify => verify(context, &store),
        CacheCommand::Gc { unused_days, all } => {
            gc(context, &store, if *all { 0 } else { *unused_days })
        }
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
        .hint("they were removed; the next build makes or downloads them again"))
}

/// A record knows when it was last used and which blobs it names; these are kept with it.
fn gc(context: &Context, store: &Store, unused_days: u64) -> Result<(), Failure> {
    let swept = store.sweep(Duration::from_hours(unused_days.saturating_mul(24)))?;
    context.ui.status("Removed", format!("{} files, {}", swept.files, size(swept.size_bytes)));
    Ok(())
}
