//! What runs the image: a Docker engine, or this machine's own namespaces.

mod docker;
mod node;
mod rootfs;

use std::path::Path;
use std::time::Duration;

pub use docker::Docker;
pub use node::Node;
pub use rootfs::Rootfs;

use super::container::{Container, Ended};

/// Why a container could not be started or watched: nothing that the image is to blame for.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct RuntimeError {
    pub what: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl RuntimeError {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    pub fn because<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self { what, source: Some(error.into()) }
    }
}

/// Makes pods of one image.
pub trait Runtime: Send + Sync {
    /// `docker` or `rootfs`.
    fn name(&self) -> &'static str;

    /// A pod with a network of its own, which has nothing but a loopback device.
    fn pod(&self, folder: &Path) -> Result<Box<dyn Pod>, RuntimeError>;
}

/// Containers that share a network, as in Kubernetes. All of them end with it.
pub trait Pod: Send + Sync {
    fn start(&self, container: &Container) -> Result<Box<dyn Running>, RuntimeError>;

    /// Runs to the end in a way that is faster than a container of its own, if there is one.
    fn run_inside(&self, _container: &Container) -> Option<Result<Ended, RuntimeError>> {
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

/// A container that was started. It is gone when this is dropped.
pub trait Running: Send {
    /// The exit code once it has ended; waits for that at most this long.
    fn wait(&mut self, at_most: Duration) -> Result<Option<i32>, RuntimeError>;

    fn signal(&mut self, signal: Signal) -> Result<(), RuntimeError>;

    fn stdout(&self) -> Result<String, RuntimeError>;

    fn stderr(&self) -> Result<String, RuntimeError>;
}
