//! Undoes what a private Docker engine changes in the machine's network.
//!
//! The state before the engine starts is saved in the cache. If a run was killed (-9), the state
//! that it saved is still the one to restore.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::Cmd;
use crate::daemon;
use crate::error::{ErrorContext as _, Result};
use crate::part;
use crate::workspace::say;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// The state of the network before the engine started.
#[derive(Debug)]
pub struct NetworkState {
    /// The folder with the saved state.
    before: PathBuf,
}

impl NetworkState {
    /// Saves what the engine in the folder `work` will change.
    pub fn remember(parts: &Path, work: &Path) -> Result<Self> {
        let before = parts.join("engine.before");
        let own = work.display().to_string();
        if before.is_dir() {
            let killed = fs::read_to_string(before.join("work"))?;
            let killed = killed.trim();
            say(format_args!("cleaning up after a run that was killed ({killed})"));
            daemon::await_end(&daemon::of_engine(Path::new(killed)));
            Cmd::root("rm").args(["-rf", "--one-file-system", "--", killed]).run()?;
            fs::write(before.join("work"), own)?;
            return Ok(Self { before });
        }
        let folder = part::temporary(parts)?;
        let made = folder.path().join("new");
        fs::create_dir(&made)?;
        fs::write(made.join("firewall"), firewall())?;
        fs::write(made.join("ip_forward"), fs::read(FORWARD).context(FORWARD)?)?;
        fs::write(made.join("links"), links()?)?;
        fs::write(made.join("work"), own)?;
        part::finish(&made, &before)?;
        Ok(Self { before })
    }

    /// Removes the bridge and the rules that Docker added, and restores the policies.
    pub fn restore(&self) {
        let known = |name: &str| fs::read_to_string(self.before.join(name)).unwrap_or_default();
        if !known("links").lines().any(|link| link == "docker0") {
            Cmd::root("ip").args(["link", "delete", "docker0"]).succeeds();
        }
        if !known("firewall").contains("DOCKER") {
            for rule in undo(&known("firewall"), &firewall()) {
                let mut words = rule.split_whitespace();
                let Some(program) = words.next() else { continue };
                Cmd::root(program).args(words).succeeds();
            }
            let value = known("ip_forward");
            let _ = Cmd::root("tee").arg(FORWARD).fed(value.as_bytes());
        }
        let _ = fs::remove_dir_all(&self.before);
    }
}

/// The names of the network links, one a line.
fn links() -> Result<String> {
    let links = part::entries(Path::new("/sys/class/net"))?;
    let name =
        |path: &PathBuf| format!("{}\n", path.file_name().unwrap_or_default().to_string_lossy());
    Ok(links.iter().map(name).collect())
}

/// Every rule and policy, as the command that makes it.
fn firewall() -> String {
    let mut rules = String::new();
    for tool in ["iptables", "ip6tables"] {
        for table in ["raw", "nat", "filter"] {
            let prefix = [tool, "-w", "-t", table];
            // Without the tool, or where the kernel has no such table, there are no rules.
            let text = Cmd::root(tool).args(&prefix[1..]).arg("-S").text().unwrap_or_default();
            for rule in text.lines() {
                rules.extend([&prefix.join(" "), " ", rule, "\n"]);
            }
        }
    }
    rules
}

/// The commands that undo what Docker did: they remove its rules, then its chains, and restore the
/// policies.
fn undo(before: &str, now: &str) -> Vec<String> {
    let is_new = |rule: &&str| !before.lines().any(|known| known == *rule) && is_dockers(rule);
    let added: Vec<_> = now.lines().filter(is_new).collect();
    let replaced = |from: &str, to: &str| {
        let with = added.iter().filter(|rule| rule.contains(from));
        with.map(|rule| rule.replacen(from, to, 1)).collect::<Vec<_>>()
    };
    let policies = before.lines().filter(|rule| rule.contains("-P FORWARD")).map(str::to_owned);
    let (rules, chains) = (replaced(" -A ", " -D "), replaced(" -N ", " -X "));
    rules.into_iter().chain(chains).chain(policies).collect()
}

fn is_dockers(rule: &str) -> bool {
    let is_bridge = |(start, _): (usize, &str)| {
        let id: Vec<_> = rule[start + 3..].bytes().take(12).collect();
        id.len() == 12 && id.iter().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(it))
    };
    rule.contains("DOCKER") || rule.contains("docker0") || rule.match_indices("br-").any(is_bridge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_of_docker_are_taken_back() {
        let before = "iptables -w -t filter -P FORWARD ACCEPT\n\
                      iptables -w -t nat -A POSTROUTING -o eth0 -j MASQUERADE\n";
        let now = "iptables -w -t filter -P FORWARD DROP\n\
                   iptables -w -t nat -A POSTROUTING -o eth0 -j MASQUERADE\n\
                   iptables -w -t filter -N DOCKER\n\
                   iptables -w -t filter -A FORWARD -o docker0 -j DOCKER\n\
                   iptables -w -t filter -A FORWARD -o br-0123456789ab -j ACCEPT\n\
                   iptables -w -t filter -A INPUT -i br-lan -j ACCEPT\n";
        assert_eq!(
            undo(before, now),
            [
                "iptables -w -t filter -D FORWARD -o docker0 -j DOCKER",
                "iptables -w -t filter -D FORWARD -o br-0123456789ab -j ACCEPT",
                "iptables -w -t filter -X DOCKER",
                "iptables -w -t filter -P FORWARD ACCEPT",
            ]
        );
    }
}
