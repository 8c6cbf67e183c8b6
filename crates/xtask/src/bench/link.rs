//! A link with a delay to a server on this machine.

use std::fmt;
use std::thread;
use std::time::Duration;

use super::long_link;
use crate::command::{Cmd, is_root};
use crate::daemon::Daemon;
use crate::error::{Result, TaskError};
use crate::workspace::say;

/// The variable that chooses how the delay is made.
const VARIABLE: &str = "BENCH_LINK";

/// How the delay is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// By the kernel, in a network namespace.
    Netem,
    /// By a thread of this program that delays every byte.
    Proxy,
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netem => "netem",
            Self::Proxy => "proxy",
        })
    }
}

impl LinkKind {
    /// netem if the kernel has it, unless the variable chooses.
    pub fn choose() -> Result<Self> {
        match std::env::var(VARIABLE).unwrap_or_default().as_str() {
            "" => {}
            "netem" => return Ok(Self::Netem),
            "proxy" => return Ok(Self::Proxy),
            other => {
                return Err(TaskError::new(format!("{VARIABLE} is `{other}`"))
                    .hint("it may be `netem` or `proxy`"));
            }
        }
        let script = "ip link set lo up && tc qdisc add dev lo root netem delay 1ms";
        if is_root() && Cmd::new("unshare").args(["--net", "sh", "-c", script]).succeeds() {
            say("the kernel has netem");
            return Ok(Self::Netem);
        }
        Ok(Self::Proxy)
    }
}

/// A link that is open as long as this value lives.
#[derive(Debug, Default)]
pub struct Link {
    /// The start of a command line, which runs a program at one end of the link.
    prefix: Vec<String>,
    /// The delay of the proxy, there and back; `None` without a proxy.
    delay: Option<Duration>,
    /// Keeps the network namespace alive.
    _holder: Option<Daemon>,
}

impl Link {
    /// Plain loopback.
    pub fn none() -> Self {
        Self::default()
    }

    /// `delay` is the time there and back.
    pub fn open(kind: LinkKind, delay: Duration) -> Result<Self> {
        if kind == LinkKind::Proxy {
            return Ok(Self { delay: Some(delay), ..Self::default() });
        }
        let holder = Daemon::start(Cmd::new("unshare").args(["--net", "sleep", "100000"]))?;
        thread::sleep(Duration::from_millis(500));
        let prefix = ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", holder.id())];
        let half = format!("{}ms", delay.as_millis() / 2);
        for words in [
            &["ip", "link", "set", "lo", "up"][..],
            &["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", &half],
        ] {
            Cmd::new(&prefix[0]).arg(&prefix[1]).args(words).run()?;
        }
        Ok(Self { prefix: prefix.to_vec(), delay: None, _holder: Some(holder) })
    }

    pub fn prefix(&self) -> &[String] {
        &self.prefix
    }

    /// The address at which a server is reached through the link.
    pub fn address(&self, address: &str) -> Result<String> {
        let Some(delay) = self.delay else { return Ok(address.to_owned()) };
        let port = address.rsplit(':').next().unwrap_or_default().parse()?;
        Ok(format!("127.0.0.1:{}", long_link::start(delay, port)?))
    }
}
