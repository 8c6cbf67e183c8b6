//! The command line and the environment of an etcd server, for each version. Starts nothing.

use etcd_version::{EtcdVersion, Facts};

use crate::cli::options::ServerOptions;
use crate::plan::spelling::{flag_of_variable, variable_of};
use crate::run::fitted_flags::{self, LeftOutFlag};

/// What a server is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To bring the data to its version and the log to a raft snapshot.
    Upgrade,
    /// To read and write what its two APIs have: no raft snapshot while that goes on, because each
    /// would hold all that the v2 API has.
    Requests,
}

impl Purpose {
    /// How many entries come before a raft snapshot. Also the mark of a server of this program.
    const fn snapshot_count(self) -> &'static str {
        match self {
            // At once. A server replays the log from the last snapshot on, and etcd 3.6 and 3.7
            // panic ("detected disallowed v2 WAL") when they replay entries that 3.4 wrote, such as
            // its health checks.
            Self::Upgrade => "1",
            Self::Requests => "1000000000",
        }
    }
}

/// Whether only a server of this program has this word in its command line.
pub fn is_mark(word: &str) -> bool {
    let counts = [Purpose::Upgrade, Purpose::Requests].map(Purpose::snapshot_count);
    word.strip_prefix("--snapshot-count=").is_some_and(|count| counts.contains(&count))
}

/// What is decided only when a server is started.
#[derive(Debug)]
pub struct Launch<'a> {
    pub purpose: Purpose,
    pub data_dir: &'a str,
    /// The directory of the log.
    pub wal_dir: &'a str,
    /// The port for clients, on loopback.
    pub port: u16,
    pub listen_peer_urls: &'a str,
}

/// How a server is started: its flags, and what it gets of the environment.
#[derive(Debug)]
pub struct ServerCommand {
    pub arguments: Vec<String>,
    /// Variables that are set. Of the caller's environment only those go along that `is_hidden`
    /// does not name.
    pub variables: Vec<(String, String)>,
    /// Settings of the operator that this version does without.
    pub left_out: Vec<LeftOutFlag>,
}

/// The command of a server. `environment` is that of the caller.
pub fn command(
    version: &EtcdVersion,
    member: &ServerOptions,
    launch: &Launch<'_>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> ServerCommand {
    let series = version.series();
    let extra = fitted_flags::arguments(&member.extra_arguments, series);
    let own = own_flags(version, member, launch);
    let flags = extra.flags.iter().map(|(name, value)| format!("--{name}={value}"));
    // Our own flags come last, because the last of two values counts: extra listeners for clients
    // must not replace the private one.
    let arguments = extra
        .words
        .iter()
        .cloned()
        .chain(flags)
        .chain(own.iter().map(|(name, value)| format!("--{name}={value}")));
    // From 3.4 on etcd refuses to start when both a flag and its variable are set.
    let is_set = |name: &str| {
        extra.flags.iter().any(|(flag, _)| flag == name)
            || own.iter().any(|(flag, _)| *flag == name)
    };
    let inherited = fitted_flags::variables(environment, series);
    let variable =
        |(name, value): (String, String)| (!is_set(&name)).then(|| (variable_of(&name), value));
    ServerCommand {
        arguments: arguments.collect(),
        variables: inherited.flags.into_iter().filter_map(variable).collect(),
        // A variable that does not count is no surprise: etcd itself only warns of it.
        left_out: extra.left_out,
    }
}

