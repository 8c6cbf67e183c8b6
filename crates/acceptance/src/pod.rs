//! Containers of a case: a network that they share, and processes that run in it.

use std::fmt;
use std::time::{Duration, Instant};

use super::container::{Container, Ended};
use super::context::{COMMAND_TIMEOUT, CaseContext, POLL_INTERVAL};
use super::error::{CaseError, last_lines};
use super::runtime::{self, Inside, Running, Signal};

/// How many last lines of each server are shown, if there are several servers.
const SHOWN_LINES_EACH: usize = 6;

/// A network with containers in it.
pub struct Pod<'a> {
    inner: Box<dyn runtime::RuntimePod>,
    context: &'a CaseContext<'a>,
}

impl fmt::Debug for Pod<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pod").finish_non_exhaustive()
    }
}

impl CaseContext<'_> {
    /// A new network; without anything that can run the image, the case is skipped.
    pub fn pod(&self) -> Result<Pod<'_>, CaseError> {
        let Some(runtime) = self.runtime() else {
            return Err(CaseError::Skipped("nothing here can run the image".to_owned()));
        };
        let folder = self.folder("pod")?;
        Ok(Pod { inner: runtime.pod(&folder)?, context: self })
    }
}

impl<'a> Pod<'a> {
    pub fn context(&self) -> &'a CaseContext<'a> {
        self.context
    }

    pub fn start(&self, container: &Container) -> Result<Process<'a>, CaseError> {
        self.context.check()?;
        self.context.saw(container);
        let running = self.inner.start(container)?;
        Ok(Process {
            running,
            line: container.line(),
            context: self.context,
            started: Instant::now(),
            has_ended: false,
        })
    }

    /// Runs to the end, with any exit code.
    pub fn run(&self, container: &Container) -> Result<Ended, CaseError> {
        self.context.check()?;
        self.context.saw(container);
        let timeout = self.context.limit(COMMAND_TIMEOUT);
        let goes_on = |after| after <= timeout && self.context.check().is_ok();
        match self.inner.run_inside(container, &goes_on).transpose()? {
            None => self.start(container)?.end(),
            Some(Inside::Ended(ended)) => Ok(ended),
            Some(Inside::GivenUp) => {
                self.context.check()?;
                Err(too_long(timeout, container.line()))
            }
        }
    }

    /// Runs to the end and returns standard output. An error if the exit code is not 0.
    pub fn must(&self, container: &Container) -> Result<String, CaseError> {
        let ended = self.run(container)?;
        if ended.code == 0 {
            return Ok(ended.stdout);
        }
        Err(CaseError::failed(format_args!("a command failed with exit code {}", ended.code))
            .command(container.line())
            .log(&format!("{}{}", ended.stdout, ended.stderr)))
    }
}

fn too_long(timeout: Duration, line: String) -> CaseError {
    CaseError::failed(format_args!("a command did not end within {} s", timeout.as_secs()))
        .command(line)
}

/// A container that runs in the background of the case.
pub struct Process<'a> {
    running: Box<dyn Running>,
    line: String,
    context: &'a CaseContext<'a>,
    started: Instant,
    has_ended: bool,
}

impl fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Process<'_> {
    pub fn has_ended(&mut self) -> Result<Option<i32>, CaseError> {
        Ok(self.running.wait(Duration::ZERO)?)
    }

    pub fn signal(&mut self, signal: Signal) -> Result<(), CaseError> {
        Ok(self.running.signal(signal)?)
    }

    /// Waits for the end.
    pub fn end(mut self) -> Result<Ended, CaseError> {
        loop {
            if let Some(code) = self.running.wait(POLL_INTERVAL)? {
                self.has_ended = true;
                return Ok(Ended {
                    code,
                    stdout: self.running.stdout()?,
                    stderr: self.running.stderr()?,
                    after: self.started.elapsed(),
                });
            }
            self.context.check()?;
            let timeout = self.context.limit(COMMAND_TIMEOUT);
            if self.started.elapsed() > timeout {
                return Err(too_long(timeout, self.line.clone()).log(&self.log()));
            }
        }
    }

    /// Its standard error so far.
    pub fn log(&self) -> String {
        self.running.stderr().unwrap_or_default()
    }

    pub fn line(&self) -> &str {
        &self.line
    }
}

/// Cases wait for the end of every process. One that is dropped before was running when the case
/// failed, so the end of its log is shown.
impl Drop for Process<'_> {
    fn drop(&mut self) {
        if !self.has_ended && self.context.check().is_ok() {
            let words = self.line.split(' ').filter(|word| !word.contains("ETCD_"));
            let name = words.take(2).collect::<Vec<_>>().join(" ");
            let log = last_lines(&self.log(), SHOWN_LINES_EACH);
            self.context.seen().logs.push((name, log));
        }
    }
}
