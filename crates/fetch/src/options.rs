//! How patient downloads and registries are, and whose certificates are trusted.

use std::time::Duration;

use crate::http::TlsTrust;

/// Timeouts, attempts and trust of everything that is asked for over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// Per mirror, the first one included.
    pub attempts: u32,
    pub connect_timeout: Duration,
    /// The longest time without a byte.
    pub stall_timeout: Duration,
    /// How many files at once.
    pub parallel: usize,
    /// The longest wait before the second attempt; it doubles with each further one.
    pub backoff: Duration,
    /// No wait is longer, whatever a server asks for.
    pub longest_wait: Duration,
    /// Certificates beyond those of this system's authorities.
    pub trust: TlsTrust,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            attempts: 5,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            parallel: 4,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_mins(1),
            trust: TlsTrust::default(),
        }
    }
}
