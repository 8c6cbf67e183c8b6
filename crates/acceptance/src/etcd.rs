//! Clusters of etcd in the pod of a case: members, clients and what they answer.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use etcd_version::EtcdVersion;

use super::certificates::Certificates;
use super::container::{Container, Ended, RootFilesystem};
use super::error::CaseError;
use super::image_under_test::ImageUnderTest;
use super::pod::{Pod, Process};
use super::runtime::Signal;

/// Puts in one transaction. The Docker runtime passes the whole transaction in one environment
/// variable, and Linux allows at most 128 KiB for one.
pub const PUTS_IN_ONE: usize = 2000;

/// The data directory in every container, as in older manifests.
pub const DATA: &str = "/var/etcd/data";
pub const TLS: &str = "/tls";

/// The options of the servers of a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    pub tls: Option<Certificates>,
    pub user: Option<(u32, u32)>,
    pub read_only_root: bool,
    /// `name:password`, which clients log in with.
    pub login: Option<String>,
}

/// Members on the loopback device of one pod.
pub struct Cluster<'a> {
    pub pod: &'a Pod<'a>,
    pub options: ClusterOptions,
    pub members: Vec<ClusterMember<'a>>,
}

pub struct ClusterMember<'a> {
    pub name: String,
    pub version: EtcdVersion,
    pub data: PathBuf,
    /// The flags about the cluster for its first start.
    pub initial_cluster: String,
    pub state: &'static str,
    index: usize,
    options: ClusterOptions,
    pod: &'a Pod<'a>,
    process: Option<Process<'a>>,
}

impl<'a> Cluster<'a> {
    /// A new cluster; nothing runs yet.
    pub fn new(
        pod: &'a Pod<'a>,
        size: usize,
        version: &EtcdVersion,
        options: ClusterOptions,
    ) -> Result<Self, CaseError> {
        let mut cluster = Self { pod, options, members: Vec::new() };
        for _ in 0..size {
            cluster.add(version)?;
        }
        let all = cluster.initial_cluster();
        for member in &mut cluster.members {
            member.initial_cluster.clone_from(&all);
        }
        Ok(cluster)
    }

    /// One more member. The caller adds it to the running cluster and starts it.
    pub fn add(&mut self, version: &EtcdVersion) -> Result<&mut ClusterMember<'a>, CaseError> {
        // Names and ports are never used again, as etcd's guide recommends.
        let index = self.members.last().map_or(0, |last| last.index + 1);
        let data = self.pod.context().folder(&format!("member-{index}"))?;
        if let Some((uid, gid)) = self.options.user {
            std::os::unix::fs::chown(&data, Some(uid), Some(gid))?;
        }
        self.members.push(ClusterMember {
            name: format!("member{index}"),
            version: version.clone(),
            data,
            initial_cluster: String::new(),
            state: "new",
            index,
            options: self.options.clone(),
            pod: self.pod,
            process: None,
        });
        let last = self.members.len() - 1;
        Ok(&mut self.members[last])
    }

    pub fn initial_cluster(&self) -> String {
        let urls = self.members.iter().map(|it| format!("{}={}", it.name, it.peer_url()));
        urls.collect::<Vec<_>>().join(",")
    }

    /// From now on all clients log in with this name and password.
    pub fn log_in(&mut self, login: &str) {
        let wishes = self.members.iter_mut().map(|it| &mut it.options).chain([&mut self.options]);
        wishes.for_each(|options| options.login = Some(login.to_owned()));
    }

    /// Starts all at once and waits until every one of them is healthy.
    pub fn start_all(&mut self) -> Result<(), CaseError> {
        self.members.iter_mut().try_for_each(ClusterMember::start)?;
        self.members.iter_mut().try_for_each(ClusterMember::wait_until_healthy)
    }

    pub fn stop_all(&mut self) -> Result<(), CaseError> {
        // All members get the signal before the first is waited for: without a quorum members stop
        // slowly.
        for member in &mut self.members {
            member.ask_to_stop()?;
        }
        self.members.iter_mut().filter(|it| it.is_running()).try_for_each(|it| it.stop().map(drop))
    }

    /// All members that run.
    pub fn endpoints(&self) -> String {
        let running = self.members.iter().filter(|it| it.is_running());
        running.map(ClusterMember::client_url).collect::<Vec<_>>().join(",")
    }

    /// Runs a command of the oldest etcdctl on any member that answers.
    pub fn ctl(&self, words: &[&str]) -> Result<String, CaseError> {
        self.pod.must(&self.asked(words))
    }

    pub fn try_ctl(&self, words: &[&str]) -> Result<Ended, CaseError> {
        self.pod.run(&self.asked(words))
    }

    pub fn asked(&self, words: &[&str]) -> Container {
        let running = self.members.iter().filter(|it| it.is_running());
        let version = running.map(|it| &it.version).min().unwrap_or(&self.members[0].version);
        ctl(&self.options, version, &self.endpoints(), words)
    }
}

/// `etcdctl`, with the client's certificate where there are any.
pub fn ctl(
    options: &ClusterOptions,
    version: &EtcdVersion,
    endpoints: &str,
    words: &[&str],
) -> Container {
    let mut command = vec![format!("/usr/local/bin/etcdctl-{version}")];
    command.push(format!("--endpoints={endpoints}"));
    command.push("--command-timeout=20s".to_owned());
    if options.tls.is_some() {
        command.extend(Certificates::client_flags(TLS));
    }
    command.extend(options.login.iter().map(|login| format!("--user={login}")));
    command.extend(words.iter().map(|word| (*word).to_owned()));
    let container = Container::new(command).env("ETCDCTL_API", "3");
    match &options.tls {
        Some(tls) => container.volume(&tls.folder, TLS),
        None => container,
    }
}

