//! `etcdimg test`: runs the acceptance suites and reports their results.

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tempfile::TempDir;
use tokio::signal::{self, unix::SignalKind};

use super::context::{Context, runtime};
use super::image_location::ImageLocation;
use crate::acceptance::runtime::{Docker, Rootfs, Runtime, RuntimeError};
use crate::acceptance::{
    self, Case, CaseResult, ImageError, ImageUnderTest, IncompleteReason, Outcome, Owner, Results,
    Sizes, Suite, SuiteRun, Verdict,
};
use crate::cli::{Format, RuntimeChoice, TestArgs};
use crate::docker::EngineError;
use crate::documents::{BlobDescriptor, ListedImage};
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use crate::platform::Platform;
use crate::verify;

pub(super) fn run(context: &Context, arguments: &TestArgs) -> Result<(), Failure> {
    let is_wanted = |it: &Suite| arguments.suite.is_empty() || arguments.suite.contains(it);
    let suites = &Suite::ALL.into_iter().filter(is_wanted).collect::<Vec<_>>();
    let platform = &arguments.arch;
    let wanted = |image: &ListedImage| wanted(image, suites, platform);
    let place = ImageLocation::open(context, &arguments.access, &arguments.place, &wanted)?;
    let mut under_test = open(&place.layout, arguments, suites, platform)?;
    under_test.against = against(context, arguments, platform)?;
    let mut cases = acceptance::cases(&under_test, suites);
    if !arguments.case.is_empty() {
        cases.retain(|(suite, case)| {
            arguments.case.iter().any(|it| *it == case.name || *it == full_name(*suite, case))
        });
    }
    if cases.is_empty() {
        return Err(Failure::new(Kind::Other, "no case has that name")
            .hint("see all cases with `etcdimg test --list`"));
    }
    if arguments.list {
        return list(context, &cases);
    }
    run_cases(context, arguments, &under_test, &cases)
}

/// The blobs of an image that the suites read.
fn wanted(image: &ListedImage, suites: &[Suite], tested: &Platform) -> Vec<BlobDescriptor> {
    let platform = image.platform.as_deref().map(str::parse::<Platform>);
    let is_read = match platform {
        // This suite verifies every image.
        _ if suites.contains(&Suite::Structure) => true,
        Some(Ok(platform)) if platform.is_windows() => suites.contains(&Suite::Windows),
        Some(Ok(platform)) => platform == *tested,
        // The only image of an artifact without an index.
        _ => true,
    };
    if is_read { image.own_blobs() } else { Vec::new() }
}

/// Opens the image. A layout with images for Windows only can be tested by the suite for Windows.
fn open(
    layout: &Layout,
    arguments: &TestArgs,
    suites: &[Suite],
    platform: &Platform,
) -> Result<ImageUnderTest, Failure> {
    let open = |platform| ImageUnderTest::open(layout.clone(), arguments.tag.as_deref(), platform);
    let mut opened = open(platform);
    if let Err(ImageError::NoPlatform { .. }) = &opened
        && suites == [Suite::Windows]
        && let Ok(windows) = "windows/amd64".parse()
    {
        opened = open(&windows);
    }
    opened.map_err(|error| Failure::new(Kind::Verification, error))
}

fn against(
    context: &Context,
    arguments: &TestArgs,
    platform: &Platform,
) -> Result<Option<Sizes>, Failure> {
    let Some(name) = &arguments.against else { return Ok(None) };
    let place = ImageLocation::open(context, &arguments.access, name, &|_| Vec::new())?;
    let sizes = Sizes::open(&place.layout, None, platform);
    sizes.map(Some).map_err(|error| Failure::new(Kind::Verification, error))
}

fn full_name(suite: Suite, case: &Case) -> String {
    format!("{suite}/{}", case.name)
}

