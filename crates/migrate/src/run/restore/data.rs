//! The data of a snapshot: made beside `member`, durable, and then moved into its place.

use std::fs;
use std::process::Command;

use super::Restore;
use crate::error::{MigrateError, MigrateErrorKind};
use crate::files::{ownership, tree};
use crate::inspect::current_version::CurrentVersion;
use crate::inspect::disk_space;
use crate::inspect::version_pair::VersionPair;
use crate::plan::{bundled, space, tools};
use crate::platform;
use crate::report::event::EventLog;
use crate::run::downgrade::ClusterIdentity;
use crate::run::signal::StopSignal;
use crate::run::{step_context, subprocess};
use crate::state::journal::Journal;
use crate::state::swap::Swap;
use crate::state::version_file;

impl Restore<'_> {
    /// Makes `member` of the snapshot.
    pub(super) fn make_data(&self, stop: &StopSignal, log: EventLog) -> Result<(), MigrateError> {
        let data_dir = &self.options.data_dir;
        let swap = Swap::of(&self.options.layout);
        for path in swap.targets() {
            tree::remove(path).map_err(|error| MigrateError::file("remove", path, &error))?;
        }
        disk_space::check(
            data_dir,
            space::bytes_restored(self.snapshot.size_bytes),
            "the restored data",
        )
        .map_err(|failure| failure.hint("nothing was changed"))?;
        let program = tools::restorer(&self.tool);
        log.info(
            "restore",
            format_args!(
                "restoring {} by {program} {}, {} MiB",
                self.request.snapshot.display(),
                self.tool,
                self.snapshot.size_bytes >> 20
            ),
        );
        let mut journal = Journal {
            target: self.options.target.to_string(),
            step: self.step(),
            snapshot: self.id(),
            outcome: "running".to_owned(),
            ..Journal::default()
        };
        journal.write(data_dir)?;
        let made = swap
            .prepare()
            .and_then(|()| self.run_tool(&swap, stop, log))
            .and_then(|()| self.put_into_place(&swap));
        made.inspect_err(|failure| {
            // Half a restore is useless and fills the disk. What is being moved into place is
            // whole.
            if !swap.is_pending() {
                let _ = swap.targets().try_for_each(tree::remove);
            }
            journal.outcome.clone_from(&failure.cause);
            let _ = journal.write(data_dir);
        })
    }

    fn run_tool(&self, swap: &Swap, stop: &StopSignal, log: EventLog) -> Result<(), MigrateError> {
        let name = tools::restorer(&self.tool);
        let mut command = Command::new(bundled::program(&self.options.bin_dir, name, &self.tool)?);
        command.args(["snapshot", "restore"]).arg(&self.request.snapshot);
        command.arg("--data-dir").arg(&swap.restored);
        command.args(ClusterIdentity::given(&self.options.member).flags());
        if !self.snapshot.has_sum {
            command.arg("--skip-hash-check");
        }
        if let Some(count) = self.request.bump_revision {
            command.args(["--bump-revision", &count.to_string(), "--mark-compacted"]);
        }
        let error = subprocess::run(command, step_context::watch(name, stop, log))?;
        error.map_or(Ok(()), |error| {
            let what = format_args!(
                "the tools of etcd {} could not restore {}: {error}",
                self.tool,
                self.request.snapshot.display()
            );
            Err(MigrateError::new(MigrateErrorKind::NotMigratable, what))
        })
    }

    /// Makes the data durable, and `member` of it.
    fn put_into_place(&self, swap: &Swap) -> Result<(), MigrateError> {
        let data_dir = &self.options.data_dir;
        ownership::restore_file(&swap.restored, data_dir)
            .and_then(|()| tree::sync(&swap.restored))
            .map_err(|error| MigrateError::file("make durable", &swap.restored, &error))?;
        // Without data an old `version.txt` means nothing, and with this data it would be wrong.
        match fs::remove_file(data_dir.join("version.txt")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(MigrateError::file("remove", &data_dir.join("version.txt"), &error));
            }
            _ => platform::sync_directory(data_dir)
                .map_err(|error| MigrateError::file("write", data_dir, &error))?,
        }
        swap.finish()?;
        swap.clear()?;
        self.record_version()
    }

    /// Writes `version.txt`, if the tool is of the version of the data.
    pub(super) fn record_version(&self) -> Result<(), MigrateError> {
        match &self.origin {
            CurrentVersion::Etcd3(known) if known.series == self.tool.series() => {
                version_file::write(&self.options.data_dir, &VersionPair::etcd3(self.tool.clone()))
            }
            _ => Ok(()),
        }
    }
}
