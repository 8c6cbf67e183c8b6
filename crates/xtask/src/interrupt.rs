//! Ctrl-C and other signals that end a program. The programs that we wait for get SIGTERM; then the
//! task fails like with any error, and `Drop` removes everything that it made.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{Result, TaskError};

/// The first signal that arrived; 0 if there was none.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// How many clean-ups are running. A signal does not stop them.
static SHIELDS: AtomicUsize = AtomicUsize::new(0);

/// The programs that a thread waits for.
static AWAITED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// From now on signals do not end this process.
pub fn catch() -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let _ = RECEIVED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
            if SHIELDS.load(Ordering::SeqCst) > 0 {
                continue;
            }
            for pid in AWAITED.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = kill_process(*pid, Signal::TERM);
            }
        }
    });
    Ok(())
}

/// Fails once a signal has arrived, but not during a clean-up.
pub fn check() -> Result<()> {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => Ok(()),
        _ if SHIELDS.load(Ordering::SeqCst) > 0 => Ok(()),
        signal => {
            let code = u8::try_from(128 + signal).unwrap_or(u8::MAX);
            Err(TaskError::new("interrupted").with_code(code))
        }
    }
}

/// A clean-up: programs that it starts run to their end, also when a signal arrives.
pub fn shielded<T>(clean_up: impl FnOnce() -> T) -> T {
    SHIELDS.fetch_add(1, Ordering::SeqCst);
    let result = clean_up();
    SHIELDS.fetch_sub(1, Ordering::SeqCst);
    result
}

/// Calls `wait`, during which a signal ends the program.
pub fn during<T>(pid: u32, wait: impl FnOnce() -> T) -> T {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let awaited = || AWAITED.lock().unwrap_or_else(PoisonError::into_inner);
    awaited().extend(pid);
    if check().is_err() {
        // The signal arrived before the program was on the list.
        pid.map(|pid| kill_process(pid, Signal::TERM));
    }
    let result = wait();
    awaited().retain(|known| Some(*known) != pid);
    result
}
