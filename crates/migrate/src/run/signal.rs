//! SIGTERM and SIGINT. The handlers only note them; `check` is called wherever the program waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{MigrateError, MigrateErrorKind};

/// The signal that was received, if any.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicUsize>);

impl StopSignal {
    /// Installs the handlers. Without them process 1 of a container would ignore both signals.
    pub fn listen() -> io::Result<Self> {
        let stop = Self::default();
        for (signal, number) in [(SIGTERM, 15), (SIGINT, 2)] {
            flag::register_usize(signal, Arc::clone(&stop.0), number)?;
        }
        Ok(stop)
    }

    /// As if a signal had come.
    #[cfg(test)]
    pub fn raise(&self, signal: usize) {
        self.0.store(signal, Ordering::Relaxed);
    }

    /// An error when a signal was received.
    pub fn check(&self) -> Result<(), MigrateError> {
        let number = match self.0.load(Ordering::Relaxed) {
            0 => return Ok(()),
            2 => 2,
            _ => 15,
        };
        Err(MigrateError::new(
            MigrateErrorKind::Interrupted(number),
            format_args!("interrupted by signal {number}"),
        )
        .hint("the data is whole; run migrate again to continue"))
    }
}
