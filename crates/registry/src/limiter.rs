//! How many requests one registry gets at once: more while all goes well, fewer when it throttles
//! (additive increase, multiplicative decrease).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

const INITIAL_LIMIT: usize = 8;
const LARGEST_LIMIT: usize = 16;

/// Once the registry has throttled, this many successes in a row raise the limit by one. Until
/// then each success does, as TCP's slow start: where answers take long, a push would otherwise
/// be over before the limit has grown.
const SUCCESSES_PER_STEP: usize = 8;

#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    state: Mutex<LimiterState>,
    changed: Notify,
}

#[derive(Debug)]
struct LimiterState {
    limit: usize,
    in_flight: usize,
    successes: usize,
    was_throttled: bool,
    /// No request starts before this moment.
    paused_until: Option<Instant>,
}

/// The right to have one request in flight, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<ConcurrencyLimiter>);

impl ConcurrencyLimiter {
    pub(super) fn new() -> Arc<Self> {
        let state = LimiterState {
            limit: INITIAL_LIMIT,
            in_flight: 0,
            successes: 0,
            was_throttled: false,
            paused_until: None,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    /// Waits until another request may start.
    pub(super) async fn acquire(self: &Arc<Self>) -> Permit {
        loop {
            let changed = self.changed.notified();
            let pause = {
                let mut state = self.state();
                let until = state.paused_until;
                let pause = until.map(|at| at.saturating_duration_since(Instant::now()));
                match pause.filter(|pause| !pause.is_zero()) {
                    None if state.in_flight < state.limit => {
                        state.in_flight += 1;
                        return Permit(Arc::clone(self));
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

    pub(super) fn record_success(&self) {
        let mut state = self.state();
        state.successes += 1;
        if state.successes >= SUCCESSES_PER_STEP || !state.was_throttled {
            state.successes = 0;
            state.limit = (state.limit + 1).min(LARGEST_LIMIT);
        }
    }

    /// Halves the limit, and lets no request start during the pause.
    pub(super) fn throttle(&self, pause: Duration) {
        let mut state = self.state();
        state.successes = 0;
        state.was_throttled = true;
        state.limit = (state.limit / 2).max(1);
        let until = Instant::now() + pause;
        state.paused_until = Some(state.paused_until.map_or(until, |at| at.max(until)));
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_registry_that_throttles_gets_fewer_requests_and_later() {
        let limiter = ConcurrencyLimiter::new();
        limiter.throttle(Duration::ZERO);
        limiter.throttle(Duration::from_millis(30));
        assert_eq!(limiter.state().limit, INITIAL_LIMIT / 4);
        let asked = Instant::now();
        let permits = (limiter.acquire().await, limiter.acquire().await);
        assert!(asked.elapsed() >= Duration::from_millis(30));
        let third = tokio::time::timeout(Duration::from_millis(10), limiter.acquire()).await;
        assert!(third.is_err(), "two at once are enough now");
        drop(permits);
        (0..1000).for_each(|_| limiter.record_success());
        assert_eq!(limiter.state().limit, LARGEST_LIMIT);
        drop(limiter.acquire().await);
    }

    #[test]
    fn the_limit_grows_fast_until_a_registry_throttles() {
        let limiter = ConcurrencyLimiter::new();
        let after = |successes: usize| {
            (0..successes).for_each(|_| limiter.record_success());
            limiter.state().limit
        };
        assert_eq!(after(4), INITIAL_LIMIT + 4);
        limiter.throttle(Duration::ZERO);
        assert_eq!(after(4), 6);
        assert_eq!(after(4), 7);
    }

    #[tokio::test]
    async fn a_permit_that_is_given_back_wakes_a_waiting_request() {
        let limiter = ConcurrencyLimiter::new();
        (0..9).for_each(|_| limiter.throttle(Duration::ZERO));
        let first = limiter.acquire().await;
        let wait = async { drop(limiter.acquire().await) };
        let free = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(first);
        };
        tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(wait, free) })
            .await
            .unwrap();
    }
}
