//! The only module that starts other programs.
#![expect(clippy::disallowed_methods, reason = "this is the one place that may")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;

use crate::error::{ErrorContext as _, Result, TaskError};
use crate::interrupt;

/// How many lines of a failed program's messages are shown.
const SHOWN_LINES: usize = 5;

/// Folders of administrators' programs, which not every `PATH` has.
const ADMINISTRATION: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program with its arguments, in our environment unless changed.
#[derive(Debug)]
pub struct Cmd(Command);

impl Cmd {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env("LC_ALL", "C");
        Self(command)
    }

    /// A program that runs as root; by sudo if we are not root.
    pub fn root(program: impl AsRef<OsStr>) -> Self {
        if is_root() { Self::new(program) } else { Self::new("sudo").arg(program) }
    }

    /// cargo, in the root of the repository, without the variables that `cargo run` has set.
    pub fn cargo() -> Self {
        Self::new("cargo").without_cargo_run().dir(&crate::workspace::root())
    }

    /// Without the variables that `cargo run` sets for the program that it runs.
    pub fn without_cargo_run(mut self) -> Self {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let is_set_by_run = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_PRIMARY_"]
                .iter()
                .any(|prefix| text.starts_with(prefix));
            if is_set_by_run || text == "CARGO" || text == "CARGO_CRATE_NAME" {
                self.0.env_remove(&name);
            }
        }
        match own_libraries() {
            Some(folders) => self.env("LD_LIBRARY_PATH", folders),
            None => self.without("LD_LIBRARY_PATH"),
        }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub fn envs(
        mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        self.0.envs(variables);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// With an empty environment; variables can be set afterwards.
    pub fn bare(mut self) -> Self {
        self.0.env_clear();
        self
    }

    pub fn dir(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// With the standard input of this program.
    pub fn our_input(mut self) -> Self {
        self.0.stdin(Stdio::inherit());
        self
    }

    /// With the `LC_ALL` of this program.
    pub fn our_locale(self) -> Self {
        match std::env::var_os("LC_ALL") {
            Some(locale) => self.env("LC_ALL", locale),
            None => self.without("LC_ALL"),
        }
    }

    /// With standard output and error in one file.
    pub fn log(self, path: &Path) -> Result<Self> {
        let file = File::create(path).context(path.display())?;
        self.output_to(file.try_clone()?, file)
    }

    /// With standard output and error in two files.
    pub fn logs(self, stdout: &Path, stderr: &Path) -> Result<Self> {
        self.output_to(
            File::create(stdout).context(stdout.display())?,
            File::create(stderr).context(stderr.display())?,
        )
    }

    #[expect(clippy::unnecessary_wraps, reason = "it ends two chains of results")]
    fn output_to(mut self, stdout: File, stderr: File) -> Result<Self> {
        self.0.stdout(stdout).stderr(stderr);
        Ok(self)
    }

    /// Runs to the end. All its output goes to our standard error, because standard output is
    /// for the result of the task.
    pub fn run(mut self) -> Result<()> {
        self.0.stdout(io::stderr());
        let output = self.wait()?;
        self.check(output).map(drop)
    }

    /// Runs to the end and returns the exit status. Output goes to the files of `log` or `logs`,
    /// or else to our own standard output and error.
    pub fn status(mut self) -> Result<ExitStatus> {
        let mut child = self.0.spawn().context(self.name())?;
        let status = interrupt::during(child.id(), || child.wait())?;
        interrupt::check()?;
        Ok(status)
    }

    /// Runs to the end and returns its standard output without the last line feeds. Its standard
    /// error is shown only if it fails.
    pub fn text(self) -> Result<String> {
        let bytes = self.bytes()?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// The same, as bytes and unchanged.
    pub fn bytes(mut self) -> Result<Vec<u8>> {
        self.0.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.wait()?;
        self.check(output)
    }

    /// The same as `text`, with `input` as standard input.
    pub fn fed(mut self, input: &[u8]) -> Result<String> {
        self.0.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.0.spawn().context(self.name())?;
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            scope.spawn(move || {
                // A program may end without reading everything; its exit status says whether that
                // is an error.
                let _ = stdin.map(|mut pipe| pipe.write_all(input));
            });
            interrupt::during(child.id(), || child.wait_with_output())
        })?;
        Ok(String::from_utf8_lossy(&self.check(output)?).into_owned())
    }

    /// Runs to the end without output; whether it succeeded.
    pub fn succeeds(mut self) -> bool {
        self.0.stdout(Stdio::null()).stderr(Stdio::null());
        self.wait().is_ok_and(|output| output.status.success())
    }

    /// Starts it and does not wait.
    pub fn start(mut self) -> Result<Child> {
        self.0.spawn().context(self.name())
    }

    /// Starts it; its standard error is read by the caller.
    pub fn start_with_pipe(mut self) -> Result<Child> {
        self.0.stdout(Stdio::null()).stderr(Stdio::piped());
        self.start()
    }

    /// Without any output.
    pub fn silent(mut self) -> Self {
        self.0.stdout(Stdio::null()).stderr(Stdio::null());
        self
    }

    fn wait(&mut self) -> Result<Output> {
        let child = self.0.spawn().context(self.name())?;
        Ok(interrupt::during(child.id(), || child.wait_with_output())?)
    }

    fn check(&self, output: Output) -> Result<Vec<u8>> {
        interrupt::check()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = tail(&String::from_utf8_lossy(&output.stderr));
        let status = output.status;
        Err(TaskError::new(format!("`{}` failed with {status}{said}", self.name()))
            .with_code(code(status)))
    }

    /// The program with its first argument: enough to recognise it in a message.
    fn name(&self) -> String {
        let first = self.0.get_args().next();
        let words = std::iter::once(self.0.get_program()).chain(first);
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// The exit code, or 128 and the signal.
pub fn code(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(1)
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    shown.iter().flat_map(|line| ["\n  | ", line]).collect()
}

pub fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The path of a program on `PATH`, or in a folder of administrators' programs.
pub fn find(program: &str) -> Option<PathBuf> {
    find_in(program, &[])
}

/// The same, with further folders that are searched last.
pub fn find_in(program: &str, further: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path)
        .chain(ADMINISTRATION.map(PathBuf::from))
        .chain(further.iter().cloned());
    folders.map(|folder| folder.join(program)).find(|path| is_executable(path))
}

pub fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// `PATH` with the folders of administrators' programs, and with a folder before all others.
pub fn path_with(first: Option<&Path>) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = first
        .map(Path::to_owned)
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(ADMINISTRATION.map(PathBuf::from));
    Ok(std::env::join_paths(folders)?)
}

