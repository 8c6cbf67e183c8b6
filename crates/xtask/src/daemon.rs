//! Programs that run beside a task and end with it: registries, engines, builders.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::command::{Cmd, is_root};
use crate::error::Result;
use crate::interrupt;

/// How long a program may take to start.
const START: Duration = Duration::from_mins(1);

/// How long a program may take to end before it is killed.
const END: Duration = Duration::from_secs(20);

const STEP: Duration = Duration::from_millis(100);

/// A running program. When this value is dropped, it gets SIGTERM, and SIGKILL if that does not
/// end it.
#[derive(Debug)]
pub struct Daemon(Child);

impl Daemon {
    pub fn start(command: Cmd) -> Result<Self> {
        Ok(Self(command.start()?))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Waits for a condition. `false` if the program ended, or a minute passed, before it was true.
    pub fn until(&mut self, mut is_ready: impl FnMut() -> bool) -> Result<bool> {
        let begin = Instant::now();
        while begin.elapsed() < START {
            interrupt::check()?;
            if is_ready() {
                return Ok(true);
            }
            if self.0.try_wait()?.is_some() {
                return Ok(false);
            }
            thread::sleep(STEP);
        }
        Ok(false)
    }

    fn end(&mut self) {
        let id = self.id();
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        signal(id, Signal::TERM);
        let begin = Instant::now();
        while begin.elapsed() < END {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        signal(id, Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        interrupt::shielded(|| self.end());
    }
}

/// Sends a signal to a process; by sudo if it is not our own.
pub fn signal(id: u32, signal: Signal) {
    let Some(pid) = pid(id) else { return };
    if kill_process(pid, signal).is_err()
        && !is_root()
        && Path::new(&format!("/proc/{id}")).exists()
    {
        // The shell's own kill, because a bare system has no other that sudo could run.
        let number = signal.as_raw();
        let line = format!("kill -{number} {id}");
        Cmd::root("sh").args(["-c", &line]).succeeds();
    }
}

/// Ends processes that are not our children: by SIGTERM, and later by SIGKILL.
pub fn end_all(ids: &[u32]) {
    for id in ids {
        signal(*id, Signal::TERM);
    }
    await_end(ids);
}

/// Waits until processes have ended, and kills those that do not end in time.
pub fn await_end(ids: &[u32]) {
    let begin = Instant::now();
    while begin.elapsed() < END {
        if !ids.iter().any(|id| is_alive(*id)) {
            return;
        }
        thread::sleep(STEP);
    }
    for id in ids.iter().filter(|id| is_alive(**id)) {
        signal(*id, Signal::KILL);
    }
}

fn is_alive(id: u32) -> bool {
    let answer = pid(id).map(test_kill_process);
    let is_there = matches!(answer, Some(Ok(()) | Err(rustix::io::Errno::PERM)));
    is_there && !is_zombie(id)
}

/// Whether a process is a zombie: it has ended, but its parent has not waited for it yet.
fn is_zombie(id: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// The processes of a Docker engine whose data is in a folder.
pub fn of_engine(work: &Path) -> Vec<u32> {
    let folder = format!("{}/engine/", work.display());
    with_command_line(|line| line.contains(&folder))
}

/// A process and all its descendants.
pub fn family(id: u32) -> Vec<u32> {
    let mut all = vec![id];
    let mut next = 0;
    while next < all.len() {
        let tasks = crate::part::entries(Path::new(&format!("/proc/{}/task", all[next])));
        for task in tasks.unwrap_or_default() {
            let children = fs::read_to_string(task.join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

/// The processes that have a text in their command line; words are joined by spaces.
pub fn with_command_line(is_it: impl Fn(&str) -> bool) -> Vec<u32> {
    let id = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let all = crate::part::entries(Path::new("/proc")).unwrap_or_default();
    let found = all.iter().filter_map(|path| {
        let id = id(path)?;
        let bytes = fs::read(path.join("cmdline")).ok()?;
        is_it(&String::from_utf8_lossy(&bytes).replace('\0', " ")).then_some(id)
    });
    found.filter(|id| *id != std::process::id()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_ends_with_its_value() {
        let mut daemon = Daemon::start(Cmd::new("sleep").arg("1000")).unwrap();
        let id = daemon.id();
        assert!(daemon.until(|| is_alive(id)).unwrap());
        drop(daemon);
        assert!(!is_alive(id));
    }

    #[test]
    fn a_daemon_that_ends_is_not_waited_for() {
        let mut daemon = Daemon::start(Cmd::new("false")).unwrap();
        assert!(!daemon.until(|| false).unwrap());
    }

    #[test]
    fn a_family_has_grandchildren() {
        let script = "sh -c 'sleep 1000 & wait' & wait";
        let mut daemon = Daemon::start(Cmd::new("sh").args(["-c", script])).unwrap();
        let id = daemon.id();
        assert!(daemon.until(|| family(id).len() == 3).unwrap());
        let all = family(id);
        let sleeper = with_command_line(|line| line == "sleep 1000 ");
        assert!(all.iter().any(|id| sleeper.contains(id)));
        end_all(&all);
        assert!(!all[1..].iter().any(|id| is_alive(*id)));
    }
}
