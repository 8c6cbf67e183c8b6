//! Compares how long etcdimg, crane and Docker take to push to one registry on this machine, in one
//! run.
//!
//!   first      an index into an empty repository
//!   again      the same once more
//!   revision   the same after a revision bump: new last layers, configs, manifests and index
//!
//! Each on loopback and over a link with a delay: by netem in a network namespace where the kernel
//! has it, else by [`super::long_link`]. Requests are counted in the registry's access log.
//! docs/performance.md explains the results. Docker's row, with the first of the seven images,
//! appears where an engine answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::link::{Link, LinkKind};
use super::push_images;
use super::statistics::{Goal, median};
use super::timing::{cores, load};
use crate::command::{Cmd, find};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::real_parts::tools::{self, Tools};
use crate::registry;
use crate::work::Work;
use crate::workspace::say;

/// What is measured, and with what.
#[derive(Debug)]
pub struct PushBenchOptions<'a> {
    pub runs: usize,
    /// There and back.
    pub delay: Duration,
    /// etcdimg, compiled for release.
    pub program: &'a Path,
}

/// One push.
struct PushSample {
    wall_seconds: f64,
    peak_kib: f64,
    requests: f64,
}

/// Link, case and who pushed, in the order of the report.
type Key = (&'static str, &'static str, &'static str);

struct PushBench<'a> {
    options: &'a PushBenchOptions<'a>,
    tools: Tools,
    time: PathBuf,
    kind: LinkKind,
    work: Work,
    data: Work,
    order: Vec<Key>,
    samples: BTreeMap<Key, Vec<PushSample>>,
}

pub fn run(options: &PushBenchOptions<'_>) -> Result<()> {
    let time = find("time").ok_or_else(|| TaskError::new("there is no program `time`"))?;
    let tools = tools::install()?;
    let work = Work::new(&std::env::temp_dir(), "bench-push.")?;
    let data = Work::new(&memory(), "bench-push-registry.")?;
    for revision in [0, 1] {
        push_images::write(&layout(work.path(), revision), revision)?;
    }
    let kind = LinkKind::choose()?;
    let (order, samples) = (Vec::new(), BTreeMap::new());
    let mut bench = PushBench { options, tools, time, kind, work, data, order, samples };
    for link in ["loopback", "delay"] {
        bench.link(link)?;
    }
    print!("{}", bench.report()?);
    Ok(())
}

fn layout(work: &Path, revision: u32) -> PathBuf {
    work.join(format!("layout{revision}"))
}

/// A folder in memory. The registry syncs each blob, and the disk is not to be measured.
fn memory() -> PathBuf {
    const WANTED_BYTES: u64 = 2_000_000_000;
    let memory = PathBuf::from("/dev/shm");
    let free = rustix::fs::statvfs(&memory).map_or(0, |it| it.f_bavail * it.f_frsize);
    if free > WANTED_BYTES { memory } else { std::env::temp_dir() }
}

/// A registry at the end of a link.
struct LinkedRegistry {
    link: &'static str,
    prefix: Vec<String>,
    address: String,
    access_log: PathBuf,
}