fn own_flags<'a>(
    version: &EtcdVersion,
    member: &'a ServerOptions,
    launch: &'a Launch<'_>,
) -> Vec<(&'static str, String)> {
    let client_url = format!("http://127.0.0.1:{}", launch.port);
    let own = [
        // 3.4 writes an older format unless told otherwise.
        ("logger", "zap"),
        ("log-level", "info"),
        ("log-outputs", "stderr"),
        ("name", member.name.as_str()),
        ("data-dir", launch.data_dir),
        ("wal-dir", launch.wal_dir),
        ("initial-cluster", &member.initial_cluster),
        ("listen-peer-urls", launch.listen_peer_urls),
        ("initial-advertise-peer-urls", &member.initial_advertise_peer_urls),
        ("snapshot-count", launch.purpose.snapshot_count()),
        // No quota, so that a migration never raises the NOSPACE alarm.
        ("quota-backend-bytes", "-1"),
        // Without TLS and on loopback, whatever the extra arguments say about TLS for clients.
        ("listen-client-urls", &client_url),
        ("advertise-client-urls", &client_url),
    ];
    // The v2 API takes values that are longer than those of the v3 API usually are.
    let for_requests = [
        ("enable-v2", "true"),
        ("enable-grpc-gateway", "true"),
        ("max-request-bytes", "33554432"),
        ("max-txn-ops", "128"),
    ];
    let has_requests = launch.purpose == Purpose::Requests;
    let own = own.into_iter().chain(for_requests.into_iter().filter(|_| has_requests));
    let facts = Facts::current();
    let known = own.filter(|(name, _)| {
        facts.flag(name).is_some_and(|flag| flag.is_known_to(version.series()))
    });
    known.map(|(name, value)| (name, value.to_owned())).collect()
}

/// Whether a variable of the caller does not reach the server as it is: those of flags are fitted
/// to its version first, and with a configuration file etcd ignores its flags.
pub fn is_hidden(variable: &str) -> bool {
    variable == "ETCD_UNSUPPORTED_ARCH" || flag_of_variable(variable).is_some()
}

