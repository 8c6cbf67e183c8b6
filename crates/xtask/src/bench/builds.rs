//! Compares how long etcdimg, crane and buildx take for an image of the same files, in one run.
//!
//!   etcdimg, programs   `etcdimg build` from compiled programs, no layer made yet
//!   etcdimg, archives   the same from .tar.gz archives as etcd releases them
//!   etcdimg, no change  the same again, everything in place; strace counts its connections
//!   crane append, file  ready tars of the same layers onto the same base, into a tarball
//!   crane append, push  the same into a registry on loopback
//!   buildx              a Dockerfile that copies the same files, --no-cache, type=oci
//!   buildx, epoch       the same with SOURCE_DATE_EPOCH and rewrite-timestamp=true
//!
//! Everything is timed in turns, with files in the page cache. docs/performance.md explains the
//! results. Programs that are not in the cache are compiled first. The daemons are private and end
//! with the benchmark.

use std::fs;
use std::path::{Path, PathBuf};

use etcdimg::digest::Digest;
use serde_json::Value;

use super::compared_tools::ComparedTools;
use super::content::{BenchContent, size_of_files};
use super::rates;
use super::report::BenchSamples;
use super::timing::Clock;
use crate::command::{Cmd, find, path_with};
use crate::error::{ErrorContext as _, Result};
use crate::real_parts::tools::{self, Tools};
use crate::work::Work;
use crate::workspace::{self, say};
use crate::{apt, busybox, cross, go};

/// What is measured, and where the numbers go.
#[derive(Debug)]
pub struct BuildBenchOptions<'a> {
    pub runs: usize,
    pub json: Option<&'a Path>,
}

/// The parameters and results of one run of the benchmark.
struct BuildBench {
    program: PathBuf,
    root: PathBuf,
    /// The argument that names the base.
    base: String,
    catalog: PathBuf,
    clock: Clock,
    results: BenchSamples,
    work: Work,
}

/// Runs the benchmark; returns the etcdimg that was measured.
pub fn run(options: &BuildBenchOptions<'_>) -> Result<PathBuf> {
    let tools = set_up()?;
    let work = Work::new(&workspace::cache()?, "bench.")?;
    say("compiling what is not in the cache");
    Cmd::cargo().args(["build", "--release", "--locked", "--quiet", "--bin=etcdimg"]).run()?;
    let program = crate::built::path("release", "etcdimg")?;
    let (mut bench, content) = BuildBench::prepare(program, work)?;
    let mut compared = ComparedTools::start(&tools, bench.work.path(), &content)?;
    let rates = rates::measure(&content.tars()?)?;
    for run in 1..=options.runs {
        say(format_args!("run {run} of {}", options.runs));
        bench.programs()?;
        compared.crane_file(&bench.clock, &mut bench.results)?;
        bench.archives()?;
        compared.buildx(&bench.clock, &mut bench.results)?;
        compared.crane_push(&bench.clock, &mut bench.results, run)?;
        compared.buildx_epoch(&bench.clock, &mut bench.results)?;
    }
    let connections = bench.count_connections()?;
    let archive_bytes = size_of_files(&content.archives())?;
    let results = &bench.results;
    let report = results.report(rates, archive_bytes, connections, options.runs);
    print!("{}", report.text());
    if let Some(path) = options.json {
        let text: Value = report.json();
        fs::write(path, serde_json::to_string_pretty(&text)? + "\n").context(path.display())?;
    }
    Ok(bench.program)
}

fn set_up() -> Result<Tools> {
    cross::provide()?;
    let missing = ["time", "strace", "runc"].into_iter().filter(|name| find(name).is_none());
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        apt::install(&missing)?;
    }
    tools::install()
}

