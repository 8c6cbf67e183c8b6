//! Builds of the same files by other tools: crane, and buildx with its own BuildKit.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::content::{BenchContent, size_of_tar};
use super::report::BenchSamples;
use super::timing::Clock;
use crate::buildkit;
use crate::command::Cmd;
use crate::daemon::{self, Daemon};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::real_parts::tools::Tools;
use crate::registry::{self, RegistryDaemon};

/// Programs and daemons that are measured beside etcdimg.
#[derive(Debug)]
pub struct ComparedTools {
    crane: PathBuf,
    buildx: PathBuf,
    registry: RegistryDaemon,
    /// Its process, which `time` does not see.
    builder: u32,
    _builder: Daemon,
    work: PathBuf,
    context: PathBuf,
    /// The arguments with the tars of all layers.
    appended: Vec<String>,
    /// The digest of the manifest of the base, for BuildKit.
    base: String,
    /// Clock ticks in a second.
    ticks: f64,
}

impl ComparedTools {
    pub fn start(tools: &Tools, work: &Path, content: &BenchContent) -> Result<Self> {
        let program = tools.get("BUILDKITD")?;
        let registry = registry::start(&registry::RegistryDaemonOptions {
            program: tools.get("DOCKER_REGISTRY")?,
            work,
            data: &work.join("registry"),
            prefix: &[],
            allows_delete: false,
        })?;
        let root = work.join("buildkitd");
        let started = buildkit::start(&buildkit::BuildkitOptions { program, work, root: &root })?;
        let builder = started.ok_or_else(|| {
            let log = fs::read_to_string(buildkit::log(work)).unwrap_or_default();
            TaskError::new(format!("BuildKit does not start\n{log}"))
        })?;
        // With sudo, our child process is sudo and not BuildKit.
        let line = format!("{} --root {}", program.display(), root.display());
        let found = daemon::with_command_line(|known| known.starts_with(&line));
        let tars = content.tars()?;
        let tars = tars.iter().flat_map(|tar| ["-f".to_owned(), tar.display().to_string()]);
        let mut compared = Self {
            crane: tools.get("CRANE")?.to_owned(),
            buildx: tools.get("BUILDX")?.to_owned(),
            registry,
            builder: found.last().copied().unwrap_or(builder.id()),
            _builder: builder,
            work: work.to_owned(),
            context: content.context(),
            appended: tars.collect(),
            base: String::new(),
            ticks: Cmd::new("getconf").arg("CLK_TCK").text()?.parse()?,
        };
        let create = ["create", "--name", "bench", "--driver", "remote"];
        let address = buildkit::address(work);
        compared.client(Cmd::new(&compared.buildx).args(create).arg(address)).text()?;
        compared.base = compared.base()?;
        Ok(compared)
    }

    fn client(&self, command: Cmd) -> Cmd {
        command.env("BUILDX_CONFIG", self.work.join("buildx"))
    }

    /// Writes the base into the registry, and into a layout for BuildKit. Returns the digest of its
    /// manifest.
    fn base(&self) -> Result<String> {
        let name = |tag| format!("{}/base:{tag}", self.registry.address);
        let crane = || Cmd::new(&self.crane);
        let (empty, base) = (name("0"), name("1"));
        let tar = self.work.join("base.tar");
        let append = ["append", "--insecure", "--oci-empty-base", "-t", &empty, "-f"];
        crane().args(append).arg(tar).text()?;
        let platform = ["--set-platform", "linux/amd64", "-t", &base, &empty];
        crane().args(["mutate", "--insecure"]).args(platform).text()?;
        let layout = self.layout();
        crane().args(["pull", "--insecure", "--format=oci", &base]).arg(&layout).text()?;
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
        Ok(index["manifests"][0]["digest"].as_str().unwrap_or_default().to_owned())
    }

    fn layout(&self) -> PathBuf {
        self.work.join("base-layout")
    }