/// The value of `ETCD_UNSUPPORTED_ARCH` that this version demands on this machine, if any.
pub fn unsupported_arch(version: &EtcdVersion, rust_arch: &str) -> Option<&'static str> {
    let goarch = match rust_arch {
        "x86_64" => "amd64",
        "powerpc64" => "ppc64le",
        "aarch64" => "arm64",
        "s390x" => "s390x",
        "arm" => "arm",
        "riscv64" => "riscv64",
        "loongarch64" => "loong64",
        "x86" => "386",
        _ => return None,
    };
    (!etcd_version::supports_architecture(version, goarch)).then_some(goarch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::Port;

    fn member(extra: &str) -> ServerOptions {
        ServerOptions {
            name: "n".to_owned(),
            port: Port::Given(1),
            initial_cluster: "n=http://localhost:2380".to_owned(),
            initial_cluster_token: None,
            listen_peer_urls: "http://localhost:2380".to_owned(),
            peer_port: None,
            initial_advertise_peer_urls: "http://localhost:2380".to_owned(),
            extra_arguments: extra.split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn line_for(purpose: Purpose, version: &str, extra: &str) -> String {
        let launch = Launch {
            purpose,
            data_dir: "/d",
            wal_dir: "/w",
            port: 18629,
            listen_peer_urls: "http://localhost:2380",
        };
        let version = version.parse().unwrap();
        command(&version, &member(extra), &launch, []).arguments.join(" ")
    }

    fn line(version: &str, extra: &str) -> String {
        line_for(Purpose::Upgrade, version, extra)
    }

    const COMMON: &str = "--logger=zap --log-level=info --log-outputs=stderr --name=n --data-dir=/d --wal-dir=/w --initial-cluster=n=http://localhost:2380 \
        --listen-peer-urls=http://localhost:2380 \
        --initial-advertise-peer-urls=http://localhost:2380 --snapshot-count=1 --quota-backend-bytes=-1 \
        --listen-client-urls=http://127.0.0.1:18629 --advertise-client-urls=http://127.0.0.1:18629";

    #[test]
    fn our_own_flags_come_last() {
        assert_eq!(line("3.4.27", ""), COMMON);
        assert_eq!(line("3.7.1", ""), COMMON);
        let extra = "--cert-file=/c --listen-client-urls=https://0.0.0.0:2379";
        assert_eq!(line("3.6.14", extra), format!("{extra} {COMMON}"));
    }

    #[test]
    fn a_server_for_requests_answers_both_apis_and_takes_long_ones() {
        let line = line_for(Purpose::Requests, "3.5.33", "--enable-grpc-gateway=false");
        let common = COMMON.replace("--snapshot-count=1 ", "--snapshot-count=1000000000 ");
        let more = "--enable-v2=true --enable-grpc-gateway=true --max-request-bytes=33554432 \
            --max-txn-ops=128";
        assert_eq!(line, format!("--enable-grpc-gateway=false {common} {more}"));
        assert!(line.split(' ').any(is_mark) && COMMON.split(' ').any(is_mark));
        assert!(!["--snapshot-count=10", "--enable-v2=true"].into_iter().any(is_mark));
    }

    #[test]
    fn extra_arguments_that_would_hide_the_server_are_left_out() {
        for (extra, expected) in [
            ("--listen-client-http-urls=http://0.0.0.0:1 --max-wals=5", "--max-wals=5 "),
            ("--host-whitelist example.com --max-wals 5", "--max-wals=5 "),
            ("-listen-metrics-urls http://0.0.0.0:1", ""),
            ("--enable-log-rotation --log-outputs=/x --log-rotation-config-json {}", ""),
            ("--enable-log-rotation=true --peer-cert-file /x", "--peer-cert-file=/x "),
            ("--pre-vote --discovery-srv x", "--pre-vote=true "),
        ] {
            assert_eq!(line("3.6.14", extra), format!("{expected}{COMMON}"));
        }
    }

    #[test]
    fn variables_of_flags_are_fitted_and_those_that_are_set_are_left_out() {
        let listen_peer_urls = "http://localhost:2380";
        let launch = Launch {
            purpose: Purpose::Upgrade,
            data_dir: "/d",
            wal_dir: "/w",
            port: 1,
            listen_peer_urls,
        };
        let member = member("--peer-cert-file /x --quota-backend-bytes=1");
        let environment = [
            ("ETCD_NAME", "other"),
            ("ETCD_DATA_DIR", "/other"),
            ("ETCD_LISTEN_CLIENT_URLS", "https://0.0.0.0:2379"),
            ("ETCD_QUOTA_BACKEND_BYTES", "8G"),
            ("ETCD_PEER_CERT_FILE", "/y"),
            ("ETCD_CONFIG_FILE", "/etc/etcd.yaml"),
            ("ETCD_WAL_DIR", "/wal"),
            ("ETCD_FORCE_NEW_CLUSTER", "true"),
            ("ETCD_DISCOVERY", "x"),
            ("ETCD_SNAPSHOT_COUNT", "10"),
            ("ETCD_HOST_WHITELIST", "x"),
            ("ETCD_MAX_WALS", "5"),
            ("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "5s"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let command = command(&"3.7.1".parse().unwrap(), &member, &launch, environment.clone());
        let set: Vec<_> =
            command.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(set, ["ETCD_MAX_WALS=5", "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL=5s"]);
        assert!(environment.iter().all(|(name, _)| is_hidden(name)));
        assert!(is_hidden("ETCD_UNSUPPORTED_ARCH"));
        assert!(!["PATH", "NAME", "ETCD_VERIFY", "GOMAXPROCS"].into_iter().any(is_hidden));
    }

    #[test]
    fn unsupported_machines_are_named_in_the_words_of_go() {
        for (version, machine, expected) in [
            ("3.4.27", "x86_64", None),
            ("3.4.27", "powerpc64", None),
            ("3.4.27", "aarch64", Some("arm64")),
            ("3.4.27", "s390x", Some("s390x")),
            ("3.5.33", "aarch64", None),
            ("3.7.1", "arm", Some("arm")),
            ("3.7.1", "riscv64", Some("riscv64")),
        ] {
            assert_eq!(unsupported_arch(&version.parse().unwrap(), machine), expected);
        }
    }
}
