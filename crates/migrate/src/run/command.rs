//! The command line and the environment of an etcd server, for each version. Starts nothing.

use etcd_version::EtcdVersion;

use crate::cli::etcd_flags;
use crate::cli::options::ServerOptions;

/// What is decided only when a server is started.
#[derive(Debug)]
pub struct Launch<'a> {
    pub data_dir: &'a str,
    /// The port for clients, on loopback.
    pub port: u16,
    pub listen_peer_urls: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Value,
    NoValue,
}

/// Flags that would take `/health` and `/version` away from the private listener, add listeners
/// elsewhere, or send the log to a place where this program does not read it.
const REMOVED_FLAGS: &[(&str, Takes)] = &[
    ("listen-client-http-urls", Takes::Value),
    ("listen-metrics-urls", Takes::Value),
    ("host-whitelist", Takes::Value),
    ("log-output", Takes::Value),
    ("log-outputs", Takes::Value),
    ("log-format", Takes::Value),
    ("log-package-levels", Takes::Value),
    ("log-rotation-config-json", Takes::Value),
    ("enable-log-rotation", Takes::NoValue),
    // They contradict `--initial-cluster`.
    ("discovery", Takes::Value),
    ("discovery-srv", Takes::Value),
    ("discovery-endpoints", Takes::Value),
    ("discovery-token", Takes::Value),
];

/// The arguments of an etcd server.
pub fn arguments(
    version: &EtcdVersion,
    member: &ServerOptions,
    launch: &Launch<'_>,
) -> Vec<String> {
    let client_url = format!("http://127.0.0.1:{}", launch.port);
    let logger = match version.minor() {
        0..4 => vec![],
        // 3.4 writes an older format unless told otherwise.
        _ => vec![("logger", "zap"), ("log-level", "info"), ("log-outputs", "stderr")],
    };
    let own = [
        ("name", member.name.as_str()),
        ("data-dir", launch.data_dir),
        ("initial-cluster", &member.initial_cluster),
        ("listen-peer-urls", launch.listen_peer_urls),
        ("initial-advertise-peer-urls", &member.initial_advertise_peer_urls),
        // Writes a raft snapshot at once. A server replays the log from the last snapshot on, and
        // etcd 3.6 and 3.7 panic ("detected disallowed v2 WAL") when they replay entries that 3.4
        // wrote, such as its health checks.
        ("snapshot-count", "1"),
        // Without TLS and on loopback, whatever the extra arguments say about TLS for clients.
        ("listen-client-urls", &client_url),
        ("advertise-client-urls", &client_url),
    ];
    let own = logger.into_iter().chain(own).map(|(name, value)| format!("--{name}={value}"));
    // Our own flags come last, because the last of two values counts: extra listeners for clients
    // must not replace the private one.
    wanted(&member.extra_arguments).cloned().chain(own).collect()
}

/// The extra arguments without those that are `REMOVED_FLAGS`.
fn wanted(extra: &[String]) -> impl Iterator<Item = &String> {
    let mut is_value = false;
    extra.iter().filter(move |argument| {
        if std::mem::take(&mut is_value) {
            return false;
        }
        let Some((name, value)) = etcd_flags::parse(argument) else { return true };
        let Some((_, takes)) = REMOVED_FLAGS.iter().find(|(known, _)| *known == name) else {
            return true;
        };
        is_value = *takes == Takes::Value && value.is_none();
        false
    })
}