fn list(context: &Context, cases: &[(Suite, Case)]) -> Result<(), Failure> {
    if context.format == Format::Json {
        let case = |(suite, case): &(Suite, Case)| serde_json::json!({"suite": suite, "case": case.name, "proves": case.proves});
        return context.out_json(&cases.iter().map(case).collect::<Vec<_>>());
    }
    for (suite, case) in cases {
        context.ui.out(format!("{:<36} {}", full_name(*suite, case), case.proves));
    }
    Ok(())
}

fn run_cases(
    context: &Context,
    arguments: &TestArgs,
    under_test: &ImageUnderTest,
    cases: &[(Suite, Case)],
) -> Result<(), Failure> {
    let started = Instant::now();
    // Before anything is created that has to be removed after Ctrl-C.
    let interrupted = Arc::new(AtomicBool::new(false));
    let listening = listen(&interrupted)?;
    let folder = folder()?;
    let runtime = if cases.iter().any(|(suite, _)| suite.needs_runtime()) {
        let scratch = RunFolder { path: folder.path(), interrupted: &interrupted };
        let runtime = container_runtime(context, arguments.runtime, under_test, scratch);
        if interrupted.load(Ordering::Relaxed) {
            return Err(stopped());
        }
        Some(runtime?)
    } else {
        None
    };
    let verify = |layout: &Layout| {
        // Layers of Windows itself are not ours to judge.
        let report = verify::verify_sparse(layout).map_err(|error| error.to_string())?;
        Ok(report.faults.iter().map(ToString::to_string).collect())
    };
    let run = SuiteRun {
        verify: &verify,
        under_test,
        runtime: runtime.as_deref(),
        folder: folder.path(),
        interrupted: &interrupted,
        jobs: arguments
            .jobs
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZero::get),
    };
    let ended = run.run(cases, |result| say(context, result));
    drop(listening);
    let results = Results {
        reference: reference(arguments, under_test),
        platform: under_test.platform.to_string(),
        runtime: runtime.as_ref().map_or("reading", |runtime| runtime.name()),
        bundled: under_test.bundled.clone(),
        cases: ended,
        planned: cases.len(),
        required: Vec::new(),
        took: started.elapsed(),
    };
    let results = results.requiring(&arguments.require);
    arguments.report.iter().try_for_each(|file| write(&results, file))?;
    if context.format == Format::Json {
        context.out_json(&results.json())?;
    } else {
        context.ui.out(results.text());
    }
    verdict(&results)
}

/// The name of the image in reports: the folder of a layout has no tag in it, so it is added.
fn reference(arguments: &TestArgs, under_test: &ImageUnderTest) -> String {
    if arguments.place.ends_with(&under_test.tag) {
        return arguments.place.clone();
    }
    format!("{}:{}", arguments.place, under_test.tag)
}

/// The folder of one run, and whether the user has interrupted it.
#[derive(Clone, Copy)]
struct RunFolder<'a> {
    path: &'a Path,
    interrupted: &'a AtomicBool,
}

fn container_runtime(
    context: &Context,
    choice: RuntimeChoice,
    under_test: &ImageUnderTest,
    folder: RunFolder<'_>,
) -> Result<Box<dyn Runtime>, Failure> {
    let runtime = native(context, choice, under_test, folder)?;
    acceptance::check(&*runtime, folder.path).map_err(|error| no_containers(&*runtime, error))?;
    if under_test.is_foreign() && !acceptance::runs(&*runtime, folder.path) {
        let what = format!("this machine cannot run programs for {}", under_test.platform);
        return Err(Failure::new(Kind::Unavailable, what)
            .hint("install an emulator and register it with the kernel: `apt install qemu-user-static`")
            .hint("or `docker run --privileged --rm tonistiigi/binfmt --install all`"));
    }
    Ok(runtime)
}

fn no_containers(runtime: &dyn Runtime, error: RuntimeError) -> Failure {
    let failure = Failure::new(Kind::Unavailable, error);
    if runtime.name() == "docker" {
        return failure
            .hint("check with `docker run` of any image whether the engine starts containers")
            .hint("or use `--runtime rootfs`, which needs no engine");
    }
    failure
        .hint(
            "install util-linux (setpriv, unshare, nsenter, mount); root or user namespaces are needed, too",
        )
        .hint("or use `--runtime docker`")
}

