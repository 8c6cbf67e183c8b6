//! What a case works with: the image, what runs it, a folder, and the log of the case.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use etcd_version::EtcdVersion;

use super::container::Container;
use super::error::{CaseError, FailureDetail, ensure};
use super::image_under_test::ImageUnderTest;
use super::log::{CaseLog, ProvenMigration};
use super::runtime::Runtime;
use super::{SuiteRun, VerifyLayout};

/// How long a command may take.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_mins(3);
/// The factor by which all time limits are longer under an emulator.
const EMULATED: u32 = 10;
/// The polling interval of every wait.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The image, the runtime, the folder and the log of one case.
pub struct CaseContext<'a> {
    pub under_test: &'a ImageUnderTest,
    runtime: Option<&'a dyn Runtime>,
    folder: &'a Path,
    pub interrupted: &'a AtomicBool,
    verify: &'a VerifyLayout,
    count: AtomicU32,
    log: Mutex<CaseLog>,
    /// Only commands of this thread are recorded as the last command.
    procedure_thread: ThreadId,
    seen: Mutex<FailureContext>,
}

/// Details that are shown only with a failure.
#[derive(Debug, Default)]
pub(super) struct FailureContext {
    command: Option<String>,
    /// Last log lines of the processes that still ran when the case stopped.
    pub(super) logs: Vec<(String, Vec<String>)>,
}

impl fmt::Debug for CaseContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaseContext").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl<'a> CaseContext<'a> {
    pub fn new(run: &'a SuiteRun<'a>, folder: &'a Path) -> Self {
        Self {
            under_test: run.under_test,
            runtime: run.runtime,
            folder,
            interrupted: run.interrupted,
            verify: run.verify,
            count: AtomicU32::new(0),
            log: Mutex::default(),
            procedure_thread: thread::current().id(),
            seen: Mutex::default(),
        }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, FailureContext> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn saw(&self, container: &Container) {
        if thread::current().id() == self.procedure_thread {
            self.seen().command = Some(container.line());
        }
    }

    /// Adds the last command, unless a more exact one is known, and the logs of the servers that
    /// ran.
    pub fn explain(&self, mut detail: FailureDetail) -> FailureDetail {
        let seen = self.seen();
        detail.command = detail.command.or_else(|| seen.command.clone());
        for (line, log) in &seen.logs {
            let is_new = log.last().is_some_and(|last| !detail.log.contains(last));
            if is_new {
                detail.log.push(format!("{line} said:"));
                detail.log.extend(log.iter().cloned());
            }
        }
        detail
    }

    pub fn log(&self) -> CaseLog {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The current step, which is shown if the case fails.
    pub fn step(&self, what: impl Display) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).step = what.to_string();
    }

    /// Everything that `etcdimg verify` finds wrong with the layout.
    pub fn verify(&self) -> Result<Vec<String>, CaseError> {
        (self.verify)(&self.under_test.layout).map_err(CaseError::failed)
    }

    /// Adds a measured value to the report.
    pub fn note(&self, what: impl Display) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.notes.push(what.to_string());
    }

    /// Records that data was migrated from one version to the other and is complete.
    pub fn prove_migration(&self, from: &EtcdVersion, to: &EtcdVersion) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.migrations.push(ProvenMigration { from: from.clone(), to: to.clone() });
    }

    /// A new, empty folder.
    pub fn folder(&self, name: &str) -> Result<PathBuf, CaseError> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{name}-{count}"));
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    pub(super) fn runtime(&self) -> Option<&'a dyn Runtime> {
        self.runtime
    }

    /// A user who is not root; without one the case is skipped.
    pub fn other_user(&self) -> Result<(u32, u32), CaseError> {
        let nobody = || Err("nothing here can run the image".to_owned());
        self.runtime.map_or_else(nobody, Runtime::other_user).map_err(CaseError::Skipped)
    }

    /// A time limit; longer under an emulator.
    pub fn limit(&self, natively: Duration) -> Duration {
        if self.under_test.is_foreign() { natively * EMULATED } else { natively }
    }

    pub fn check(&self) -> Result<(), CaseError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(CaseError::Interrupted) } else { Ok(()) }
    }

    /// Polls until the condition holds.
    pub fn until(
        &self,
        what: &str,
        mut is_so: impl FnMut() -> Result<bool, CaseError>,
    ) -> Result<(), CaseError> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(10);
        while !is_so()? {
            self.check()?;
            let timeout = self.limit(COMMAND_TIMEOUT);
            ensure(started.elapsed() < timeout, || {
                format!("waited {} s for {what}", timeout.as_secs())
            })?;
            thread::sleep(pause);
            pause = (pause * 2).min(POLL_INTERVAL);
        }
        Ok(())
    }
}
