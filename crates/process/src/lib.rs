//! The only module that starts other programs.
#![expect(clippy::disallowed_methods, reason = "this is the one place that may")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// How many lines of a failed command's output are shown.
const SHOWN_LINES: usize = 20;

/// The path of a program, looked for in the folders of a `PATH`.
pub fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|it| it.is_file())
}

/// A program with its arguments and the whole of its environment.
#[derive(Clone)]
pub struct Invocation {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub folder: PathBuf,
    /// What is passed on from our own environment. Never shown: proxies hold passwords.
    pub passed_on: BTreeMap<String, OsString>,
    pub environment: BTreeMap<String, OsString>,
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start `{command}`")]
    Start { command: String, source: io::Error },
    #[error("`{command}` failed with {status}\n{tail}\n  the whole log is in `{}`", log.display())]
    Failed { command: String, status: String, tail: String, log: PathBuf },
    #[error("`{command}` failed with {status}\n{tail}")]
    Refused { command: String, status: String, tail: String },
}

impl ProcessError {
    /// With the last lines of the log as it is now, for those who wrote it themselves.
    #[must_use]
    pub fn with_tail_of_log(self) -> Self {
        match self {
            Self::Failed { command, status, log, .. } => {
                let text =
                    String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
                Self::Failed { command, status, tail: tail(&text), log }
            }
            other => other,
        }
    }

    /// The last lines that the program said.
    pub fn tail(&self) -> &str {
        match self {
            Self::Start { .. } => "",
            Self::Failed { tail, .. } | Self::Refused { tail, .. } => tail,
        }
    }
}

impl Invocation {
    /// Runs to the end, all output going to a log.
    pub fn run(&self, log: &Path) -> Result<(), ProcessError> {
        let start = |source| ProcessError::Start { command: self.to_string(), source };
        let file = File::create(log).map_err(start)?;
        let status = self
            .command()
            .stdout(file.try_clone().map_err(start)?)
            .stderr(file)
            .status()
            .map_err(start)?;
        if status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
        Err(ProcessError::Failed {
            command: self.to_string(),
            status: status.to_string(),
            tail: tail(&text),
            log: log.to_owned(),
        })
    }

    /// Runs to the end. Standard output goes to the log. `each` gets standard error line by line,
    /// and decides what of it to add to the log.
    pub fn run_lines(&self, log: &Path, mut each: impl FnMut(&str)) -> Result<(), ProcessError> {
        let start = |source| ProcessError::Start { command: self.to_string(), source };
        File::create(log).map_err(start)?;
        let file = File::options().append(true).open(log).map_err(start)?;
        let mut child =
            self.command().stdout(file).stderr(Stdio::piped()).spawn().map_err(start)?;
        if let Some(stderr) = child.stderr.take() {
            let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
            lines.for_each(|line| each(&String::from_utf8_lossy(&line)));
        }
        let status = child.wait().map_err(start)?;
        if status.success() {
            return Ok(());
        }
        Err(ProcessError::Failed {
            command: self.to_string(),
            status: status.to_string(),
            tail: String::new(),
            log: log.to_owned(),
        })
    }

    /// Runs to the end and returns standard output.
    pub fn output(&self) -> Result<String, ProcessError> {
        let output = self
            .command()
            .output()
            .map_err(|source| ProcessError::Start { command: self.to_string(), source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(ProcessError::Refused {
            command: self.to_string(),
            status: output.status.to_string(),
            tail: tail(&text),
        })
    }

    /// Starts it and goes on.
    pub fn spawn(&self, streams: Streams) -> Result<Child, ProcessError> {
        let mut command = self.command();
        if let Some(stdin) = streams.stdin {
            command.stdin(stdin);
        }
        let child = command.stdout(streams.stdout).stderr(streams.stderr).spawn();
        child.map(Child).map_err(|source| ProcessError::Start { command: self.to_string(), source })
    }

    /// Gives a line to standard input and returns standard output. What the program says when it
    /// fails may be a secret, so it is not passed on.
    pub fn ask(&self, line: &str) -> Result<String, ProcessError> {
        let start = |source| ProcessError::Start { command: self.to_string(), source };
        let mut command = self.command();
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(start)?;
        if let Some(mut input) = child.stdin.take() {
            // A program that does not read its input reports its failure by its exit status.
            let _ = writeln!(input, "{line}");
        }
        let output = child.wait_with_output().map_err(start)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(ProcessError::Refused {
            command: self.to_string(),
            status: output.status.to_string(),
            tail: String::new(),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder);
        command.env_clear().envs(&self.passed_on).envs(&self.environment).stdin(Stdio::null());
        command
    }
}

/// Where a program that runs beside us reads and writes.
#[derive(Debug)]
pub struct Streams {
    pub stdin: Option<File>,
    pub stdout: Stdio,
    pub stderr: Stdio,
}

/// A program that runs beside us, and not longer than this value lives.
#[derive(Debug)]
pub struct Child(std::process::Child);

impl Child {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The exit code, or 128 and the signal, once it has ended.
    pub fn poll(&mut self) -> io::Result<Option<i32>> {
        Ok(self.0.try_wait()?.map(code))
    }

    /// Waits for the end; its exit code, or 128 and the signal.
    pub fn wait(&mut self) -> io::Result<i32> {
        self.0.wait().map(code)
    }

    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }
}

fn code(status: ExitStatus) -> i32 {
    let by_signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(by_signal).unwrap_or(-1)
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// As it can be pasted into a shell.
impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cd {} &&", quoted(&self.folder.to_string_lossy()))?;
        for (name, value) in &self.environment {
            write!(f, " {name}={}", quoted(&value.to_string_lossy()))?;
        }
        write!(f, " {}", quoted(&self.program.to_string_lossy()))?;
        self.arguments.iter().try_for_each(|it| write!(f, " {}", quoted(&it.to_string_lossy())))
    }
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    shown.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}