impl PushBench<'_> {
    /// Everything over one link.
    fn link(&mut self, name: &'static str) -> Result<()> {
        let link =
            if name == "delay" { Link::open(self.kind, self.options.delay)? } else { Link::none() };
        let data = self.data.path().join(name);
        let registry = registry::start(&registry::RegistryDaemonOptions {
            program: self.tools.get("DOCKER_REGISTRY")?,
            work: self.work.path(),
            data: &data,
            prefix: link.prefix(),
            allows_delete: false,
        })?;
        let far = LinkedRegistry {
            link: name,
            prefix: link.prefix().to_vec(),
            address: link.address(&registry.address)?,
            access_log: registry.access_log.clone(),
        };
        // The very first push: etcdimg knows nothing about the registry yet.
        self.push_by_etcdimg(&far, "first, unknown registry", 0, "unknown")?;
        for run in 1..=self.options.runs {
            say(format_args!("{name}, run {run} of {}", self.options.runs));
            for (case, revision) in [("first", 0), ("again", 0), ("revision", 1)] {
                self.push_by_etcdimg(&far, case, revision, &format!("ours{run}"))?;
                self.push_by_crane(&far, case, revision, &format!("cranes{run}"))?;
            }
            if name == "loopback" && Cmd::new("docker").arg("version").succeeds() {
                self.push_by_docker(&far, run)?;
            }
        }
        drop(registry);
        let _ = fs::remove_dir_all(data);
        Ok(())
    }

    fn push_by_etcdimg(
        &mut self,
        far: &LinkedRegistry,
        case: &'static str,
        revision: u32,
        name: &str,
    ) -> Result<()> {
        let words = self.push(far, revision, name);
        self.timed(far, "etcdimg", case, &words)
    }

    fn push(&self, far: &LinkedRegistry, revision: u32, repository: &str) -> Vec<String> {
        let work = self.work.path();
        let words = [
            self.options.program.display().to_string(),
            "-q".into(),
            "--cache-dir".into(),
            work.join(format!("cache-{}", far.link)).display().to_string(),
            "push".into(),
            layout(work, revision).display().to_string(),
            "--registry".into(),
            far.address.clone(),
            "--repository".into(),
            repository.into(),
        ];
        words.to_vec()
    }

    fn push_by_crane(
        &mut self,
        far: &LinkedRegistry,
        case: &'static str,
        revision: u32,
        name: &str,
    ) -> Result<()> {
        let words = [
            self.tools.get("CRANE")?.display().to_string(),
            "push".into(),
            "--insecure".into(),
            "--index".into(),
            layout(self.work.path(), revision).display().to_string(),
            format!("{}/{name}:{}", far.address, push_images::tag(revision)),
        ];
        self.timed(far, "crane", case, &words)
    }

    /// Only one image: an engine pushes only images for its own platform.
    fn push_by_docker(&mut self, far: &LinkedRegistry, run: usize) -> Result<()> {
        let image = format!("{}/ours1:{}", far.address, push_images::tag(0));
        if run == 1 {
            let tar = self.work.path().join("one.tar");
            let pull = ["pull", "--insecure", "--platform", "linux/amd64", &image];
            Cmd::new(self.tools.get("CRANE")?).args(pull).arg(&tar).run()?;
            Cmd::new("docker").args(["load", "--quiet", "--input"]).arg(&tar).text()?;
        }
        let name = format!("{}/dockers{run}:1", far.address);
        Cmd::new("docker").args(["tag", &image, &name]).run()?;
        let push = ["docker", "push", "--quiet", &name].map(str::to_owned);
        self.timed(far, "docker, one image", "first", &push)?;
        let mut ours = self.push(far, 0, &format!("one{run}"));
        ours.extend(["--platform".to_owned(), "linux/amd64".to_owned()]);
        self.timed(far, "etcdimg, one image", "first", &ours)
    }

    fn timed(
        &mut self,
        far: &LinkedRegistry,
        who: &'static str,
        case: &'static str,
        words: &[String],
    ) -> Result<()> {
        let requests = || -> Result<usize> {
            let log = fs::read_to_string(&far.access_log).context(far.access_log.display())?;
            Ok(log.matches('\n').count())
        };
        let file = self.work.path().join("time");
        let before = requests()?;
        let format = ["-f", "%e %M"];
        let command = Cmd::new(&self.time).args(format).arg("-o").arg(&file).args(&far.prefix);
        command.args(words).text()?;
        thread::sleep(Duration::from_millis(100));
        let after = requests()?;
        let text = fs::read_to_string(&file).context(file.display())?;
        let mut numbers = text.split_whitespace().map(str::parse::<f64>);
        let (Some(Ok(wall_seconds)), Some(Ok(peak_kib))) = (numbers.next(), numbers.next()) else {
            return Err(TaskError::new(format!("`time` wrote `{}`", text.trim())));
        };
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        let requests = (after - before) as f64;
        let key = (far.link, case, who);
        if !self.order.contains(&key) {
            self.order.push(key);
        }
        self.samples.entry(key).or_default().push(PushSample { wall_seconds, peak_kib, requests });
        Ok(())
    }

    fn values(&self, key: Key, value: fn(&PushSample) -> f64) -> Vec<f64> {
        self.samples.get(&key).into_iter().flatten().map(value).collect()
    }

    fn report(&self) -> Result<String> {
        let delay = self.options.delay.as_millis();
        let runs = self.samples.values().map(Vec::len).max().unwrap_or(0);
        let mut lines = vec![
            format!(
                "{} cores, link by {}, delay {delay} ms there and back, medians of {runs}\n",
                cores(),
                self.kind
            ),
            "| link | case | who | wall s | peak MiB | requests |".to_owned(),
            "|---|---|---|--:|--:|--:|".to_owned(),
        ];
        for key in &self.order {
            let (link, case, who) = key;
            lines.push(format!(
                "| {link} | {case} | {who} | {:.2} | {:.0} | {:.0} |",
                median(&self.values(*key, |it| it.wall_seconds)),
                super::statistics::highest(&self.values(*key, |it| it.peak_kib)) / 1024.0,
                median(&self.values(*key, |it| it.requests)),
            ));
        }
        lines.push(String::new());
        lines.extend(self.goals().iter().map(Goal::line));
        lines.push(format!("load average now: {:.1}\n", load()?));
        Ok(lines.join("\n"))
    }

    fn goals(&self) -> Vec<Goal> {
        let wall = |link, case, who| median(&self.values((link, case, who), |it| it.wall_seconds));
        let requests = |case, who| median(&self.values(("loopback", case, who), |it| it.requests));
        let ratio =
            |link| wall(link, "first", "crane") / f64::max(wall(link, "first", "etcdimg"), 0.001);
        let ours = self.order.iter().filter(|(_, _, who)| who.starts_with("etcdimg"));
        let peaks: Vec<_> = ours.flat_map(|key| self.values(*key, |it| it.peak_kib)).collect();
        let peak = super::statistics::highest(&peaks) / 1024.0;
        let (far, near) = (ratio("delay"), ratio("loopback"));
        let again = requests("again", "etcdimg");
        let share = requests("first", "crane") / requests("first", "etcdimg");
        vec![
            Goal::new(
                "first push over the delay: at least 1.5 times faster than crane",
                far,
                far >= 1.5,
            ),
            Goal::new("first push on loopback: not slower than crane", near, near >= 1.0),
            Goal::new("nothing to do: requests", again, again <= 2.0),
            Goal::new("first push: crane's requests divided by etcdimg's", share, share > 1.5),
            Goal::new("peak memory under 128 MiB", peak, peak < 128.0),
        ]
    }
}
