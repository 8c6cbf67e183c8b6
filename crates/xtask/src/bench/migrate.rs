//! How long `migrate` takes on a large data directory, compared with the servers alone.
//!
//!   migrate          from the lowest to the highest version of versions.yaml, without a copy
//!   servers alone    the same servers by hand: start, healthy and at their version, stop
//!   copy, shared     the copy before a migration, on XFS in a file
//!   copy             the same where blocks cannot be shared, durable and compared
//!   cp               `cp -a` of the same files, and with `sync` after it
//!
//! Everything is done in turns, in the page cache; the table has medians. XFS needs root (or sudo)
//! and mkfs.xfs, and is left out without.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::servers::{Servers, free_port};
use super::statistics::{Goal, highest, lowest, median};
use super::timing::cores;
use super::xfs::Xfs;
use crate::command::Cmd;
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::real_etcd;
use crate::work::Work;
use crate::workspace::{self, say};

/// What is measured.
#[derive(Debug)]
pub struct MigrateBenchOptions {
    pub runs: usize,
    /// The size of the data directory.
    pub mib: u64,
}

struct MigrateBench {
    servers: Servers,
    migrate: PathBuf,
    /// Before `work`, because it is unmounted before its folder is removed.
    xfs: Option<Xfs>,
    work: Work,
    /// The data directory that every run begins with.
    seed: PathBuf,
    /// By name, in the order of the report.
    seconds: Vec<(&'static str, Vec<f64>)>,
}

/// What a run of `migrate` took.
struct MigrationTiming {
    seconds: f64,
    /// From the step that makes the copy to the end of the copy; 0 without one.
    copy_seconds: f64,
}

pub fn run(options: &MigrateBenchOptions) -> Result<()> {
    let servers = Servers::new(real_etcd::provide(false)?)?;
    say("building migrate");
    Cmd::cargo().args(["build", "--release", "--locked", "--quiet", "--package=migrate"]).run()?;
    let migrate = crate::built::path("release", "migrate")?;
    let work = Work::new(&workspace::cache()?, "bench.")?;
    let xfs = Xfs::mount(work.path(), 6 * options.mib + 512)?;
    let seed = work.path().join("seed/data");
    fs::create_dir_all(&seed)?;
    let first = servers.first().to_owned();
    say(format_args!("writing {} MiB with etcd {first}", options.mib));
    let n_keys = servers.seed(&seed, options.mib)?;
    let size = super::content::size_of_files(&seed)?;
    fs::write(seed.join("version.txt"), format!("{first}/etcd3"))?;
    let mut bench = MigrateBench { servers, migrate, xfs, work, seed, seconds: Vec::new() };
    for number in 1..=options.runs {
        say(format_args!("run {number} of {}", options.runs));
        bench.turn(size)?;
    }
    println!(
        "{}, {} cores, {} MiB, {n_keys} keys, {first} to {}, {} runs in turns\n",
        std::env::consts::ARCH,
        cores(),
        size >> 20,
        bench.servers.last(),
        options.runs
    );
    print!("{}", bench.report());
    Ok(())
}

impl MigrateBench {
    /// Measures everything once.
    fn turn(&mut self, size: u64) -> Result<()> {
        let data = self.work.path().join("run/data");
        self.copy(&data)?;
        let timing = self.migrate(&data, &["--no-backup"])?;
        self.note("migrate", timing.seconds);
        self.copy(&data)?;
        let begin = Instant::now();
        self.servers.serve_all(&data)?;
        self.note("servers alone", begin.elapsed().as_secs_f64());
        self.copy(&data)?;
        self.warm()?;
        let timing = self.migrate(&data, &[])?;
        self.note("copy", timing.copy_seconds);
        self.copy(&data)?;
        self.warm()?;
        let begin = Instant::now();
        let to = self.work.path().join("run/cp");
        Cmd::new("cp").args(["-a", "--reflink=never"]).arg(&data).arg(&to).run()?;
        self.note("cp", begin.elapsed().as_secs_f64());
        Cmd::new("sync").arg("-f").arg(&to).run()?;
        self.note("cp and sync", begin.elapsed().as_secs_f64());
        let Some(xfs) = &self.xfs else { return Ok(()) };
        let data = xfs.path().join("run/data");
        self.copy(&data)?;
        let timing = self.migrate(&data, &[])?;
        let shared = xfs.shared_bytes()?;
        if shared < size / 2 {
            let text = format!("the copy on XFS shares only {} MiB with the data", shared >> 20);
            return Err(TaskError::new(text));
        }
        self.note("copy, shared", timing.copy_seconds);
        Ok(())
    }

    fn note(&mut self, name: &'static str, seconds: f64) {
        match self.seconds.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.push(seconds),
            None => self.seconds.push((name, vec![seconds])),
        }
    }

