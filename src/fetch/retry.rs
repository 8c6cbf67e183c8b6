//! How long to wait before asking the same server again.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use super::{Cause, Options};

/// Nothing when asking again is of no use.
pub(crate) fn wait_before(next_attempt: u32, cause: &Cause, options: &Options) -> Option<Duration> {
    if !cause.may_pass() || next_attempt > options.attempts {
        return None;
    }
    let asked = match cause {
        Cause::Status { retry_after, .. } => retry_after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    Some(backoff(next_attempt, options).max(asked).min(options.longest_wait))
}

/// Exponential with full jitter, so that many machines that failed together do not return
/// together.
fn backoff(next_attempt: u32, options: &Options) -> Duration {
    let doublings = next_attempt.saturating_sub(2).min(16);
    let ceiling = options.backoff.saturating_mul(1 << doublings).min(options.longest_wait);
    ceiling.mul_f64(random())
}

/// From 0 to 1. The standard library's only source of randomness are the keys of its maps, and
/// chance of this quality is not worth a dependency.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

/// `Retry-After`: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    Some(SystemTime::from(date.timestamp()).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        check("2", Some(2));
        check("0", Some(0));
        check(" 7 ", Some(7));
        check("Sun, 06 Nov 1994 08:49:40 GMT", Some(3));
        check("Sun, 06 Nov 1994 08:49:30 GMT", Some(0));
        check("soon", None);
        check("-1", None);
    }

    #[track_caller]
    fn check(value: &str, expected: Option<u64>) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(value, now), expected.map(Duration::from_secs));
    }

    #[test]
    fn waits_grow_but_not_for_ever() {
        let options = Options::default();
        for (next, ceiling) in [(2, 500), (3, 1000), (4, 2000), (40, 60_000)] {
            for _ in 0..50 {
                assert!(backoff(next, &options) <= Duration::from_millis(ceiling));
            }
        }
    }

    #[test]
    fn jitter_is_spread() {
        let draws: Vec<_> = (0..100).map(|_| random()).collect();
        assert!(draws.iter().any(|draw| *draw < 0.3) && draws.iter().any(|draw| *draw > 0.7));
    }

    #[test]
    fn what_a_server_asks_for_is_capped() {
        let busy = |seconds| Cause::Status {
            code: reqwest::StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(Duration::from_secs(seconds)),
            challenge: None,
        };
        let options = Options::default();
        assert_eq!(wait_before(2, &busy(3), &options), Some(Duration::from_secs(3)));
        assert_eq!(wait_before(2, &busy(86_400), &options), Some(options.longest_wait));
        assert_eq!(wait_before(6, &busy(3), &options), None, "all attempts are spent");
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (code, expected) in [
            (408, true),
            (429, true),
            (500, true),
            (503, true),
            (400, false),
            (401, false),
            (404, false),
        ] {
            let code = reqwest::StatusCode::from_u16(code).unwrap();
            let cause = Cause::Status { code, retry_after: None, challenge: None };
            assert_eq!(cause.may_pass(), expected, "{code}");
        }
        assert!(!Cause::TooLong { limit: 1 }.may_pass());
    }
}
