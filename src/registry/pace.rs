//! How much is asked of one registry at once: more while all goes well, less when it says so.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

const FIRST: usize = 8;
const MOST: usize = 16;

/// So many good answers in a row let one more request start, once the registry has groaned. Until
/// then each does, as TCP begins: where answers take long, a push is over before a slow climb is.
const GOOD_STEP: usize = 8;

#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    limit: usize,
    busy: usize,
    good: usize,
    has_groaned: bool,
    not_before: Option<Instant>,
}

/// The right to have one request on its way.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Pace);

impl Pace {
    pub(super) fn new() -> Self {
        let state = State { limit: FIRST, busy: 0, good: 0, has_groaned: false, not_before: None };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Waits until another request is welcome.
    pub(super) async fn enter(&self) -> Permit<'_> {
        loop {
            let changed = self.changed.notified();
            let pause = {
                let mut state = self.state();
                let pause = state.not_before.map(|at| at.saturating_duration_since(Instant::now()));
                match pause.filter(|pause| !pause.is_zero()) {
                    None if state.busy < state.limit => {
                        state.busy += 1;
                        return Permit(self);
                    }
                    pause => pause,
                }
            };
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => changed.await,
            }
        }
    }

    pub(super) fn went_well(&self) {
        let mut state = self.state();
        state.good += 1;
        if state.good >= GOOD_STEP || !state.has_groaned {
            state.good = 0;
            state.limit = (state.limit + 1).min(MOST);
        }
    }

    /// Halves what is asked at once, and asks nothing at all for a while.
    pub(super) fn slow_down(&self, pause: Duration) {
        let mut state = self.state();
        state.good = 0;
        state.has_groaned = true;
        state.limit = (state.limit / 2).max(1);
        let until = Instant::now() + pause;
        state.not_before = Some(state.not_before.map_or(until, |at| at.max(until)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state().busy -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_registry_that_groans_is_asked_less_and_later() {
        let pace = Pace::new();
        pace.slow_down(Duration::ZERO);
        pace.slow_down(Duration::from_millis(30));
        assert_eq!(pace.state().limit, FIRST / 4);
        let asked = Instant::now();
        let permits = (pace.enter().await, pace.enter().await);
        assert!(asked.elapsed() >= Duration::from_millis(30));
        let third = tokio::time::timeout(Duration::from_millis(10), pace.enter()).await;
        assert!(third.is_err(), "two at once are enough now");
        drop(permits);
        (0..1000).for_each(|_| pace.went_well());
        assert_eq!(pace.state().limit, MOST);
        drop(pace.enter().await);
    }

    #[test]
    fn it_climbs_fast_until_a_registry_groans() {
        let pace = Pace::new();
        let after = |good: usize| {
            (0..good).for_each(|_| pace.went_well());
            pace.state().limit
        };
        assert_eq!(after(4), FIRST + 4);
        pace.slow_down(Duration::ZERO);
        assert_eq!(after(4), 6);
        assert_eq!(after(4), 7);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let pace = Pace::new();
        (0..9).for_each(|_| pace.slow_down(Duration::ZERO));
        let first = pace.enter().await;
        let wait = async { drop(pace.enter().await) };
        let free = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(first);
        };
        tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(wait, free) })
            .await
            .unwrap();
    }
}
