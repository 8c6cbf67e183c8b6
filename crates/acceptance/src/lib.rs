//! `etcdimg test`: proves that a built image does what its documents promise, the way its users
//! will run it.
//!
//! An `ImageUnderTest` is the image, a `Runtime` runs it, a `Suite` is one document as a list of
//! cases, and each `Case` runs with a `CaseContext` of its own. Not responsible for how an image
//! was made: it knows the layout and nothing else.

mod case;
mod certificates;
mod container;
mod contents;
mod context;
mod error;
mod etcd;
mod events;
mod file_entry;
mod files;
mod image_under_test;
mod kubelet;
mod log;
mod lookup;
mod owner;
mod pod;
pub mod report;
mod results;
pub mod runtime;
mod sizes;
mod suite;
mod suites;
mod verdict;
mod version_pairs;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use case::Case;
pub use error::{CaseError, FailureDetail};
pub use image_under_test::ImageUnderTest;
pub use log::{CaseLog, ProvenMigration};
pub use lookup::ImageError;
pub use owner::{Owner, sweep};
pub use results::{CaseResult, Outcome, Results};
pub use sizes::Sizes;
pub use suite::{Suite, UnknownSuite};
pub use verdict::{IncompleteReason, Verdict};

use context::CaseContext;
use runtime::{Runtime, RuntimeError};

/// The parameters of one run of the suites.
#[expect(missing_debug_implementations, reason = "a runtime has nothing to show")]
pub struct SuiteRun<'a> {
    pub under_test: &'a ImageUnderTest,
    pub runtime: Option<&'a dyn Runtime>,
    /// Every case gets a folder below it.
    pub folder: &'a Path,
    pub interrupted: &'a AtomicBool,
    pub jobs: usize,
    pub verify: &'a VerifyLayout,
}

/// Lists everything that is wrong with a layout, as `etcdimg verify` does. An error when it cannot
/// be read.
pub type VerifyLayout = dyn Fn(&oci::Layout) -> Result<Vec<String>, String> + Sync;

/// Cases with their suites, in order.
pub fn cases(under_test: &ImageUnderTest, suites: &[Suite]) -> Vec<(Suite, Case)> {
    let all = suites
        .iter()
        .flat_map(|suite| suite.cases(under_test).into_iter().map(|case| (*suite, case)));
    all.collect()
}

/// Whether programs of the image can be started at all.
pub fn runs(runtime: &dyn Runtime, folder: &Path) -> bool {
    let asked = container::Container::new(["/bin/sh", "-c", "exit 42"]);
    let ended = || runtime.pod(&probe(folder)?)?.start(&asked)?.wait(Duration::from_mins(1));
    matches!(ended(), Ok(Some(42)))
}

/// An error if this machine cannot run any image.
pub fn check(runtime: &dyn Runtime, folder: &Path) -> Result<(), RuntimeError> {
    runtime.check(&probe(folder)?)
}

fn probe(folder: &Path) -> Result<std::path::PathBuf, RuntimeError> {
    let folder = folder.join("probe");
    std::fs::create_dir_all(&folder).map_err(RuntimeError::because("no folder for a container"))?;
    Ok(folder)
}

impl SuiteRun<'_> {
    /// Runs the cases, several at a time; calls `ended` with each result.
    pub fn run(
        &self,
        cases: &[(Suite, Case)],
        ended: impl Fn(&CaseResult) + Sync,
    ) -> Vec<CaseResult> {
        let results: Mutex<Vec<Option<CaseResult>>> = Mutex::new(vec![None; cases.len()]);
        let next = std::sync::atomic::AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..self.jobs.min(cases.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((suite, case)) = cases.get(index) else { return };
                        let Some(result) = self.run_one(*suite, case) else { return };
                        ended(&result);
                        if let Ok(mut results) = results.lock() {
                            results[index] = Some(result);
                        }
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        results.into_iter().flatten().collect()
    }

    /// `None` when it was interrupted.
    fn run_one(&self, suite: Suite, case: &Case) -> Option<CaseResult> {
        if self.interrupted.load(Ordering::Relaxed) {
            return None;
        }
        let started = Instant::now();
        let folder = self.folder.join(format!("{suite}-{}", case.name));
        let context = CaseContext::new(self, &folder);
        let ended = std::fs::create_dir_all(&folder)
            .map_err(CaseError::from)
            .and_then(|()| (case.run)(&context));
        // It may have hundreds of megabytes, and the next cases need the disk space.
        let _ = std::fs::remove_dir_all(&folder);
        let outcome = match ended {
            Ok(()) => Outcome::Passed,
            // A case interrupted by Ctrl-C is not a failure.
            Err(CaseError::Failed(_)) if self.interrupted.load(Ordering::Relaxed) => return None,
            Err(CaseError::Failed(detail)) => Outcome::Failed(context.explain(detail)),
            Err(CaseError::Skipped(why)) => Outcome::Skipped(why),
            Err(CaseError::Interrupted) => return None,
        };
        Some(CaseResult {
            suite,
            case: case.name.clone(),
            proves: case.proves.clone(),
            outcome,
            log: context.log(),
            took: started.elapsed(),
        })
    }
}
