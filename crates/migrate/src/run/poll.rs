//! Repeats a question until its answer changes: often at first, and less often after a long time.

use std::thread;
use std::time::{Duration, Instant};

/// A change is noticed at most 2 % of the time waited (1/50) too late.
const LATENESS: u32 = 50;
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The shortest pause when each question starts a process.
const EXPENSIVE_PAUSE: Duration = Duration::from_millis(100);

/// How often a person is told that a wait goes on.
const REMINDER: Duration = Duration::from_secs(10);

/// One wait for one change.
pub struct Poll {
    started: Instant,
    shortest: Duration,
    reminders: u32,
}

impl Poll {
    /// Starts to wait, now.
    pub fn start() -> Self {
        Self { started: Instant::now(), shortest: SHORTEST_PAUSE, reminders: 0 }
    }

    /// The same, for questions that each start a process.
    pub fn expensive() -> Self {
        Self { shortest: EXPENSIVE_PAUSE, ..Self::start() }
    }

    /// How long the wait has lasted.
    pub fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the wait has lasted longer than that.
    pub fn is_longer_than(&self, limit: Duration) -> bool {
        self.waited() > limit
    }

    /// How long the wait has lasted, in seconds, when a person should be told of it again.
    pub fn reminder(&mut self) -> Option<u64> {
        let waited = self.started.elapsed();
        if waited < REMINDER * (self.reminders + 1) {
            return None;
        }
        self.reminders += 1;
        Some(waited.as_secs())
    }

    /// Sleeps before the next question.
    pub fn pause(&self) {
        thread::sleep(pause_after(self.started.elapsed()).max(self.shortest));
    }
}

fn pause_after(waited: Duration) -> Duration {
    (waited / LATENESS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_asked_about_less_often() {
        let pause = |seconds| pause_after(Duration::from_secs_f32(seconds)).as_millis();
        assert_eq!([0.0, 1.0, 5.0, 100.0].map(pause), [2, 20, 100, 250]);
    }
}