/// `LD_LIBRARY_PATH` without the folders that `cargo run` puts in front of it.
fn own_libraries() -> Option<std::ffi::OsString> {
    let value = std::env::var_os("LD_LIBRARY_PATH")?;
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.parent().unwrap_or(&program);
    let is_cargos = |folder: &PathBuf| {
        folder.starts_with(target) || folder.join("rustlib").is_dir() || is_in_rustlib(folder)
    };
    let kept: Vec<_> = std::env::split_paths(&value).filter(|it| !is_cargos(it)).collect();
    (!kept.is_empty()).then(|| std::env::join_paths(kept).unwrap_or_default())
}

fn is_in_rustlib(folder: &Path) -> bool {
    folder.components().any(|part| part.as_os_str() == "rustlib")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_shows_its_last_lines() {
        let failure = Cmd::new("sh").args(["-c", "seq 9 >&2; exit 7"]).text().unwrap_err();
        assert_eq!(failure.code(), 7);
        assert_eq!(
            failure.to_string(),
            "`sh -c` failed with exit status: 7\n  | 5\n  | 6\n  | 7\n  | 8\n  | 9"
        );
    }

    #[test]
    fn a_program_reads_what_it_is_fed() {
        let long = vec![b'x'; 1 << 20];
        assert_eq!(Cmd::new("wc").arg("-c").fed(&long).unwrap().trim(), "1048576");
        // A program that does not read its input is not an error.
        assert_eq!(Cmd::new("true").fed(&long).unwrap(), "");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let failure = Cmd::new("/nowhere/tool").arg("now").run().unwrap_err();
        assert!(failure.to_string().starts_with("/nowhere/tool now: No such file"), "{failure}");
    }
}