/// Sets `ETCD_UNSUPPORTED_ARCH` where this version of etcd does not support the architecture. For
/// the newest version the image sets it itself.
pub fn admitted(
    container: Container,
    under_test: &ImageUnderTest,
    version: &EtcdVersion,
) -> Container {
    match under_test.platform.architecture.as_str() {
        "amd64" => container,
        _ if version == under_test.newest() => container,
        foreign => container.env("ETCD_UNSUPPORTED_ARCH", foreign),
    }
}

impl ClusterMember<'_> {
    fn scheme(&self) -> &'static str {
        if self.options.tls.is_some() { "https" } else { "http" }
    }

    pub fn client_url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), 2379 + 100 * self.index)
    }

    pub fn peer_url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), 2380 + 100 * self.index)
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Runs an etcdctl command on this member only.
    pub fn ctl(&self, words: &[&str]) -> Result<String, CaseError> {
        self.pod.must(&ctl(&self.options, &self.version, &self.client_url(), words))
    }

    pub fn try_ctl(&self, words: &[&str]) -> Result<Ended, CaseError> {
        self.pod.run(&ctl(&self.options, &self.version, &self.client_url(), words))
    }

    pub fn start(&mut self) -> Result<(), CaseError> {
        let container = self.server();
        self.process = Some(self.pod.start(&container)?);
        Ok(())
    }

    fn server(&self) -> Container {
        let mut command = vec![
            format!("/usr/local/bin/etcd-{}", self.version),
            format!("--name={}", self.name),
            format!("--data-dir={DATA}"),
            format!("--listen-client-urls={}", self.client_url()),
            format!("--advertise-client-urls={}", self.client_url()),
            format!("--listen-peer-urls={}", self.peer_url()),
            format!("--initial-advertise-peer-urls={}", self.peer_url()),
            format!("--initial-cluster={}", self.initial_cluster),
            format!("--initial-cluster-state={}", self.state),
            "--logger=zap".to_owned(),
            // Cases write thousands of keys, and one call for each would be slow.
            format!("--max-txn-ops={PUTS_IN_ONE}"),
        ];
        if self.options.tls.is_some() {
            command.extend(Certificates::server_flags(TLS));
            command.extend(Certificates::peer_flags(TLS));
        }
        self.dressed(admitted(
            Container::new(command),
            self.pod.context().under_test,
            &self.version,
        ))
    }

    /// Adds this member's volumes, user and root file system.
    fn dressed(&self, container: Container) -> Container {
        let mut container = container.volume(&self.data, DATA);
        if let Some(tls) = &self.options.tls {
            container = container.volume(&tls.folder, TLS);
        }
        container.user = self.options.user;
        if self.options.read_only_root {
            container.root = RootFilesystem::ReadOnly;
        }
        container
    }

    pub fn wait_until_healthy(&mut self) -> Result<(), CaseError> {
        let context = self.pod.context();
        let what = format!("{} to be healthy", self.name);
        let outcome = context.until(&what, || {
            self.check()?;
            Ok(self.try_ctl(&["endpoint", "health"])?.code == 0)
        });
        outcome.map_err(|stop| stop.log(&self.log()))
    }

    /// An error if it ended by itself.
    pub fn check(&mut self) -> Result<(), CaseError> {
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.has_ended()? {
            None => Ok(()),
            Some(code) => {
                let what = format!(
                    "etcd {} of {} ended by itself with exit code {code}",
                    self.version, self.name
                );
                Err(CaseError::failed(what).command(process.line().to_owned()).log(&process.log()))
            }
        }
    }

    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    fn ask_to_stop(&mut self) -> Result<(), CaseError> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(Signal::Term))
    }

    /// Stops it with SIGTERM; returns how long that took.
    pub fn stop(&mut self) -> Result<Duration, CaseError> {
        let started = Instant::now();
        self.ask_to_stop()?;
        if let Some(process) = self.process.take() {
            process.end()?;
        }
        Ok(started.elapsed())
    }

    /// Kills it, as if its machine had failed.
    pub fn kill(&mut self) -> Result<(), CaseError> {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::Kill)?;
            process.end()?;
        }
        Ok(())
    }

    /// The container that runs `migrate` on this member's data, as manifests do.
    pub fn migration(&self, to: &EtcdVersion) -> Container {
        let container = Container::new(["/usr/local/bin/migrate", "--log-format=json"])
            .env("TARGET_VERSION", to.to_string())
            .env("TARGET_STORAGE", "etcd3")
            .env("DATA_DIRECTORY", DATA)
            .env("ETCD_NAME", &self.name)
            .env("INITIAL_CLUSTER", &self.initial_cluster)
            .env("LISTEN_PEER_URLS", self.peer_url())
            .env("INITIAL_ADVERTISE_PEER_URLS", self.peer_url())
            .env("DO_NOT_MOVE_BINARIES", "true");
        let credentials = || Certificates::peer_flags(TLS).join(" ");
        let container = match &self.options.tls {
            Some(_) => container.env("ETCD_CREDS", credentials()),
            None => container,
        };
        self.dressed(container)
    }

    /// Migrates the data, so that the member may start as that version. Returns the log.
    pub fn migrate(&mut self, to: &EtcdVersion) -> Result<String, CaseError> {
        let container = self.migration(to);
        let ended = self.pod.run(&container)?;
        if ended.code != 0 {
            return Err(CaseError::failed(format_args!(
                "migrate failed with exit code {}",
                ended.code
            ))
            .command(container.line())
            .log(&ended.stderr));
        }
        self.version = to.clone();
        Ok(ended.stderr)
    }

    /// The content of `version.txt`.
    pub fn version_file(&self) -> String {
        std::fs::read_to_string(self.data.join("version.txt")).unwrap_or_default()
    }
}
