//! Ends servers and tools that an earlier run started and that still run because it was killed.
//! They would write to the data while this run works on it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cli::options::Options;
use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::durable;
use crate::platform;
use crate::report::event::EventLog;
use crate::run::command;
use crate::run::poll::Poll;
use crate::run::signal::StopSignal;
use crate::state::journal;
use crate::state::lock;
use crate::state::swap::Swap;

/// How long a dying server may keep its lock, and a scanner a file.
const LOCK_GRACE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orphan {
    Server,
    /// Its work is started again from the beginning, so it need not finish.
    Tool,
}

/// Ends them. A server that this program did not start is an error. Afterwards no server has the
/// database open.
pub fn end_all(options: &Options, stop: &StopSignal, log: EventLog) -> Result<(), MigrateError> {
    let journal = journal::read(&options.data_dir)?;
    let is_unfinished = journal.is_some_and(|journal| journal.is_unfinished());
    if is_unfinished {
        for id in platform::processes() {
            if let Some(orphan) = orphan(id, options) {
                let what = if orphan == Orphan::Server { "etcd" } else { "a tool of etcd," };
                log.info("orphan", format_args!("stopping {what} {id}, left by an earlier run"));
                end(id, orphan, options, stop)?;
            }
        }
    }
    let db = options.layout.db();
    // A process that ends loses its command line first and its file locks later.
    let poll = Poll::start();
    let in_use = || {
        let failure = if lock::is_served(&db) {
            lock::served(&options.data_dir)
        } else if let Some(path) = lock::kept_file(&options.layout) {
            // A server that starts has its log open before its database.
            lock::kept(&path)
        } else {
            return Ok(());
        };
        Err(if is_unfinished { not_found(failure) } else { failure })
    };
    while in_use().is_err() && !poll.is_longer_than(LOCK_GRACE) {
        poll.pause();
    }
    in_use()
}

/// Where processes cannot be looked at, a server that an earlier run has left is not found.
fn not_found(failure: MigrateError) -> MigrateError {
    if !platform::processes().is_empty() {
        return failure;
    }
    failure.hint("or end it, if it is one that an earlier run has left: it loses nothing")
}

fn end(id: u32, kind: Orphan, options: &Options, stop: &StopSignal) -> Result<(), MigrateError> {
    let stuck =
        |why: &str| MigrateError::new(MigrateErrorKind::Locked, format_args!("process {id} {why}"));
    let signalled = match kind {
        Orphan::Server => platform::ask_process_to_stop(id),
        Orphan::Tool => platform::kill_process(id),
    };
    if signalled.is_err() && orphan(id, options).is_some() {
        return Err(stuck("cannot be stopped"));
    }
    let poll = Poll::start();
    while orphan(id, options).is_some() {
        stop.check()?;
        if poll.is_longer_than(options.timeouts.stop) {
            return Err(stuck("does not stop"));
        }
        poll.pause();
    }
    Ok(())
}

/// Whether an earlier run has started this process, to work on this data directory. Another process
/// may see another directory under the same path.
fn orphan(id: u32, options: &Options) -> Option<Orphan> {
    let words = platform::command_line(id)?;
    let program = Path::new(words.first()?).file_name()?.to_str()?;
    if program.starts_with("etcd-") && words.iter().any(|word| command::is_mark(word)) {
        let data_dir = words.iter().find_map(|word| word.strip_prefix("--data-dir="))?;
        return is_same(id, Path::new(data_dir), &options.data_dir).then_some(Orphan::Server);
    }
    let is_tool = program.starts_with("etcdutl-") || program.starts_with("etcdctl-");
    if !is_tool {
        return None;
    }
    let swap = Swap::of(&options.layout);
    let writes = |word: &String| {
        let path = Path::new(word);
        // It may not have made the directory yet, but the one above is there.
        let is_same_in = |target: &Path| {
            path.file_name() == target.file_name()
                && is_same(id, durable::parent(path), durable::parent(target))
        };
        swap.targets().any(is_same_in)
    };
    words.iter().any(writes).then_some(Orphan::Tool)
}

/// Whether a process sees under `path` what this program sees under `own`.
fn is_same(id: u32, path: &Path, own: &Path) -> bool {
    let metadata = |path: &Path| fs::metadata(path).ok();
    let theirs = metadata(&platform::as_seen_by(id, path));
    theirs.zip(metadata(own)).is_some_and(|(one, other)| platform::same_file(&one, &other))
}
