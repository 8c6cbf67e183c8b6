//! What runs the image: a Docker engine, or this machine's own namespaces.

mod docker;
mod node;
mod rootfs;
mod wine;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use docker::Docker;
pub use node::Node;
pub use rootfs::Rootfs;
pub use wine::Wine;

use super::container::{Container, Ended};
use process::{Invocation, Streams};

/// What caused a failure, and so has to be repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    #[default]
    Image,
    /// This machine, its engine or its disk; the image may be correct.
    Machine,
}

/// Why a container could not be started or watched.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct RuntimeError {
    pub what: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
    pub cause: Cause,
}

impl RuntimeError {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, cause: Cause::Machine }
    }

    /// A failure that the image caused, not the machine.
    pub fn of_image(what: impl Into<String>) -> Self {
        Self { cause: Cause::Image, ..Self::new(what) }
    }

    pub fn because<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self { source: Some(error.into()), ..Self::new(what) }
    }
}

/// An arbitrary unprivileged UID. Root can give it folders.
const OTHER_USER: (u32, u32) = (65_532, 65_532);

/// Makes pods of one image.
pub trait Runtime: Send + Sync {
    /// `docker` or `rootfs`.
    fn name(&self) -> &'static str;

    /// Whether containers can be started here at all, whatever is in the image.
    fn check(&self, folder: &Path) -> Result<(), RuntimeError>;

    /// A user other than root that servers may run as; or why there is none.
    fn other_user(&self) -> Result<(u32, u32), String>;

    /// A pod with its own network, which has only a loopback device.
    fn pod(&self, folder: &Path) -> Result<Box<dyn RuntimePod>, RuntimeError>;
}

/// Containers that share a network, as in Kubernetes. All of them end with it.
pub trait RuntimePod: Send + Sync {
    fn start(&self, container: &Container) -> Result<Box<dyn Running>, RuntimeError>;

    /// Runs a program to the end inside of the pod, which is faster than in its own container.
    /// `None` if the runtime cannot do that.
    fn run_inside(
        &self,
        _container: &Container,
        _goes_on: GoesOn<'_>,
    ) -> Option<Result<Inside, RuntimeError>> {
        None
    }
}

/// Whether to keep waiting for a program that has run for this long.
pub type GoesOn<'a> = &'a dyn Fn(Duration) -> bool;

/// How a program inside of a pod ended, or that it did not end in time.
#[derive(Debug)]
pub enum Inside {
    Ended(Ended),
    /// It may run on until the pod ends.
    GivenUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

/// A container that was started. It is removed when this is dropped.
pub trait Running: Send {
    /// The exit code once it has ended; waits for that at most this long.
    fn wait(&mut self, at_most: Duration) -> Result<Option<i32>, RuntimeError>;

    fn signal(&mut self, signal: Signal) -> Result<(), RuntimeError>;

    fn stdout(&self) -> Result<String, RuntimeError>;

    fn stderr(&self) -> Result<String, RuntimeError>;
}

/// Runs a program, which must end within `at_most`. Its output goes to files in `folder`.
fn to_the_end(
    invocation: &Invocation,
    folder: &Path,
    at_most: Duration,
    interrupted: &AtomicBool,
) -> Result<Ended, RuntimeError> {
    let program = invocation.arguments.iter().rev().take(3).rev();
    let program = program.map(|it| it.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let failed = || RuntimeError::because(format!("cannot run `… {program}`"));
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let streams = Streams {
        stdin: None,
        stdout: File::create(&stdout).map_err(failed())?.into(),
        stderr: File::create(&stderr).map_err(failed())?.into(),
    };
    let mut child =
        invocation.spawn(streams).map_err(RuntimeError::because("cannot start a program"))?;
    let started = Instant::now();
    let code = loop {
        if let Some(code) = child.poll().map_err(failed())? {
            break code;
        }
        if interrupted.load(Ordering::Relaxed) {
            return Err(RuntimeError::new("interrupted"));
        }
        if started.elapsed() > at_most {
            return Err(RuntimeError::new(format!("`… {program}` does not end")));
        }
        thread::sleep(Duration::from_millis(20));
    };
    let read =
        |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    Ok(Ended { code, stdout: read(&stdout), stderr: read(&stderr), after: started.elapsed() })
}

/// A program on PATH, or where administrators have theirs.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/libexec/podman", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(more);
    folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()))
}

fn path() -> BTreeMap<String, OsString> {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    BTreeMap::from([("PATH".to_owned(), path)])
}
