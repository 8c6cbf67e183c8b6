use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use etcd_version::EtcdVersion;

use super::container::{Container, Ended};
use super::runtime::{self, Blame, Inside, Running, Runtime, RuntimeError, Signal};
use super::subject::Subject;
use super::{Run, VerifyLayout};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// How many times as long everything may take under an emulator.
const EMULATED: u32 = 10;
/// How often somebody who waits looks whether to stop.
const LOOK: Duration = Duration::from_millis(100);
/// How much of a log is shown with a failure.
const SHOWN_LINES: usize = 12;
/// The same of each of several servers.
const SHOWN_LINES_EACH: usize = 6;

/// Where a case plays: the image, what runs it, and a folder of its own.
pub struct Stage<'a> {
    pub subject: &'a Subject,
    runtime: Option<&'a dyn Runtime>,
    folder: &'a Path,
    pub interrupted: &'a AtomicBool,
    verify: &'a VerifyLayout,
    count: AtomicU32,
    told: Mutex<Told>,
    /// Whose commands are those of the procedure; others may run beside it.
    player: ThreadId,
    seen: Mutex<Seen>,
}

/// What helps to understand a failure and nobody asks for otherwise.
#[derive(Debug, Default)]
struct Seen {
    command: Option<String>,
    /// Last lines of what still ran when the case stopped.
    logs: Vec<(String, Vec<String>)>,
}

/// What a case told while it ran.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub step: String,
    pub notes: Vec<String>,
    pub journeys: Vec<Journey>,
}

/// Data that went from one version to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    pub from: EtcdVersion,
    pub to: EtcdVersion,
}

/// Why a case did not get to its end.
#[derive(Clone, Debug)]
pub enum Stop {
    Failed(Trouble),
    /// What is missing here.
    Skipped(String),
    Interrupted,
}

/// What went wrong, for somebody who was not there.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    pub what: String,
    pub command: Option<String>,
    /// The last lines of whoever knows more.
    pub log: Vec<String>,
    pub blame: Blame,
}

impl Stop {
    pub fn failed(what: impl Display) -> Self {
        Self::Failed(Trouble { what: what.to_string(), ..Trouble::default() })
    }

    /// It says nothing about the image.
    fn could_not_run(why: impl Display) -> Self {
        let what = format!("could not run: {why}");
        Self::Failed(Trouble { what, blame: Blame::Machine, ..Trouble::default() })
    }

    /// With the last lines of a log, unless there are some from nearer to the trouble.
    #[must_use]
    pub fn log(mut self, text: &str) -> Self {
        if let Self::Failed(trouble) = &mut self
            && trouble.log.is_empty()
        {
            trouble.log = last_lines(text, SHOWN_LINES);
        }
        self
    }

    #[must_use]
    pub fn command(mut self, line: String) -> Self {
        if let Self::Failed(trouble) = &mut self {
            trouble.command = Some(line);
        }
        self
    }
}

impl From<RuntimeError> for Stop {
    fn from(error: RuntimeError) -> Self {
        let because = error.source.as_ref().map(|source| format!(": {source}"));
        let what = format!("{error}{}", because.unwrap_or_default());
        match error.blame {
            Blame::Image => Self::failed(what),
            Blame::Machine => Self::could_not_run(what),
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        let what = format!("the file system says: {error}");
        match error.kind() {
            // Nobody but the programs of the image should have written it.
            std::io::ErrorKind::NotFound => Self::failed(what),
            _ => Self::could_not_run(what),
        }
    }
}

fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(count)..];
    shown.iter().map(|line| (*line).to_owned()).collect()
}

/// An error when something is not as it should be.
pub fn ensure(is_so: bool, what: impl FnOnce() -> String) -> Result<(), Stop> {
    if is_so { Ok(()) } else { Err(Stop::failed(what())) }
}

/// An error that shows both when two things differ.
pub fn same<T: PartialEq + Display + ?Sized>(
    what: &str,
    expected: &T,
    received: &T,
) -> Result<(), Stop> {
    ensure(expected == received, || {
        format!(
            "{what} is not what it should be\n  expected {}\n  received {}",
            short(&expected.to_string()),
            short(&received.to_string())
        )
    })
}

/// Nobody reads more of a value than this.
fn short(text: &str) -> String {
    const LONGEST: usize = 400;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}… ({} bytes)", text.len())
}