/// Whether an environment variable must not reach the server.
///
/// From 3.4 on etcd refuses to start when both a flag and its variable are set, and this program
/// itself reads `ETCD_NAME`.
pub fn is_hidden(variable: &str, arguments: &[String]) -> bool {
    // With a configuration file etcd ignores its flags.
    if variable == "ETCD_CONFIG_FILE" || variable == "ETCD_UNSUPPORTED_ARCH" {
        return true;
    }
    let Some(name) = variable.strip_prefix("ETCD_") else { return false };
    let flag = name.to_ascii_lowercase().replace('_', "-");
    let moves_data = flag == "wal-dir" || flag == "force-new-cluster";
    let mut flags = arguments.iter().filter_map(|argument| etcd_flags::parse(argument));
    moves_data
        || flag == "debug"
        || flags.any(|(known, _)| known == flag)
        || REMOVED_FLAGS.iter().any(|(known, _)| *known == flag)
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

    fn line(version: &str, extra: &str) -> String {
        let launch =
            Launch { data_dir: "/d", port: 18629, listen_peer_urls: "http://localhost:2380" };
        arguments(&version.parse().unwrap(), &member(extra), &launch).join(" ")
    }

    const COMMON: &str = "--name=n --data-dir=/d --initial-cluster=n=http://localhost:2380 \
        --listen-peer-urls=http://localhost:2380 \
        --initial-advertise-peer-urls=http://localhost:2380 --snapshot-count=1 \
        --listen-client-urls=http://127.0.0.1:18629 --advertise-client-urls=http://127.0.0.1:18629";

    #[test]
    fn each_version_gets_flags_it_knows() {
        let logger = "--logger=zap --log-level=info --log-outputs=stderr";
        assert_eq!(line("3.3.25", ""), COMMON);
        assert_eq!(line("3.4.27", ""), format!("{logger} {COMMON}"));
        assert_eq!(line("3.7.1", ""), format!("{logger} {COMMON}"));
    }

    #[test]
    fn the_private_client_listener_wins_over_extra_ones() {
        let actual = line("3.3.25", "--cert-file=/c --listen-client-urls=https://0.0.0.0:2379");
        let extra = "--cert-file=/c --listen-client-urls=https://0.0.0.0:2379";
        assert_eq!(actual, format!("{extra} {COMMON}"));
    }

    #[test]
    fn extra_arguments_that_would_hide_the_server_are_left_out() {
        for (extra, expected) in [
            ("--listen-client-http-urls=http://0.0.0.0:1 --max-wals=5", "--max-wals=5 "),
            ("--host-whitelist example.com --max-wals 5", "--max-wals 5 "),
            ("-listen-metrics-urls http://0.0.0.0:1", ""),
            ("--enable-log-rotation --log-outputs=/x --log-rotation-config-json {}", ""),
            ("--enable-log-rotation=true --peer-cert-file /x", "--peer-cert-file /x "),
            ("--pre-vote --discovery-srv", "--pre-vote "),
        ] {
            assert_eq!(line("3.3.25", extra), format!("{expected}{COMMON}"));
        }
    }

    #[test]
    fn variables_that_clash_with_flags_are_hidden() {
        let arguments = arguments(
            &"3.6.14".parse().unwrap(),
            &member("--peer-cert-file /x --quota-backend-bytes=1"),
            &Launch { data_dir: "/d", port: 1, listen_peer_urls: "http://localhost:2380" },
        );
        for (variable, expected) in [
            ("ETCD_NAME", true),
            ("ETCD_DATA_DIR", true),
            ("ETCD_LISTEN_CLIENT_URLS", true),
            ("ETCD_QUOTA_BACKEND_BYTES", true),
            ("ETCD_PEER_CERT_FILE", true),
            ("ETCD_CONFIG_FILE", true),
            ("ETCD_UNSUPPORTED_ARCH", true),
            ("ETCD_WAL_DIR", true),
            ("ETCD_FORCE_NEW_CLUSTER", true),
            ("ETCD_DISCOVERY", true),
            ("ETCD_SNAPSHOT_COUNT", true),
            ("ETCD_DISCOVERY_SRV", true),
            ("ETCD_LISTEN_CLIENT_HTTP_URLS", true),
            ("ETCD_HOST_WHITELIST", true),
            ("ETCD_LISTEN_METRICS_URLS", true),
            ("ETCD_ENABLE_LOG_ROTATION", true),
            ("ETCD_LOG_OUTPUTS", true),
            ("ETCD_MAX_WALS", false),
            ("PATH", false),
            ("NAME", false),
        ] {
            assert_eq!(is_hidden(variable, &arguments), expected, "{variable}");
        }
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
