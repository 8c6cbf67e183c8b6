//! Asking again until something is so: soon at first, and never much later than it became so.

use std::thread;
use std::time::{Duration, Instant};

/// An answer comes at most this part of the wait too late: 2 %.
const LATENESS: u32 = 50;
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Where each question takes a process of its own.
const DEAR_PAUSE: Duration = Duration::from_millis(100);

pub struct Wait {
    started: Instant,
    shortest: Duration,
}

impl Wait {
    pub fn start() -> Self {
        Self { started: Instant::now(), shortest: SHORTEST_PAUSE }
    }

    pub fn with_dear_questions() -> Self {
        Self { shortest: DEAR_PAUSE, ..Self::start() }
    }

    pub fn is_longer_than(&self, limit: Duration) -> bool {
        self.started.elapsed() > limit
    }

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