impl fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl<'a> Stage<'a> {
    pub fn new(run: &'a Run<'a>, folder: &'a Path) -> Self {
        Self {
            subject: run.subject,
            runtime: run.runtime,
            folder,
            interrupted: run.interrupted,
            verify: run.verify,
            count: AtomicU32::new(0),
            told: Mutex::default(),
            player: thread::current().id(),
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, container: &Container) {
        if thread::current().id() == self.player {
            self.seen().command = Some(container.line());
        }
    }

    /// With the last command, unless a nearer one is known, and the logs of the servers that ran.
    pub fn explain(&self, mut trouble: Trouble) -> Trouble {
        let seen = self.seen();
        trouble.command = trouble.command.or_else(|| seen.command.clone());
        for (line, log) in &seen.logs {
            let is_new = log.last().is_some_and(|last| !trouble.log.contains(last));
            if is_new {
                trouble.log.push(format!("{line} said:"));
                trouble.log.extend(log.iter().cloned());
            }
        }
        trouble
    }

    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the procedure does now: shown when it fails.
    pub fn step(&self, what: impl Display) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).step = what.to_string();
    }

    /// Everything that `etcdimg verify` finds wrong with the layout.
    pub fn verify(&self) -> Result<Vec<String>, Stop> {
        (self.verify)(&self.subject.layout).map_err(Stop::failed)
    }

    /// A figure for the report.
    pub fn note(&self, what: impl Display) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.notes.push(what.to_string());
    }

    /// Data has gone this way and is whole.
    pub fn journey(&self, from: &EtcdVersion, to: &EtcdVersion) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.journeys.push(Journey { from: from.clone(), to: to.clone() });
    }

    /// A new, empty folder.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Stop> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{name}-{count}"));
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    pub fn pod(&self) -> Result<Pod<'_>, Stop> {
        let Some(runtime) = self.runtime else {
            return Err(Stop::Skipped("nothing here can run the image".to_owned()));
        };
        let folder = self.folder("pod")?;
        Ok(Pod { inner: runtime.pod(&folder)?, stage: self })
    }

    /// A user who is not root; without one the case is skipped.
    pub fn other_user(&self) -> Result<(u32, u32), Stop> {
        let nobody = || Err("nothing here can run the image".to_owned());
        self.runtime.map_or_else(nobody, Runtime::other_user).map_err(Stop::Skipped)
    }

    /// A time limit, or what it is under an emulator.
    pub fn limit(&self, natively: Duration) -> Duration {
        if self.subject.is_foreign() { natively * EMULATED } else { natively }
    }

    pub fn check(&self) -> Result<(), Stop> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Stop::Interrupted) } else { Ok(()) }
    }

    /// Asks again and again until the answer is yes.
    pub fn until(
        &self,
        what: &str,
        mut is_so: impl FnMut() -> Result<bool, Stop>,
    ) -> Result<(), Stop> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(10);
        while !is_so()? {
            self.check()?;
            let patience = self.limit(PATIENCE);
            ensure(started.elapsed() < patience, || {
                format!("waited {} s for {what}", patience.as_secs())
            })?;
            thread::sleep(pause);
            pause = (pause * 2).min(LOOK);
        }
        Ok(())
    }
}

/// A network with containers in it.
pub struct Pod<'a> {
    inner: Box<dyn runtime::Pod>,
    stage: &'a Stage<'a>,
}

impl fmt::Debug for Pod<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pod").finish_non_exhaustive()
    }
}

impl<'a> Pod<'a> {
    pub fn stage(&self) -> &'a Stage<'a> {
        self.stage
    }

    pub fn start(&self, container: &Container) -> Result<Process<'a>, Stop> {
        self.stage.check()?;
        self.stage.saw(container);
        let running = self.inner.start(container)?;
        Ok(Process {
            running,
            line: container.line(),
            stage: self.stage,
            started: Instant::now(),
            has_ended: false,
        })
    }

    /// Runs to the end, whatever that is.
    pub fn run(&self, container: &Container) -> Result<Ended, Stop> {
        self.stage.check()?;
        self.stage.saw(container);
        let patience = self.stage.limit(PATIENCE);
        let goes_on = |after| after <= patience && self.stage.check().is_ok();
        match self.inner.run_inside(container, &goes_on).transpose()? {
            None => self.start(container)?.end(),
            Some(Inside::Ended(ended)) => Ok(ended),
            Some(Inside::GivenUp) => {
                self.stage.check()?;
                Err(too_long(patience, container.line()))
            }
        }
    }

    /// Runs to a good end; what was written to standard output.
    pub fn must(&self, container: &Container) -> Result<String, Stop> {
        let ended = self.run(container)?;
        if ended.code == 0 {
            return Ok(ended.stdout);
        }
        Err(Stop::failed(format_args!("a command failed with exit code {}", ended.code))
            .command(container.line())
            .log(&format!("{}{}", ended.stdout, ended.stderr)))
    }
}

fn too_long(patience: Duration, line: String) -> Stop {
    Stop::failed(format_args!("a command did not end within {} s", patience.as_secs()))
        .command(line)
}

/// A container that runs beside the case.
pub struct Process<'a> {
    running: Box<dyn Running>,
    line: String,
    stage: &'a Stage<'a>,
    started: Instant,
    has_ended: bool,
}

impl fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Process<'_> {
    pub fn has_ended(&mut self) -> Result<Option<i32>, Stop> {
        Ok(self.running.wait(Duration::ZERO)?)
    }

    pub fn signal(&mut self, signal: Signal) -> Result<(), Stop> {
        Ok(self.running.signal(signal)?)
    }

    /// Waits for the end.
    pub fn end(mut self) -> Result<Ended, Stop> {
        loop {
            if let Some(code) = self.running.wait(LOOK)? {
                self.has_ended = true;
                return Ok(Ended {
                    code,
                    stdout: self.running.stdout()?,
                    stderr: self.running.stderr()?,
                    after: self.started.elapsed(),
                });
            }
            self.stage.check()?;
            let patience = self.stage.limit(PATIENCE);
            if self.started.elapsed() > patience {
                return Err(too_long(patience, self.line.clone()).log(&self.log()));
            }
        }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.running.stderr().unwrap_or_default()
    }

    pub fn line(&self) -> &str {
        &self.line
    }
}

/// Cases end what they start; what is dropped before was running when something failed.
impl Drop for Process<'_> {
    fn drop(&mut self) {
        if !self.has_ended && self.stage.check().is_ok() {
            let words = self.line.split(' ').filter(|word| !word.contains("ETCD_"));
            let name = words.take(2).collect::<Vec<_>>().join(" ");
            let log = last_lines(&self.log(), SHOWN_LINES_EACH);
            self.stage.seen().logs.push((name, log));
        }
    }
}
