//! `migrate check`: what would keep a migration, or the target version, from starting. Changes
//! nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use etcd_version::EtcdVersion;

use super::migration::{self, Migration};
use super::restore;
use super::space_check::SpaceCheck;
use super::{fitted_flags, runner};
use crate::cli::options::{Options, RestoreOptions, SettingsText};
use crate::error::MigrateError;
use crate::inspect::data_dir::DataDirContents;
use crate::inspect::member_data::{Alarm, MemberData};
use crate::inspect::member_files::MemberFiles;
use crate::plan::steps::Step;
use crate::plan::{bundled, space, tools};
use crate::platform;
use crate::report::findings::{CheckFinding, Findings, Severity};
use crate::settings;
use crate::state::lock;

/// Looks at a data directory.
pub fn data_directory(options: &Options) -> Findings<'_> {
    let mut findings = Vec::new();
    let mut add = |outcome: Result<(), MigrateError>| {
        findings.extend(outcome.err().map(CheckFinding::from));
    };
    add(migration::refuse_arguments(options));
    add(migration::refuse_backups_within_member(options));
    add(lock::in_use(&options.data_dir).map_or(Ok(()), Err));
    let planned = bundled::bundled(options.bundled.as_ref(), &options.bin_dir)
        .and_then(|bundled| migration::peek(options, &bundled));
    match planned {
        Err(failure) => add(Err(failure)),
        Ok(migration) => {
            add(runner::check_programs(&migration.steps, options));
            findings.extend(of_steps(options, &migration));
        }
    }
    Findings {
        subject: ("dataDirectory", &options.data_dir),
        target: &options.target.version,
        list: findings,
    }
}

/// Looks at a snapshot, and whether it could be restored into the data directory.
pub fn snapshot<'a>(options: &'a Options, request: &'a RestoreOptions) -> Findings<'a> {
    let outcome = restore::check(options, request);
    Findings {
        subject: ("snapshot", &request.snapshot),
        target: &options.target.version,
        list: outcome.err().map(CheckFinding::from).into_iter().collect(),
    }
}

/// The findings about a text with settings, and the text that the target takes.
pub fn settings<'a>(
    text: &'a SettingsText,
    target: &'a EtcdVersion,
) -> Result<(Findings<'a>, String), MigrateError> {
    let (path, content) = match text {
        SettingsText::Arguments(text) => (Path::new("--args"), text.clone()),
        SettingsText::Manifest(path) => (path.as_path(), read(path)?),
    };
    let fixed = settings::fix(&content, target.series());
    let mut findings: Vec<_> = fixed
        .refused
        .into_iter()
        .map(|refused| CheckFinding {
            id: "flag-refused",
            severity: Severity::Error,
            message: format!("etcd {target} refuses {}: {}", refused.name, refused.reason),
            hints: vec![refused.remedy],
            line: Some(refused.line),
        })
        .collect();
    if fixed.settings == 0 {
        let what = "no flag and no variable of etcd is in it".to_owned();
        findings.push(CheckFinding::warning("no-settings", what).hint("is it the right file?"));
    }
    Ok((Findings { subject: ("manifest", path), target, list: findings }, fixed.text))
}

fn read(path: &Path) -> Result<String, MigrateError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|error| MigrateError::file("read", path, &error))
}

/// What the steps would meet.
fn of_steps(options: &Options, migration: &Migration) -> Vec<CheckFinding> {
    let DataDirContents::Etcd3(data) = &migration.found.contents else { return Vec::new() };
    let mut findings = Vec::new();
    if data.alarms.contains(&Alarm::NoSpace) {
        let what = "the NOSPACE alarm is raised: clients can only read and delete".to_owned();
        let hint = "compact and defragment, raise the quota, then `etcdctl alarm disarm`";
        findings.push(CheckFinding::warning("nospace-alarm", what).hint(hint));
    }
    if !migration.steps.iter().any(Step::changes_data) {
        return findings;
    }
    if platform::is_read_only(&options.data_dir).unwrap_or(false) {
        let failure = MigrateError::file(
            "write to",
            &options.data_dir,
            &io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
        );
        findings.push(failure.id("read-only").into());
    }
    findings.extend(of_space(options, data, &migration.steps));
    findings.extend(of_flags(options, &migration.steps));
    findings
}

fn of_space(options: &Options, data: &MemberData, steps: &[Step]) -> Option<CheckFinding> {
    let layout = &options.layout;
    let space = SpaceCheck { layout, steps: space::bytes_written(steps, data.db_bytes) };
    if let Err(failure) = space.check(None) {
        return Some(failure.id("disk-space").into());
    }
    if !options.backups.enabled {
        return None;
    }
    let copy_bytes = MemberFiles::of(layout).ok()?.size_bytes();
    let directory = options.backups.directory.as_deref();
    let directory = directory.filter(|directory| directory.exists()).unwrap_or(&options.data_dir);
    let checked = space.check(Some((directory, copy_bytes)));
    checked.err().map(|failure| CheckFinding {
        severity: Severity::Warning,
        hints: vec![
            "a copy needs no room where the file system can share blocks".to_owned(),
            "--backup-dir gives another directory, --no-backup makes no backup".to_owned(),
        ],
        ..CheckFinding::from(failure.id("disk-space"))
    })
}

/// Settings that a server on the way does without.
fn of_flags(options: &Options, steps: &[Step]) -> Vec<CheckFinding> {
    let programs = steps.iter().flat_map(|step| tools::needed(step, &options.target.version));
    let versions: BTreeSet<_> =
        programs.filter(|(name, _)| *name == "etcd").map(|(_, version)| version).collect();
    let left_out = versions.into_iter().flat_map(|version| {
        let fitted = fitted_flags::arguments(&options.member.extra_arguments, version.series());
        fitted.left_out.into_iter().map(move |flag| {
            let what = format!("etcd {version} runs without --{}: {}", flag.name, flag.reason);
            CheckFinding::warning("left-out", what)
        })
    });
    left_out.collect()
}
