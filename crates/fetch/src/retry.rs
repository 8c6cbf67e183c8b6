//! When to send the same request again: the one policy for downloads, tokens and registries.

use std::time::{Duration, SystemTime};

use super::{FetchOptions, TransferError};

/// Counts the attempts of one request, and says how long to wait before the next one.
#[derive(Debug)]
pub struct Attempts<'a> {
    options: &'a FetchOptions,
    made: u32,
}

impl<'a> Attempts<'a> {
    /// The first attempt.
    pub fn new(options: &'a FetchOptions) -> Self {
        Self { options, made: 1 }
    }

    /// How many attempts were made, the present one included.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// How long to wait before the next attempt, which then is the present one; `None` if another
    /// attempt cannot help, or all attempts are used up.
    pub fn next(&mut self, cause: &TransferError) -> Option<Duration> {
        if !cause.is_transient() || self.made >= self.options.attempts {
            return None;
        }
        self.made += 1;
        let asked = cause.retry_after().unwrap_or_default();
        Some(backoff(self.made, self.options).max(asked).min(self.options.longest_wait))
    }

    /// For people: why there is another attempt, and when.
    pub fn describe(&self, what: &str, cause: &TransferError, wait: Duration) -> String {
        let (made, attempts, seconds) = (self.made, self.options.attempts, wait.as_secs_f64());
        format!("{what}: {cause}; attempt {made} of {attempts} in {seconds:.1} s")
    }
}

/// Exponential with full jitter, so that many machines that failed together do not return
/// together.
fn backoff(next_attempt: u32, options: &FetchOptions) -> Duration {
    let doublings = next_attempt.saturating_sub(2).min(16);
    let ceiling = options.backoff.saturating_mul(1 << doublings).min(options.longest_wait);
    ceiling.mul_f64(fastrand::f64())
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
    use reqwest::StatusCode;

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
    fn waits_grow_up_to_a_limit_and_are_random() {
        let options = FetchOptions::default();
        for (next, ceiling) in [(2, 500), (3, 1000), (4, 2000), (40, 60_000)] {
            let ceiling = Duration::from_millis(ceiling);
            let waits: Vec<_> = (0..100).map(|_| backoff(next, &options)).collect();
            assert!(waits.iter().all(|wait| *wait <= ceiling));
            let has = |is: &dyn Fn(f64) -> bool| {
                waits.iter().any(|wait| is(wait.div_duration_f64(ceiling)))
            };
            assert!(has(&|part| part < 0.3) && has(&|part| part > 0.7));
        }
    }

    #[test]
    fn what_a_server_asks_for_is_capped() {
        let busy = |seconds| TransferError::Status {
            code: StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let options = FetchOptions::default();
        let mut attempts = Attempts::new(&options);
        assert_eq!(attempts.next(&busy(3)), Some(Duration::from_secs(3)));
        assert_eq!(attempts.next(&busy(86_400)), Some(options.longest_wait));
        attempts.next(&busy(3)).unwrap();
        attempts.next(&busy(3)).unwrap();
        assert_eq!((attempts.next(&busy(3)), attempts.made()), (None, options.attempts));
    }

    #[test]
    fn only_transient_failures_are_tried_again() {
        for (code, expected) in [
            (408, true),
            (429, true),
            (500, true),
            (503, true),
            (400, false),
            (401, false),
            (403, false),
            (404, false),
        ] {
            let code = StatusCode::from_u16(code).unwrap();
            let cause = TransferError::Status { code, retry_after: None };
            assert_eq!(cause.is_transient(), expected, "{code}");
        }
        let code = StatusCode::FORBIDDEN;
        assert!(TransferError::RateLimited { code, retry_after: None }.is_transient());
        assert!(!TransferError::TooLong { limit: 1 }.is_transient());
    }
}