    /// crane with all layers, on the base in the registry.
    fn append(&self, further: &[String]) -> Vec<String> {
        let base = format!("{}/base:1", self.registry.address);
        let fixed = ["append", "--insecure", "-b", &base].map(str::to_owned);
        let program = self.crane.display().to_string();
        [&[program][..], &fixed, &self.appended, further].concat()
    }

    pub fn crane_file(&self, clock: &Clock, results: &mut BenchSamples) -> Result<()> {
        let name = "crane append, file";
        let out = self.work.join("crane.tar");
        let _ = fs::remove_file(&out);
        let further = ["-t", "bench/etcd:1", "-o", &out.display().to_string()].map(str::to_owned);
        results.add(name, clock.run(&self.append(&further), |command| command)?);
        results.size(name, size_of_tar(&out)?);
        Ok(())
    }

    /// Into another repository each time, because a layer that exists is not sent again.
    pub fn crane_push(&self, clock: &Clock, results: &mut BenchSamples, run: usize) -> Result<()> {
        let further = ["-t".to_owned(), format!("{}/etcd-{run}:1", self.registry.address)];
        results.add("crane append, push", clock.run(&self.append(&further), |command| command)?);
        Ok(())
    }

    pub fn buildx(&mut self, clock: &Clock, results: &mut BenchSamples) -> Result<()> {
        self.build("buildx", "", &[], clock, results)
    }

    pub fn buildx_epoch(&mut self, clock: &Clock, results: &mut BenchSamples) -> Result<()> {
        let variables = [("SOURCE_DATE_EPOCH", "0")];
        self.build("buildx, epoch", ",rewrite-timestamp=true", &variables, clock, results)
    }

    fn build(
        &self,
        name: &'static str,
        output: &str,
        variables: &[(&str, &str)],
        clock: &Clock,
        results: &mut BenchSamples,
    ) -> Result<()> {
        let out = self.work.join("buildx.tar");
        let _ = fs::remove_file(&out);
        // Resets the peak of the last run.
        Cmd::root("tee").arg(self.proc("clear_refs")).fed(b"5\n")?;
        let before = self.cpu_seconds()?;
        let words = [
            self.buildx.display().to_string(),
            "build".into(),
            "--builder=bench".into(),
            "--no-cache".into(),
            "--provenance=false".into(),
            "--progress=plain".into(),
            format!("--build-context=base=oci-layout://{}@{}", self.layout().display(), self.base),
            format!("--output=type=oci,dest={}{output}", out.display()),
            self.context.display().to_string(),
        ];
        let change = |command: Cmd| self.client(command).envs(variables.iter().copied());
        let mut sample = clock.run(&words, change)?;
        sample.cpu_seconds += self.cpu_seconds()? - before;
        sample.peak_kib = sample.peak_kib.max(self.peak_kib()?);
        results.add(name, sample);
        results.size(name, size_of_tar(&out)?);
        Ok(())
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.builder))
    }

    /// What the builder has used so far, with its children that have ended.
    fn cpu_seconds(&self) -> Result<f64> {
        let path = self.proc("stat");
        let text = fs::read_to_string(&path).context(path.display())?;
        Ok(cpu_ticks(&text) / self.ticks)
    }

    fn peak_kib(&self) -> Result<f64> {
        let path = self.proc("status");
        let text = fs::read_to_string(&path).context(path.display())?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| TaskError::new(format!("{} has no VmHWM", path.display())))
    }
}

/// The fields 14 to 17 of /proc/PID/stat (proc(5)): utime, stime, cutime and cstime. The name of
/// the program, in parentheses, may contain spaces.
fn cpu_ticks(stat: &str) -> f64 {
    let rest = stat.rsplit_once(") ").map_or(stat, |(_, rest)| rest);
    let fields = rest.split(' ').skip(11).take(4);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_four_fields() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 9 0 5 6";
        assert!((cpu_ticks(stat) - 127.0).abs() < 1e-9);
    }
}