impl BuildBench {
    fn prepare(program: PathBuf, work: Work) -> Result<(Self, BenchContent)> {
        let place = work.path().to_owned();
        let tar = place.join("base.tar");
        let digest: Digest = busybox::write(None, "linux/amd64", &tar)?;
        let mut bench = Self {
            program,
            root: workspace::root(),
            base: format!("busybox=rootfs:{}@{digest}", tar.display()),
            catalog: PathBuf::new(),
            clock: Clock::new(&place)?,
            results: BenchSamples::default(),
            work,
        };
        let user_cache = workspace::cache()?;
        Cmd::new(&bench.program)
            .env("PATH", path_with(go::provide()?.as_deref())?)
            .arg("-q")
            .arg("--cache-dir")
            .arg(&user_cache)
            .args(["build", "--arch=amd64", "--from=source", "--base", &bench.base, "--out"])
            .arg(place.join("layout"))
            .dir(&bench.root)
            .run()?;
        // Links into the user's cache: a blob is never written again, only replaced.
        let programs = place.join("programs");
        fs::create_dir(&programs)?;
        let kept = ["blobs", "records"].map(|name| user_cache.join(name));
        Cmd::new("cp").arg("-rl").args(kept).arg(&programs).run()?;
        forget_layers(&programs)?;
        say("writing the same layers, files and archives for all programs");
        let content = BenchContent::write(&place, &place.join("layout"))?;
        bench.catalog = content.catalog()?;
        let archived = place.join("archived");
        Cmd::new("cp").arg("-rl").arg(&programs).arg(&archived).run()?;
        let mirror = format!("file://{}/{{file}}", content.archives().display());
        let words = bench.words(&bench.catalog, &archived, "release");
        Cmd::new(&words[0]).args(&words[1..]).args(["--mirror", &mirror]).run()?;
        forget_layers(&archived)?;
        Ok((bench, content))
    }

    /// The command line of a build with a cache.
    fn words(&self, catalog: &Path, cache: &Path, origin: &str) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let fixed = ["build", "--arch", "amd64", "--from", origin, "--base", &self.base, "--out"];
        let mut words = vec![
            text(&self.program),
            "-q".into(),
            "-C".into(),
            text(catalog),
            "--cache-dir".into(),
            text(cache),
        ];
        words.extend(fixed.map(str::to_owned));
        words.push(text(&self.out()));
        words
    }

    fn out(&self) -> PathBuf {
        self.work.path().join("out")
    }

    fn cache(&self) -> PathBuf {
        self.work.path().join("cache")
    }

    /// Removes what was built, and makes a cache without layers.
    fn cold(&self, cache: &str) -> Result<()> {
        let _ = fs::remove_dir_all(self.out());
        let _ = fs::remove_dir_all(self.cache());
        Cmd::new("cp").arg("-rl").arg(self.work.path().join(cache)).arg(self.cache()).run()
    }

    fn timed(&mut self, name: &'static str, catalog: &Path, origin: &str) -> Result<()> {
        let mut words = self.words(catalog, &self.cache(), origin);
        words.insert(1, "--offline".into());
        let sample = self.clock.run(&words, |command| command)?;
        self.results.add(name, sample);
        Ok(())
    }

    fn programs(&mut self) -> Result<()> {
        self.cold("programs")?;
        let root = self.root.clone();
        self.timed("etcdimg, programs", &root, "source")?;
        let size = size_of_files(&self.out().join("blobs"))?;
        self.results.size("etcdimg, programs", size);
        self.timed("etcdimg, no change", &root, "source")
    }

    fn archives(&mut self) -> Result<()> {
        self.cold("archived")?;
        let catalog = self.catalog.clone();
        self.timed("etcdimg, archives", &catalog, "release")?;
        let size = size_of_files(&self.out().join("blobs"))?;
        self.results.size("etcdimg, archives", size);
        Ok(())
    }

    /// Counts the connections of a build that has nothing to do.
    fn count_connections(&self) -> Result<usize> {
        self.cold("programs")?;
        let words = self.words(&self.root, &self.cache(), "source");
        Cmd::new(&words[0]).args(&words[1..]).arg("--offline").text()?;
        let file = self.work.path().join("connects");
        let options = ["-f", "-qq", "-e", "trace=connect", "-o"];
        Cmd::new("strace").args(options).arg(&file).args(&words).text()?;
        Ok(fs::read_to_string(&file)?.matches("connect(").count())
    }
}

fn forget_layers(cache: &Path) -> Result<()> {
    let layers = cache.join("records/layer");
    if layers.exists() {
        fs::remove_dir_all(layers)?;
    }
    Ok(())
}