fn native(
    context: &Context,
    choice: RuntimeChoice,
    under_test: &ImageUnderTest,
    folder: RunFolder<'_>,
) -> Result<Box<dyn Runtime>, Failure> {
    if choice != RuntimeChoice::Rootfs {
        match Docker::new(under_test, runtime()?, folder.interrupted) {
            Ok(docker) => return Ok(Box::new(docker)),
            Err(EngineError::NoEngine(_)) if choice == RuntimeChoice::Auto => {
                context
                    .ui
                    .note("no Docker engine is running; the image runs in namespaces instead");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let rootfs = Rootfs::new(under_test, folder.path);
    Ok(Box::new(rootfs.map_err(|error| Failure::new(Kind::Unavailable, error))?))
}

/// The folder for everything that a run creates. Leftovers of killed runs are removed.
fn folder() -> Result<TempDir, Failure> {
    const PREFIX: &str = "etcdimg-test-";
    acceptance::sweep(&std::env::temp_dir(), PREFIX);
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir();
    let folder = folder.and_then(|folder| Owner::this().mark(folder.path()).map(|()| folder));
    folder.map_err(|error| Failure::new(Kind::Io, error))
}

/// Ctrl-C and other signals end every case and everything that the cases started, before the
/// program ends.
fn listen(interrupted: &Arc<AtomicBool>) -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = runtime()?;
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let entered = runtime.enter();
        let signals = signal::unix::signal(kind);
        drop(entered);
        let mut signals = signals.map_err(|error| Failure::new(Kind::Other, error))?;
        let flag = Arc::clone(interrupted);
        runtime.spawn(async move {
            if signals.recv().await.is_some() {
                flag.store(true, Ordering::Relaxed);
            }
        });
    }
    Ok(runtime)
}

fn stopped() -> Failure {
    Failure::new(Kind::Other, "interrupted; the results are incomplete")
}

fn say(context: &Context, result: &CaseResult) {
    let verb = match result.outcome {
        Outcome::Passed => "Passed",
        Outcome::Failed(_) => "FAILED",
        Outcome::Skipped(_) => "Skipped",
    };
    let name = format!("{}/{}", result.suite, result.case);
    context.ui.status(verb, format!("{name} {:.1} s", result.took.as_secs_f64()));
}

fn write(results: &Results, file: &Path) -> Result<(), Failure> {
    let text = if file.extension().is_some_and(|kind| kind == "xml") {
        results.junit()
    } else {
        results.html()
    };
    fs::write(file, text).map_err(|error| {
        Failure::new(Kind::Io, error).hint(format!("`{}` was not written", file.display()))
    })
}

fn verdict(results: &Results) -> Result<(), Failure> {
    match results.verdict() {
        Verdict::Passed => Ok(()),
        Verdict::Failed(what) => {
            let first = results.failed().next();
            let first = first.map(|(case, _)| format!("{}/{}", case.suite, case.case));
            Err(Failure::new(Kind::TestFailed, what).hint(format!(
                "run one case again with `etcdimg test --case {}`",
                first.unwrap_or_default()
            )))
        }
        Verdict::Incomplete(reason) => {
            let kind = match reason {
                IncompleteReason::Interrupted { .. } => Kind::Other,
                IncompleteReason::NothingRan | IncompleteReason::CouldNotRun { .. } => {
                    Kind::Unavailable
                }
                IncompleteReason::Missing(_) => Kind::TestFailed,
            };
            let failure = Failure::new(kind, reason.to_string());
            Err(match reason {
                IncompleteReason::CouldNotRun { .. } => {
                    failure.hint("see the reason of each case; they prove nothing about the image")
                }
                _ => failure,
            })
        }
    }
}
