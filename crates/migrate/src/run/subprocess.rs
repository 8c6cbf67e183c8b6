//! Runs a program that does one thing and ends, such as `etcdctl` and `etcdutl`.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use crate::error::{MigrateError, MigrateErrorKind};
use crate::run::poll::Poll;

/// Runs a program until it ends, or kills it when `check` fails. `None` means success, `Some` is
/// the last line that a program wrote to stderr before it failed.
pub fn run(
    mut command: Command,
    check: impl FnMut() -> Result<(), MigrateError>,
) -> Result<Option<String>, MigrateError> {
    // Our environment may hold endpoints, certificates and users that are not meant for it.
    command.env_clear().env("ETCDCTL_API", "3").stdin(Stdio::null()).stdout(Stdio::null());
    let program = Path::new(command.get_program()).to_owned();
    let failed = |error: &io::Error| MigrateError::file("run", &program, error);
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(|error| failed(&error))?;
    let stderr = child.stderr.take();
    // Read in a thread, so that a program which writes much does not block.
    let reader = thread::Builder::new().spawn(move || stderr.map(last_line));
    let reader = match reader {
        Ok(reader) => reader,
        Err(error) => {
            end(&mut child);
            let what = format_args!("cannot start a thread: {error}");
            return Err(MigrateError::new(MigrateErrorKind::System, what));
        }
    };
    let status = watch(&mut child, check, failed)?;
    let line = reader.join().ok().flatten().filter(|line| !line.is_empty());
    let is_good = status.success();
    Ok((!is_good).then(|| line.unwrap_or_else(|| format!("it gave no reason ({status})"))))
}

fn watch(
    child: &mut Child,
    mut check: impl FnMut() -> Result<(), MigrateError>,
    failed: impl Fn(&io::Error) -> MigrateError,
) -> Result<ExitStatus, MigrateError> {
    let poll = Poll::start();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| failed(&error))? {
            return Ok(status);
        }
        if let Err(failure) = check() {
            end(child);
            return Err(failure);
        }
        poll.pause();
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn last_line(mut stderr: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = stderr.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.trim().lines().last().unwrap_or_default().to_owned()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(text: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", text]);
        command
    }

    #[test]
    fn the_last_line_of_a_failure_is_its_reason() {
        let run = |text| run(shell(text), || Ok(())).unwrap();
        assert_eq!(run("echo fine >&2"), None);
        assert_eq!(run("echo first >&2; echo last >&2; exit 1").as_deref(), Some("last"));
        assert_eq!(run("exit 3").unwrap(), "it gave no reason (exit status: 3)");
        // More than a pipe holds.
        let long = "i=0; while [ $i -lt 20000 ]; do echo $i >&2; i=$((i+1)); done; exit 1";
        assert_eq!(run(long).as_deref(), Some("19999"));
    }

    #[test]
    fn a_program_ends_with_what_it_depends_on() {
        let mut checks = 0;
        let failure = run(shell("exec sleep 1000"), || {
            checks += 1;
            if checks < 3 {
                Ok(())
            } else {
                Err(MigrateError::new(MigrateErrorKind::StepFailed, "gone"))
            }
        });
        assert_eq!(failure.unwrap_err().cause, "gone");
    }
}
