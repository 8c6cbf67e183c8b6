//! A container as a case describes it, whatever runtime starts it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A container to run, in a form that every runtime can start.
#[derive(Clone, Debug, Default)]
pub struct Container {
    pub command: Vec<String>,
    /// In addition to the environment of the image's config.
    pub environment: BTreeMap<String, String>,
    pub volumes: Vec<Volume>,
    pub user: Option<(u32, u32)>,
    pub root: RootFilesystem,
    /// Its standard input.
    pub input: String,
}

/// A folder of the host at a path in the container.
#[derive(Clone, Debug)]
pub struct Volume {
    pub host: PathBuf,
    pub at: String,
}

/// Whether the container may write into its own copy of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootFilesystem {
    #[default]
    Writable,
    ReadOnly,
}

/// How a container ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// 128 and the number of the signal for one that a signal ended, as shells count.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub after: Duration,
}

impl Container {
    pub fn new<T: Into<String>>(command: impl IntoIterator<Item = T>) -> Self {
        Self { command: command.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn volume(mut self, host: impl Into<PathBuf>, at: &str) -> Self {
        self.volumes.push(Volume { host: host.into(), at: at.to_owned() });
        self
    }

    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.root = RootFilesystem::ReadOnly;
        self
    }

    #[must_use]
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = text.into();
        self
    }

    /// As a person would type it.
    pub fn line(&self) -> String {
        let environment = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        environment.chain(self.command.iter().cloned()).collect::<Vec<_>>().join(" ")
    }
}
