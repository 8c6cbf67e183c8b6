//! The progress of one download or upload.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Ui, size};

/// Time between two lines about one transfer, if there is no bar.
const PAUSE: Duration = Duration::from_secs(5);

/// Shows the progress of one transfer until it is dropped.
#[derive(Debug)]
pub struct Transfer {
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines { ui: Ui, verb: &'static str, name: String, total: Option<u64>, last: Mutex<Instant> },
}

impl Transfer {
    pub(super) fn silent() -> Self {
        Self { shown: Shown::Nothing }
    }

    pub(super) fn bar(
        bars: &MultiProgress,
        verb: &str,
        name: &str,
        total: Option<u64>,
        colour: bool,
    ) -> Self {
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let bar = bars.add(bar.with_style(style(verb, total.is_some(), colour)));
        bar.set_message(name.to_owned());
        Self { shown: Shown::Bar(bar) }
    }

    pub(super) fn lines(ui: Ui, verb: &'static str, name: &str, total: Option<u64>) -> Self {
        let last = Mutex::new(Instant::now());
        Self { shown: Shown::Lines { ui, verb, name: name.to_owned(), total, last } }
    }

    /// Sets the number of bytes transferred so far.
    pub fn set_position(&self, bytes: u64) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.set_position(bytes),
            Shown::Lines { ui, verb, name, total, last } => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= PAUSE {
                    *last = Instant::now();
                    ui.status(verb, line(name, bytes, *total));
                }
            }
        }
    }

    /// Removes the bar; the caller prints a status line.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn line(name: &str, bytes: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{name} {} of {}", size(bytes), size(total)),
        None => format!("{name} {}", size(bytes)),
    }
}

fn style(verb: &str, with_total: bool, colour: bool) -> ProgressStyle {
    let verb = if colour { format!("\x1b[1;36m{verb:>12}\x1b[0m") } else { format!("{verb:>12}") };
    let rest = if with_total {
        "{msg} [{bar:20}] {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}"
    } else {
        "{msg} {decimal_bytes}, {decimal_bytes_per_sec}"
    };
    ProgressStyle::with_template(&format!("{verb} {rest}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far() {
        assert_eq!(line("etcd", 1000, Some(2_000_000)), "etcd 1.0 kB of 2.0 MB");
        assert_eq!(line("etcd", 1000, None), "etcd 1.0 kB");
    }

    #[test]
    fn the_bar_template_is_valid() {
        let bar = Transfer::bar(&MultiProgress::new(), "Fetching", "etcd", Some(10), true);
        bar.set_position(5);
        assert!(matches!(bar.shown, Shown::Bar(ref bar) if bar.position() == 5));
    }
}
