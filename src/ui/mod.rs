//! The only module that prints: data on stdout, messages on stderr.
//!
//! Not responsible for the text of an error (`failure`).

mod transfer;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use fetch::{Progress, TransferListener};
use indicatif::MultiProgress;

pub use transfer::Transfer;

/// How much is printed on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and errors only.
    Quiet,
    #[default]
    Normal,
    /// Every external command, too, in a form that can be pasted into a shell.
    Verbose,
}

/// How the progress of a transfer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressMode {
    /// Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// A line every few seconds.
    Plain,
    /// No progress is shown.
    None,
}

/// Prints for the user. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ui {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    verbosity: Verbosity,
    progress: ProgressMode,
    terminal: bool,
    colour: bool,
    bars: MultiProgress,
}

impl Ui {
    pub fn new(verbosity: Verbosity, progress: ProgressMode) -> Self {
        let terminal = io::stderr().is_terminal();
        let inner = Inner {
            verbosity,
            progress,
            terminal,
            colour: terminal && wants_colour(|name| std::env::var(name).ok()),
            // Draws on stderr, and only if that is a terminal.
            bars: MultiProgress::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// One finished piece of work: `   Fetched etcd-v3.6.14-linux-amd64.tar.gz 23.1 MB`.
    pub fn status(&self, verb: &str, text: impl AsRef<str>) {
        if self.inner.verbosity >= Verbosity::Normal {
            self.say(&status_line(verb, text.as_ref(), self.inner.colour));
        }
    }

    /// A step of work that takes minutes.
    pub fn progress(&self, text: impl AsRef<str>) {
        if self.inner.verbosity >= Verbosity::Normal && self.inner.progress != ProgressMode::None {
            self.say(&status_line("Running", text.as_ref(), self.inner.colour));
        }
    }

    pub fn note(&self, text: impl AsRef<str>) {
        if self.inner.verbosity >= Verbosity::Normal {
            self.say(&format!("note: {}", text.as_ref()));
        }
    }

    /// A warning; printed even with `--quiet`.
    pub fn warning(&self, text: impl AsRef<str>) {
        self.say(&format!("warning: {}", text.as_ref()));
    }

    /// An external command, before it starts.
    pub fn command(&self, line: impl AsRef<str>) {
        if self.inner.verbosity >= Verbosity::Verbose {
            self.say(&status_line("Running", &format!("`{}`", line.as_ref()), self.inner.colour));
        }
    }

    /// The text of a failure, as it is.
    pub fn error(&self, text: impl AsRef<str>) {
        self.say(text.as_ref());
    }

    /// One line of data on stdout.
    ///
    /// Ends the program with success if the reader has closed the pipe, as in
    /// `etcdimg plan | head -1`. Ends it with an error if the data cannot be written otherwise.
    pub fn out(&self, text: impl AsRef<str>) {
        let mut stdout = io::stdout();
        let written = self
            .inner
            .bars
            .suspend(|| writeln!(stdout, "{}", text.as_ref()).and_then(|()| stdout.flush()));
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => {
                self.say(&format!("error: cannot write to stdout\n  because: {error}"));
                std::process::exit(i32::from(crate::failure::Kind::Io.code()));
            }
        }
    }

    /// Shows an upload until it is finished or dropped.
    pub fn upload(&self, name: &str, total: Option<u64>) -> Transfer {
        self.show("Pushing", name, total)
    }

    fn show(&self, verb: &'static str, name: &str, total: Option<u64>) -> Transfer {
        let inner = &self.inner;
        if inner.verbosity == Verbosity::Quiet || inner.progress == ProgressMode::None {
            Transfer::silent()
        } else if inner.progress == ProgressMode::Auto && inner.terminal {
            Transfer::bar(&inner.bars, verb, name, total, inner.colour)
        } else {
            Transfer::lines(self.clone(), verb, name, total)
        }
    }

    fn say(&self, line: &str) {
        // A closed stderr is no reason to stop working.
        let _ = self.inner.bars.suspend(|| writeln!(io::stderr(), "{line}"));
    }
}

impl Progress for Ui {
    fn status(&self, verb: &str, text: &str) {
        self.status(verb, text);
    }

    fn note(&self, text: &str) {
        self.note(text);
    }

    fn warning(&self, text: &str) {
        self.warning(text);
    }

    fn download(&self, name: &str, total: Option<u64>) -> TransferListener {
        let transfer = self.show("Fetching", name, total);
        Box::new(move |bytes| transfer.set_position(bytes))
    }
}

pub use oci::document::size_text as size;

fn status_line(verb: &str, text: &str, colour: bool) -> String {
    if colour {
        format!("\x1b[1;32m{verb:>12}\x1b[0m {text}")
    } else {
        format!("{verb:>12} {text}")
    }
}

/// <https://no-color.org>: any value of `NO_COLOR` that is not empty turns colours off.
fn wants_colour(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("NO_COLOR").is_none_or(|value| value.is_empty())
        && variable("TERM").is_none_or(|value| value != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let rows = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (23_098_765, "23.1 MB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (1_073_741_824, "1.1 GB"),
            (u64::MAX, "18 EB"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn verbs_line_up() {
        assert_eq!(status_line("Fetched", "a 1 B", false), "     Fetched a 1 B");
        assert_eq!(status_line("Fetched", "a", true), "\x1b[1;32m     Fetched\x1b[0m a");
    }

    #[test]
    fn no_color_is_honoured() {
        let with = |name: &'static str, value: &'static str| {
            wants_colour(move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert!(with("OTHER", "1"));
        assert!(with("NO_COLOR", ""));
        assert!(!with("NO_COLOR", "1"));
        assert!(!with("TERM", "dumb"));
    }

    #[test]
    fn the_ui_can_be_shared_between_threads() {
        fn check<T: Clone + Send + Sync>() {}
        check::<Ui>();
    }
}
