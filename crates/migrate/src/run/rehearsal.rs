//! `migrate rehearse`: the whole migration on a copy, up to the target's own start. The data is
//! only read, and nothing of the rehearsal stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::backup::Backup;
use super::signal::StopSignal;
use super::space_check::SpaceCheck;
use super::{migration, restore};
use crate::cli::options::{AfterRestore, Options, PlainBinaries, RestoreOptions};
use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::{durable, tree};
use crate::inspect::data_dir::DataDirContents;
use crate::inspect::layout::DataLayout;
use crate::plan::bundled;
use crate::plan::space;
use crate::plan::steps::Step;
use crate::report::event::EventLog;
use crate::report::format::OutputFormat;
use crate::state::backup_store::BackupStore;
use crate::state::lock;

/// Says that a directory is of a rehearsal, so that the next one may remove it.
const LABEL: &str = "rehearsal";

/// What the rehearsal does, which is the plan. Changes nothing.
pub fn plan(
    options: &Options,
    snapshot: Option<&RestoreOptions>,
    format: OutputFormat,
) -> Result<String, MigrateError> {
    match snapshot {
        None => migration::plan(options, format),
        Some(request) => {
            // It is not restored into the data directory.
            let place = options.data_dir.join(".migrate").join(LABEL);
            restore::plan(&at(options, &place), request, format)
        }
    }
}

/// Rehearses the migration of the data directory, or of a snapshot.
pub fn run(
    options: &Options,
    snapshot: Option<&RestoreOptions>,
    scratch: Option<&Path>,
    log: EventLog,
) -> Result<(), MigrateError> {
    let started = Instant::now();
    let stop = migration::begin(options, log)?;
    let scratch = match scratch {
        Some(given) => given.to_owned(),
        None => durable::beside(&options.data_dir, ".rehearsal"),
    };
    let scratch = RehearsalDir::make(scratch)?;
    let place = match snapshot {
        Some(request) => restored(options, request, &scratch, log)?,
        None => copied(options, &scratch, &stop, log)?,
    };
    start_target(&at(options, &place), &stop, log)?;
    drop(scratch);
    log.info(
        "rehearsed",
        format_args!(
            "the migration to {} would succeed; the rehearsal took {:.1} s, and nothing was changed",
            options.target.version,
            started.elapsed().as_secs_f64()
        ),
    );
    Ok(())
}

/// The same options for another directory.
fn at(options: &Options, data_dir: &Path) -> Options {
    let mut options = options.clone();
    options.layout = DataLayout::of(data_dir, None);
    data_dir.clone_into(&mut options.data_dir);
    options.backups.enabled = false;
    options.backups.directory = None;
    options.plain_binaries = PlainBinaries::Leave;
    options.data_dir_mode = None;
    options
}

/// Restores a snapshot and migrates that.
fn restored(
    options: &Options,
    request: &RestoreOptions,
    scratch: &RehearsalDir,
    log: EventLog,
) -> Result<PathBuf, MigrateError> {
    let place = scratch.0.join("data");
    restore::run(&at(options, &place), request, log)?;
    Ok(place)
}

/// Migrates a copy of the data. A member of several finds no quorum alone: its database is restored
/// as that of a single member.
fn copied(
    options: &Options,
    scratch: &RehearsalDir,
    stop: &StopSignal,
    log: EventLog,
) -> Result<PathBuf, MigrateError> {
    if let Some(in_use) = lock::in_use(&options.data_dir) {
        return Err(in_use.hint("or rehearse with a snapshot: --snapshot"));
    }
    let bundled = bundled::bundled(options.bundled.as_ref(), &options.bin_dir)?;
    let migration = migration::peek(options, &bundled)?;
    let DataDirContents::Etcd3(data) = &migration.found.contents else {
        let what = format_args!("{} holds no data to rehearse with", options.data_dir.display());
        return Err(MigrateError::new(MigrateErrorKind::NotMigratable, what));
    };
    if data.members.len() > 1 {
        log.warn(
            "alone",
            format_args!(
                "the data is of a cluster of {} members: its database is rehearsed as that of a single \
                 one, without its log",
                data.members.len()
            ),
        );
        let mut alone = options.clone();
        let member = &mut alone.member;
        member.initial_cluster = format!("{}={}", member.name, member.initial_advertise_peer_urls);
        member.peer_port = Some(0);
        let request = RestoreOptions {
            snapshot: options.layout.db(),
            bump_revision: None,
            then: AfterRestore::Migrate,
        };
        return restored(&alone, &request, scratch, log);
    }
    let space = SpaceCheck {
        layout: &options.layout,
        steps: space::bytes_written(&migration.steps, data.db_bytes),
    };
    let store = BackupStore::of(&scratch.0, Some(&scratch.0.join("copies")));
    let place = Backup { space, store: &store, log, stop }.make()?;
    if migration.found.is_ours {
        let state = lock::state_dir(&place);
        fs::create_dir_all(&state)
            .and_then(|()| fs::write(state.join("lock"), b""))
            .map_err(|error| MigrateError::file("write to", &state, &error))?;
    }
    migration::run(&at(options, &place), log)?;
    Ok(place)
}

/// The target makes the last upgrade itself, so it has to show that it can.
fn start_target(options: &Options, stop: &StopSignal, log: EventLog) -> Result<(), MigrateError> {
    let bundled = bundled::bundled(options.bundled.as_ref(), &options.bin_dir)?;
    let mut migration = migration::prepare(options, &bundled)?;
    migration.steps = vec![Step::Serve(options.target.version.clone())];
    migration::take_steps(options, &migration, stop, log)
}

/// The directory of a rehearsal. It is removed when the value is dropped.
struct RehearsalDir(PathBuf);

impl RehearsalDir {
    /// Makes it. One that an earlier rehearsal has left is removed first.
    fn make(path: PathBuf) -> Result<Self, MigrateError> {
        if path.join(LABEL).exists() {
            tree::remove(&path).map_err(|error| MigrateError::file("remove", &path, &error))?;
        }
        if path.exists() {
            let what = format_args!("{} exists, and is not of a rehearsal", path.display());
            return Err(MigrateError::new(MigrateErrorKind::System, what)
                .hint("--scratch-dir names another directory, which must not exist"));
        }
        let made = fs::create_dir_all(path.join(lock::state_dir(Path::new(""))))
            .and_then(|()| fs::write(path.join(LABEL), b""));
        made.map_err(|error| MigrateError::file("create", &path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for RehearsalDir {
    fn drop(&mut self) {
        let _ = tree::remove(&self.0);
    }
}