    /// A fresh data directory, whose blocks are on the disk.
    fn copy(&self, to: &Path) -> Result<()> {
        let folder = to.parent().unwrap_or(to);
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).context(folder.display())?;
        Cmd::new("cp").args(["-a", "--reflink=auto"]).arg(&self.seed).arg(to).run()?;
        Cmd::new("sync").arg("-f").arg(to).run()
    }

    /// Makes a copy that is not timed: the first program that needs memory waits for the kernel to
    /// free it.
    fn warm(&self) -> Result<()> {
        let folder = self.work.path().join("warm");
        self.copy(&folder.join("data"))?;
        Ok(fs::remove_dir_all(folder)?)
    }

    fn migrate(&self, data: &Path, flags: &[&str]) -> Result<MigrationTiming> {
        let mut child = Cmd::new(&self.migrate)
            .bare()
            .env("ETCD_NAME", "m")
            .env("DO_NOT_MOVE_BINARIES", "true")
            .env("TARGET_STORAGE", "etcd3")
            .env("LISTEN_PEER_URLS", format!("http://127.0.0.1:{}", free_port()?))
            .env("ETCD_CREDS", "--quota-backend-bytes=8589934592")
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--target-version={}", self.servers.last()))
            .arg(format!("--bin-dir={}", self.servers.folder().display()))
            .arg("--log-format=json")
            .args(flags)
            .start_with_pipe()?;
        let begin = Instant::now();
        let (mut text, mut copy) = (String::new(), CopyTime::default());
        let pipe = child.stderr.take().map(BufReader::new);
        let status = crate::interrupt::during(child.id(), || {
            for line in
                pipe.into_iter().flat_map(|it| it.lines().map_while(std::result::Result::ok))
            {
                copy.record(&event(&line), begin.elapsed().as_secs_f64());
                text.push_str(&line);
                text.push('\n');
            }
            child.wait()
        })?;
        crate::interrupt::check()?;
        if !status.success() {
            return Err(TaskError::new(format!("migrate failed with {status}\n{text}")));
        }
        Ok(MigrationTiming { seconds: begin.elapsed().as_secs_f64(), copy_seconds: copy.seconds })
    }

    fn report(&self) -> String {
        let mut lines = vec![
            "| what           | median s | lowest | highest |".to_owned(),
            "|----------------|---------:|-------:|--------:|".to_owned(),
        ];
        for (name, all) in &self.seconds {
            let (low, high) = (lowest(all), highest(all));
            lines.push(format!("| {name:14} | {:8.3} | {low:6.3} | {high:7.3} |", median(all)));
        }
        lines.push(String::new());
        lines.extend(self.goals().iter().map(Goal::line));
        lines.join("\n") + "\n"
    }

    fn goals(&self) -> Vec<Goal> {
        let found = |name| self.seconds.iter().find(|(known, _)| *known == name);
        let middle = |name| found(name).map(|(_, all)| median(all));
        let of = |name| middle(name).unwrap_or(f64::NAN);
        let over = of("migrate") / of("servers alone") - 1.0;
        let ratio = of("copy") / of("cp and sync");
        let mut goals = vec![Goal::new(
            "migrate takes at most 10 % longer than its servers alone, in %",
            over * 100.0,
            over < 0.1,
        )];
        if let Some(shared) = middle("copy, shared") {
            let text = "a copy by shared blocks takes less than 0.1 s";
            goals.push(Goal::new(text, shared, shared < 0.1));
        }
        let text = "a copy takes no longer than cp and sync, as a ratio";
        goals.push(Goal::new(text, ratio, ratio < 1.2));
        goals
    }
}

/// The name of an event that `migrate` wrote; empty if the line is not an event.
fn event(line: &str) -> String {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    value["event"].as_str().unwrap_or_default().to_owned()
}

/// How long the copy took: from the beginning of its step to the event that reports it.
#[derive(Debug, Default)]
struct CopyTime {
    step_began: f64,
    seconds: f64,
}

impl CopyTime {
    /// Records an event and when it arrived.
    fn record(&mut self, event: &str, now: f64) {
        match event {
            "step" => self.step_began = now,
            "backup" => self.seconds = now - self.step_began,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_timed_by_events() {
        let mut copy = CopyTime::default();
        for (event, now) in
            [("found", 0.5), ("step", 1.0), ("backup", 3.5), ("step", 4.0), ("started", 5.0)]
        {
            copy.record(event, now);
        }
        assert!((copy.seconds - 2.5).abs() < 1e-9);
    }

    #[test]
    fn events_have_names() {
        let line =
            r#"{"time":"2026-01-01T00:00:00Z","level":"info","event":"step","message":"no"}"#;
        assert_eq!(event(line), "step");
        assert_eq!(event("not JSON"), "");
    }
}
