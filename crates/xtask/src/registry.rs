//! A private CNCF registry on loopback.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::Cmd;
use crate::daemon::Daemon;
use crate::error::{Result, TaskError};

/// How a registry is started.
#[derive(Debug)]
pub struct RegistryDaemonOptions<'a> {
    pub program: &'a Path,
    /// For its configuration and logs.
    pub work: &'a Path,
    /// For its blobs.
    pub data: &'a Path,
    /// The start of the command line, which runs the program in its own network namespace.
    pub prefix: &'a [String],
    pub allows_delete: bool,
}

/// A running registry; it ends when this value is dropped.
#[derive(Debug)]
pub struct RegistryDaemon {
    pub address: String,
    /// One line for each request.
    pub access_log: PathBuf,
    _daemon: Daemon,
}

pub fn start(options: &RegistryDaemonOptions<'_>) -> Result<RegistryDaemon> {
    let RegistryDaemonOptions { program, work, data, prefix, allows_delete } = options;
    fs::create_dir_all(data)?;
    let configuration = work.join("registry.yml");
    fs::write(
        &configuration,
        format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage:\n  \
               filesystem: {{rootdirectory: {}}}\n  \
               delete: {{enabled: {allows_delete}}}\n\
             http: {{addr: \"127.0.0.1:0\"}}\n",
            data.display()
        ),
    )?;
    let (access_log, log) = (work.join("registry-access.log"), work.join("registry.log"));
    let bound = ["setsid", "setpriv", "--pdeathsig", "TERM"].map(str::to_owned);
    let words: Vec<_> = bound.iter().chain(*prefix).cloned().collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An empty environment, because every REGISTRY_… in it would change the configuration.
    let command = Cmd::new(&words[0])
        .args(&words[1..])
        .arg(program)
        .arg("serve")
        .arg(&configuration)
        .bare()
        .env("PATH", path)
        .logs(&access_log, &log)?;
    let mut daemon = Daemon::start(command)?;
    let read = || fs::read_to_string(&log).unwrap_or_default();
    if !daemon.until(|| address(&read()).is_some())? {
        return Err(TaskError::new(format!("the registry does not start\n{}", read())));
    }
    let address = address(&read()).unwrap_or_default();
    Ok(RegistryDaemon { address, access_log, _daemon: daemon })
}

/// The address in its log.
fn address(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on 127")?;
    let end = rest.find(|it: char| !it.is_ascii_digit() && !".:".contains(it))?;
    Some(format!("127{}", &rest[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_in_the_log() {
        let log = "time=\"…\" level=info msg=\"listening on 127.0.0.1:39211\" go.version=go1.19\n";
        assert_eq!(address(log).as_deref(), Some("127.0.0.1:39211"));
        assert_eq!(address("level=info msg=\"redis not configured\""), None);
        // A line that is not complete yet.
        assert_eq!(address("msg=\"listening on 127.0.0.1:39"), None);
    }
}
