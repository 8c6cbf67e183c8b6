//! What `migrate --log-format=json` writes, one event per line. Its sentences are for people and
//! may change; the names of its events and their fields are an interface.

use std::str::FromStr;

use etcd_version::EtcdVersion;
use serde::Deserialize;

#[derive(Debug)]
pub struct Events(Vec<LoggedEvent>);

#[derive(Debug, Deserialize)]
struct LoggedEvent {
    event: String,
    /// The version of the server that the event is about.
    etcd: Option<String>,
}

impl Events {
    /// Lines that are not events, such as those of a shell, are ignored.
    pub fn of(log: &str) -> Self {
        Self(log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The versions of the servers that were started, in order.
    pub fn started(&self) -> Vec<EtcdVersion> {
        self.versions("started")
    }

    /// The versions of the servers that finished their step.
    pub fn stopped(&self) -> Vec<EtcdVersion> {
        self.versions("stopped")
    }

    fn versions(&self, name: &str) -> Vec<EtcdVersion> {
        let named = self.0.iter().filter(|event| event.event == name);
        named.filter_map(|event| EtcdVersion::from_str(event.etcd.as_deref()?).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_distinguished_by_their_events() {
        let events = Events::of(
            "sh: a warning\n\
             {\"level\":\"info\",\"event\":\"started\",\"message\":\"x\",\"etcd\":\"3.5.33\"}\n\
             {\"level\":\"info\",\"event\":\"stopped\",\"message\":\"x\",\"etcd\":\"3.5.33\"}\n\
             {\"level\":\"info\",\"event\":\"started\",\"message\":\"x\",\"etcd\":\"3.6.14\"}\n\
             {\"level\":\"info\",\"event\":\"done\",\"message\":\"etcd 3.7.1\"}\n",
        );
        let text = |versions: Vec<EtcdVersion>| {
            versions.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(text(events.started()), ["3.5.33", "3.6.14"]);
        assert_eq!(text(events.stopped()), ["3.5.33"]);
    }
}
