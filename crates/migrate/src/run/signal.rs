//! The signals that ask this program to stop. The handlers only note them; `check` is called
//! wherever the program waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::flag;

use crate::error::{MigrateError, MigrateErrorKind};
use crate::platform;

/// The signals that were received.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<Received>);

/// Numbers of signals; 0 if there was none.
#[derive(Debug, Default)]
struct Received {
    /// The handlers write here. Taken away by the first look at it.
    newest: Arc<AtomicUsize>,
    first: AtomicUsize,
    second: AtomicUsize,
}

impl StopSignal {
    /// Installs the handlers. Without them process 1 of a container would ignore the signals, and
    /// elsewhere they would leave a server behind.
    pub fn listen() -> io::Result<Self> {
        let stop = Self::default();
        for (signal, number) in platform::stop_signals() {
            flag::register_usize(signal, Arc::clone(&stop.0.newest), number)?;
        }
        Ok(stop)
    }

    /// As if a signal had come.
    #[cfg(test)]
    pub fn raise(&self, signal: usize) {
        self.0.newest.store(signal, Ordering::Relaxed);
    }

    /// An error when a signal was received.
    pub fn check(&self) -> Result<(), MigrateError> {
        self.look();
        let Ok(number) = u8::try_from(self.0.first.load(Ordering::Relaxed)) else { return Ok(()) };
        if number == 0 {
            return Ok(());
        }
        Err(MigrateError::new(
            MigrateErrorKind::Interrupted(number),
            format_args!("interrupted by signal {number}"),
        )
        .hint("the data is whole; run migrate again to continue"))
    }

    /// Whether another signal came after the first one was noticed: servers are killed then.
    pub fn is_repeated(&self) -> bool {
        self.look();
        self.0.second.load(Ordering::Relaxed) != 0
    }

    fn look(&self) {
        let newest = self.0.newest.swap(0, Ordering::Relaxed);
        if newest == 0 {
            return;
        }
        let is_first =
            self.0.first.compare_exchange(0, newest, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !is_first {
            self.0.second.store(newest, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_counts_and_a_second_one_is_noticed() {
        let stop = StopSignal::default();
        assert!(stop.check().is_ok() && !stop.is_repeated());
        stop.raise(15);
        for _ in 0..2 {
            assert_eq!(stop.check().unwrap_err().kind, MigrateErrorKind::Interrupted(15));
            assert!(!stop.is_repeated());
        }
        stop.raise(2);
        assert!(stop.is_repeated() && stop.is_repeated());
        assert_eq!(stop.check().unwrap_err().kind, MigrateErrorKind::Interrupted(15));
    }
}
