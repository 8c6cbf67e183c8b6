//! Tables of flags and variables, and what they mean.

use std::ffi::OsString;

use super::*;
use crate::cli::arguments;
use crate::error::MigrateErrorKind;

const REQUIRED: &str = "HOSTNAME=h DATA_DIRECTORY=/d TARGET_VERSION=3.6.14 TARGET_STORAGE=etcd3";

fn parse(line: &str, environment: &str) -> Result<Options, MigrateError> {
    let arguments = Arguments::parse(line.split_whitespace().map(OsString::from)).unwrap();
    let pairs: Vec<_> =
        environment.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
    let environment = |name: &str| {
        pairs.iter().rfind(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    };
    OptionReader { arguments: &arguments, environment: &environment }.options()
}

#[track_caller]
fn options(line: &str, environment: &str) -> Options {
    parse(line, &format!("{REQUIRED} {environment}")).unwrap()
}

#[track_caller]
fn error(line: &str, environment: &str) -> String {
    let failure = parse(line, environment).unwrap_err();
    assert_eq!(failure.kind, MigrateErrorKind::Usage);
    failure.cause
}

#[test]
fn a_flag_beats_a_variable_and_an_empty_variable_is_unset() {
    for (line, environment, expected) in [
        ("", "", "etcd-h"),
        ("", "ETCD_HOSTNAME=host", "etcd-host"),
        ("", "ETCD_HOSTNAME= ETCD_NAME=", "etcd-h"),
        ("", "ETCD_HOSTNAME=host ETCD_NAME=name", "name"),
        ("--name flag", "ETCD_NAME=name", "flag"),
        ("--name=", "ETCD_NAME=name", "name"),
    ] {
        assert_eq!(options(line, environment).member.name, expected, "{line} {environment}");
    }
}

#[test]
fn the_directory_of_the_log_is_what_etcd_is_told() {
    let own = Path::new("/d/member/wal");
    for (line, environment, expected) in [
        ("", "", own),
        ("", "ETCD_WAL_DIR=", own),
        ("", "ETCD_WAL_DIR=/v", Path::new("/v")),
        ("--etcd-server-extra-args=--wal-dir=/e", "ETCD_WAL_DIR=/v", Path::new("/e")),
        ("--wal-dir=/f --etcd-server-extra-args=--wal-dir=/e", "ETCD_WAL_DIR=/v", Path::new("/f")),
        ("--wal-dir=", "ETCD_CREDS=-wal-dir=/e", Path::new("/e")),
    ] {
        assert_eq!(options(line, environment).layout.wal, expected, "{line} {environment}");
    }
}

#[test]
fn every_variable_of_the_old_image_is_read() {
    let options = options(
        "",
        "DATA_DIRECTORY=/var/data-events/ TARGET_VERSION=3.5.33 ETCD_NAME=n \
         LISTEN_PEER_URLS=https://0.0.0.0:2380 INITIAL_ADVERTISE_PEER_URLS=https://h:2380 \
         INITIAL_CLUSTER=n=https://h:2380,m=https://m:2380 ETCD_CREDS=--peer-client-cert-auth \
         LISTEN_CLIENT_URLS=http://127.0.0.1:2379 DO_NOT_MOVE_BINARIES=true",
    );
    assert_eq!(options.data_dir, Path::new("/var/data-events"));
    assert_eq!(options.target.to_string(), "3.5.33/etcd3");
    assert_eq!(options.member.listen_peer_urls, "https://0.0.0.0:2380");
    assert_eq!(options.member.initial_advertise_peer_urls, "https://h:2380");
    assert_eq!(options.member.initial_cluster, "n=https://h:2380,m=https://m:2380");
    assert_eq!(options.member.extra_arguments, ["--peer-client-cert-auth"]);
    assert_eq!(options.plain_binaries, PlainBinaries::Leave);
    assert_eq!(options.ignored, ["listen-client-urls"]);
}

#[test]
fn defaults_are_those_of_the_old_image() {
    let options = options("", "DO_NOT_MOVE_BINARIES=True");
    assert_eq!(options.bin_dir, Path::new("/usr/local/bin"));
    assert_eq!(options.member.port, Port::Preferred(18629));
    assert_eq!(options.member.initial_cluster, "etcd-h=http://localhost:2380");
    assert_eq!(options.member.listen_peer_urls, "http://localhost:2380");
    assert_eq!(options.member.initial_advertise_peer_urls, "http://localhost:2380");
    assert_eq!(options.plain_binaries, PlainBinaries::Replace);
    assert_eq!(options.bundled, None);
}

#[test]
fn the_last_path_component_chooses_the_ports() {
    for (path, port, peer_port) in [
        ("/var/etcd/data", 18629, 2380),
        ("/var/etcd/data-events", 18631, 2381),
        ("/var/etcd/data-events/", 18631, 2381),
        ("/events", 18631, 2381),
        ("/srv/eventual/data", 18629, 2380),
        ("/srv/events/data", 18629, 2380),
        ("/srv/eventual", 18629, 2380),
    ] {
        let options = options(&format!("--data-dir {path}"), "");
        assert_eq!(options.member.port, Port::Preferred(port), "{path}");
        let peer_url = format!("http://localhost:{peer_port}");
        assert_eq!(options.member.listen_peer_urls, peer_url, "{path}");
    }
    assert_eq!(options("--port 7 --peer-port 8", "").member.port, Port::Given(7));
    assert_eq!(
        options("--port 7 --peer-port 8", "").member.initial_cluster,
        "etcd-h=http://localhost:8"
    );
}

#[test]
fn the_token_of_the_cluster_is_found_where_etcd_would_find_it() {
    for (line, environment, expected) in [
        ("", "", None),
        ("", "ETCD_INITIAL_CLUSTER_TOKEN=v", Some("v")),
        ("", "ETCD_CREDS=--initial-cluster-token=c ETCD_INITIAL_CLUSTER_TOKEN=v", Some("c")),
        ("", "ETCD_CREDS=-initial-cluster-token=c INITIAL_CLUSTER_TOKEN=i", Some("i")),
        ("--initial-cluster-token f", "INITIAL_CLUSTER_TOKEN=i", Some("f")),
    ] {
        let actual = options(line, environment).member.initial_cluster_token;
        assert_eq!(actual.as_deref(), expected, "{line} {environment}");
    }
}

#[test]
fn content_of_the_v2_api_is_refused_unless_somebody_says_otherwise() {
    for (line, environment, expected) in [
        ("", "", V2Content::Refuse),
        ("", "V2_CONTENT=drop", V2Content::Drop),
        ("--v2-content=convert", "V2_CONTENT=drop", V2Content::Convert),
        ("--v2-content refuse", "V2_CONTENT=drop", V2Content::Refuse),
    ] {
        let actual = options(line, environment).allowed.v2_content;
        assert_eq!(actual, expected, "{line} {environment}");
    }
}

#[test]
fn only_a_peer_port_that_nobody_chose_may_be_another() {
    for (line, environment, expected) in [
        ("", "", Some(2380)),
        ("--data-dir /events --peer-port 0", "", Some(2381)),
        ("--peer-port 2380", "", None),
        ("", "LISTEN_PEER_URLS=http://localhost:2380", None),
        ("", "INITIAL_ADVERTISE_PEER_URLS=http://h:2380", Some(2380)),
    ] {
        assert_eq!(options(line, environment).member.peer_port, expected, "{line} {environment}");
    }
}

#[test]
fn what_is_missing_is_named_in_the_old_words() {
    let all = "DATA_DIRECTORY=/d TARGET_VERSION=3.6.14 TARGET_STORAGE=etcd3";
    assert_eq!(
        error("", all),
        "defaulting --name failed due to all ETCD_NAME, ETCD_HOSTNAME and HOSTNAME unset"
    );
    for name in ["DATA_DIRECTORY", "TARGET_VERSION", "TARGET_STORAGE"] {
        let environment = format!("{REQUIRED} {name}=");
        assert_eq!(
            error("", &environment),
            format!("{name} variable unset - expected failure"),
            "{name}"
        );
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    for (line, expected) in [
        (
            "--target-version 3.6",
            "--target-version: `3.6` is not an etcd version, for example `3.6.14`",
        ),
        ("--target-storage etcd4", "--target-storage: unrecognized storage version: etcd4"),
        ("--port x", "--port `x` is not a port"),
        ("--port 65536", "--port `65536` is not a port"),
        (
            "--bundled-versions 3.4.27,next",
            "failed to parse --bundled-versions: `next` is not an etcd version, for example `3.6.14`",
        ),
        ("--trust both", "--trust is `data` or `file`, not `both`"),
        ("--v2-content keep", "--v2-content is `refuse`, `drop` or `convert`, not `keep`"),
        ("--backup-retain 0", "--backup-retain `0` is not a number above 0"),
        (
            "--start-timeout soon",
            "--start-timeout `soon` is not a time, for example `90s` or `15m`",
        ),
        ("--start-timeout 0s", "--start-timeout `0s` is not a time, for example `90s` or `15m`"),
        ("--data-dir-mode 0999", "--data-dir-mode `0999` is not a mode such as `0700`"),
        ("--data-dir-mode 0077", "--data-dir-mode `0077` is not a mode such as `0700`"),
        ("--data-dir /", "--data-dir / has no name of its own"),
        (
            "--etcd-server-extra-args '--cert-file",
            "--etcd-server-extra-args (ETCD_CREDS): a quote is not closed: '",
        ),
    ] {
        assert_eq!(error(line, REQUIRED), expected);
    }
}

#[cfg(unix)]
#[test]
fn text_that_is_not_utf_8_is_refused_by_its_name() {
    use std::os::unix::ffi::OsStringExt;

    let bad = OsString::from_vec(b"a\xff".to_vec());
    let read = |line: &[&str], variable: &str| {
        let mut line: Vec<_> = line.iter().map(OsString::from).collect();
        if variable.is_empty() {
            line.last_mut().unwrap().push(&bad);
        }
        let arguments = Arguments::parse(line).unwrap();
        let environment = |name: &str| match name {
            name if name == variable => Some(bad.clone()),
            "TARGET_VERSION" => Some("3.6.14".into()),
            "TARGET_STORAGE" => Some("etcd3".into()),
            "DATA_DIRECTORY" | "HOSTNAME" => Some("/d".into()),
            _ => None,
        };
        let reader = OptionReader { arguments: &arguments, environment: &environment };
        reader.options().map_err(|failure| failure.cause)
    };
    assert_eq!(read(&["--name="], "").unwrap_err(), "--name is not UTF-8: a\u{fffd}");
    assert_eq!(read(&["--backup-dir=/"], "").unwrap_err(), "--backup-dir is not UTF-8: /a\u{fffd}");
    assert_eq!(read(&[], "DATA_DIRECTORY").unwrap_err(), "--data-dir is not UTF-8: a\u{fffd}");
    assert_eq!(read(&[], "ETCD_NAME").unwrap_err(), "ETCD_NAME is not UTF-8: a\u{fffd}");
    assert_eq!(read(&["--bin-dir=/"], "").unwrap().bin_dir.as_os_str().len(), 3);
}

#[test]
fn times_have_units() {
    for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7200), ("30", 30)] {
        assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "s", "-1s", "1d", "99999999999999999999h", "9999999h"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}

#[test]
fn every_flag_and_variable_is_in_the_help_and_in_the_manual() {
    let help = include_str!("help.txt");
    let manual = include_str!("../../../../docs/migrate.md");
    for flag in arguments::names() {
        assert!(help.contains(&format!("--{flag}")), "--{flag} is not in the help");
        assert!(
            manual.contains(&format!("| `--{flag}`")) || manual.contains(&format!(", `--{flag}`")),
            "--{flag} is not in the manual"
        );
    }
    let words = help.split(|character: char| !character.is_ascii_uppercase() && character != '_');
    let variables: Vec<_> = words.filter(|word| word.contains('_') && word.len() > 2).collect();
    assert!(variables.len() > 12, "{variables:?}");
    for variable in variables {
        assert!(manual.contains(&format!("{variable}`")), "{variable} is not in the manual");
    }
}
