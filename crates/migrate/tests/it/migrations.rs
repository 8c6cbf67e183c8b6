//! Migrations with real servers, up and down, of the data that people have.

use std::fs;
use std::process::Command;

use crate::directory::{Directory, free_port, outcome};
use crate::etcd::{Real, amount, minor, real, side_by_side};
use crate::events::{goes_by_snapshot, plan};
use crate::require::require;

fn pairs(real: &Real) -> Vec<(&str, &str)> {
    let versions: Vec<_> = real.versions.values().map(String::as_str).collect();
    let with_later = |(index, from)| versions[index + 1..].iter().map(move |to| (from, *to));
    versions.iter().copied().enumerate().flat_map(with_later).collect()
}

#[test]
#[ignore = "needs etcd servers"]
fn every_upgrade_keeps_every_key_lease_and_revision() {
    let real = real();
    side_by_side(&pairs(real), |(from, to)| {
        let seed = real.seed(from);
        let events = real.migrate(&seed.directory, to, &[]);
        let is_far = minor(to) > minor(from) + 1;
        assert_eq!(events.made_a_copy(), is_far, "{from} {to}: {events:?}");
        assert_eq!(!events.started().is_empty(), is_far, "{from} {to}: {events:?}");
        // A container that starts again before its etcd has taken over.
        let events = real.migrate(&seed.directory, to, &[]);
        assert!(events.started().is_empty() && !events.made_a_copy(), "{events:?}");
        real.check(&seed.directory, to, &seed.contents);
        println!("{from} -> {to}");
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn every_downgrade_keeps_every_key_lease_and_revision() {
    let real = real();
    // The longest first.
    let mut pairs = pairs(real);
    pairs.sort_by_key(|(to, from)| minor(to).cmp(&minor(from)));
    side_by_side(&pairs, |(to, from)| {
        let seed = real.seed(from);
        real.migrate(&seed.directory, to, &["--allow-multi-step-downgrade"]);
        real.check(&seed.directory, to, &seed.contents);
        // And up again, with what the downgrade left behind.
        real.migrate(&seed.directory, from, &[]);
        println!("{from} -> {to}");
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn data_of_the_distributions_goes_to_every_bundled_version() {
    let real = real();
    let sources = real.debian();
    side_by_side(&sources, |from| {
        let seed = real.seed(from);
        let targets: Vec<_> =
            real.versions.values().filter(|to| minor(to) >= minor(from)).collect();
        for to in targets {
            let directory = seed.copy();
            // Without version.txt, as its user never had it.
            assert_eq!(directory.version(), "");
            let plan = plan(&mut directory.command(to, &real.bin_dir));
            assert_eq!(plan["from"]["witness"], "data", "{plan}");
            real.migrate(&directory, to, &[]);
            real.check(&directory, to, &seed.contents);
            println!("Debian's {from} -> {to}");
        }
        if let Some(to) = real.versions.get(&(minor(from) - 1)) {
            let directory = seed.copy();
            let plan = plan(&mut directory.command(to, &real.bin_dir));
            assert!(goes_by_snapshot(&plan), "{plan}");
            real.migrate(&directory, to, &[]);
            real.check(&directory, to, &seed.contents);
            println!("Debian's {from} -> {to}");
        }
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn a_database_at_its_quota_is_upgraded() {
    let real = real();
    let (lowest, highest) = real.ends();
    let directory = Directory::new();
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let arguments = [
        "--quota-backend-bytes=1".to_owned(),
        format!("--listen-client-urls={endpoint}"),
        format!("--advertise-client-urls={endpoint}"),
        format!("--listen-peer-urls=http://127.0.0.1:{}", free_port()),
    ];
    let etcd = real.spawn(&directory, lowest, &endpoint, &arguments).ready(&directory);
    // The database is larger than its quota from the start, and the first to write is told.
    assert!(etcd.try_run(&["put", "/registry/key", "value"]).is_none());
    assert!(etcd.run(&["alarm", "list"]).contains("NOSPACE"));
    drop(etcd);
    real.migrate(&directory, highest, &["--start-timeout=1m"]);
    let etcd = real.start(&directory, highest);
    assert!(etcd.run(&["alarm", "list"]).contains("NOSPACE"));
}

#[test]
#[ignore = "needs etcd servers"]
fn the_plan_of_a_downgrade_says_what_it_drops() {
    let real = real();
    let [oldest, older, newer] = [4, 5, 6].map(|minor| real.version(minor));
    let seed = real.seed(newer);
    let mut command = seed.directory.command(oldest, &real.bin_dir);
    command.args(["--plan", "--allow-multi-step-downgrade"]);
    let (code, plan, stderr) = outcome(&command.output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    let in_place =
        format!("start etcd {newer}, let it downgrade the data to 3.5, stop it; nothing is lost\n");
    let by_snapshot = format!(
        "start and stop etcd {older}, restore its database with the tools of {oldest}; keys, \
         leases, users and revisions stay, the raft log and the cluster's ids are new\n"
    );
    assert!(plan.contains(&in_place) && plan.contains(&by_snapshot), "{plan}");
}

#[test]
#[ignore = "needs etcd servers"]
fn many_keys_and_leases_survive_the_longest_way_up_and_down() {
    let real = real();
    let (lowest, highest) = real.ends();
    let keys = amount("ETCDIMG_REAL_KEYS", 10_000);
    let seed = real.seed_with(lowest, keys);
    real.migrate(&seed.directory, highest, &[]);
    let etcd = real.start(&seed.directory, highest);
    assert_eq!(etcd.contents(), seed.contents);
    drop(etcd);
    real.migrate(&seed.directory, lowest, &["--allow-multi-step-downgrade"]);
    real.check(&seed.directory, lowest, &seed.contents);
    println!("{keys} keys: {lowest} -> {highest} -> {lowest}");
}

#[test]
#[ignore = "needs etcd servers"]
fn data_without_version_file_is_adopted_and_a_false_one_is_an_error() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = &seed.directory;
    fs::write(directory.path("data/version.txt"), format!("{highest}/etcd3")).unwrap();
    let mut command = directory.command(highest, &real.bin_dir);
    let (code, _, stderr) = outcome(&command.output().unwrap());
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains(&format!("version.txt says etcd {highest}, but the data")), "{stderr}");
    fs::remove_file(directory.path("data/version.txt")).unwrap();
    let plan = plan(&mut directory.command(highest, &real.bin_dir));
    assert_eq!(plan["from"]["witness"], "data", "{plan}");
    real.migrate(directory, highest, &[]);
    real.check(directory, highest, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers"]
fn authentication_does_not_stop_a_migration_in_either_direction() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let (directory, contents) = (&seed.directory, &seed.contents);
    let etcd = real.start(directory, lowest);
    etcd.run(&["user", "add", "root:secret"]);
    etcd.run(&["role", "add", "root"]);
    etcd.run(&["user", "grant-role", "root", "root"]);
    etcd.run(&["auth", "enable"]);
    drop(etcd);
    let check = |version: &str| {
        let mut etcd = real.start(directory, version);
        assert!(etcd.try_run(&["get", "/registry/2"]).is_none(), "{version} lets everyone in");
        etcd.credentials = vec!["--user=root:secret".to_owned()];
        assert_eq!(&etcd.contents(), contents, "{version}");
    };
    // etcd 3.7 goes back only with credentials.
    let highest = real.versions.range(..=6).next_back().map_or(highest, |(_, version)| version);
    real.migrate(directory, highest, &[]);
    check(highest);
    real.migrate(directory, lowest, &["--allow-multi-step-downgrade"]);
    check(lowest);
}

#[test]
#[ignore = "needs etcd servers"]
fn a_database_gives_back_what_it_does_not_use() {
    let real = real();
    for (from, to) in [(4, 6), (5, 4)] {
        let [from, to] = [from, to].map(|minor| real.version(minor));
        let seed = real.seed(from);
        let etcd = real.start(&seed.directory, from);
        let value = "x".repeat(100_000);
        for _ in 0..40 {
            etcd.run(&["put", "/registry/large", &value]);
        }
        etcd.run(&["del", "/registry/large"]);
        let revision = etcd.contents();
        let revision = revision.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        etcd.run(&["compact", revision]);
        let contents = etcd.contents();
        drop(etcd);
        let events = real.migrate(&seed.directory, to, &["--defrag"]);
        let [before, after] =
            ["bytesBefore", "bytesAfter"].map(|field| events.count("defragmented", field));
        assert!(after * 4 < before, "{before} to {after} bytes");
        real.check(&seed.directory, to, &contents);
    }
}

/// A certificate for 127.0.0.1 that is its own authority, as upstream's tests had one.
pub fn make_certificate(directory: &Directory) -> bool {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=m"]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]);
    command.arg("-keyout").arg(directory.path("key.pem"));
    command.arg("-out").arg(directory.path("cert.pem"));
    command.output().is_ok_and(|output| output.status.success())
}

/// The flags that manifests of the old image put into `ETCD_CREDS`.
pub fn peer_flags(directory: &Directory) -> String {
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.path(name));
    let [certificate, key] = [certificate.display(), key.display()];
    format!(
        "--peer-client-cert-auth --peer-trusted-ca-file={certificate} \
         --peer-cert-file={certificate} --peer-key-file={key}"
    )
}

#[test]
#[ignore = "needs etcd servers and openssl"]
fn what_manifests_pass_on_does_not_stop_a_migration_in_either_direction() {
    let real = real();
    require(&["openssl", "version"]);
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let certificates = Directory::new();
    assert!(make_certificate(&certificates));
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| certificates.path(name));
    let client_tls = format!(
        "--cert-file={} --key-file={} --client-cert-auth --trusted-ca-file={0}",
        certificate.display(),
        key.display()
    );
    let urls = |scheme| format!("{scheme}://127.0.0.1:{},{scheme}://[::1]:0", free_port());
    let cases = [
        format!("{client_tls} --listen-client-urls={}", urls("https")),
        format!(
            "--listen-client-urls=http://127.0.0.1:{},http://127.0.0.2:{} \
             --advertise-client-urls=http://127.0.0.1:1,http://127.0.0.2:2",
            free_port(),
            free_port()
        ),
        format!("{} --quota-backend-bytes=4294967296", peer_flags(&certificates)),
        // Nobody but clients of that name would be answered, and nobody would answer over HTTP.
        format!(
            "--host-whitelist=example.com --listen-client-http-urls=http://127.0.0.1:{}",
            free_port()
        ),
    ];
    side_by_side(&cases, |extra| {
        let directory = seed.copy();
        let migrate = |to: &str| {
            let mut command = directory.command(to, &real.bin_dir);
            command.env("ETCD_CREDS", extra).arg("--allow-multi-step-downgrade");
            // As a pod whose etcd is set up by variables has them.
            command.env("ETCD_HOST_WHITELIST", "example.com");
            command.env("ETCD_LISTEN_CLIENT_HTTP_URLS", "http://127.0.0.1:1");
            command.env("ETCD_LISTEN_METRICS_URLS", "http://127.0.0.1:1");
            command.env("ETCD_ENABLE_LOG_ROTATION", "true");
            command.env("ETCD_LOG_OUTPUTS", "/no/such/file");
            if extra.contains("--peer-cert-file") {
                let url = format!("https://127.0.0.1:{}", free_port());
                command.env("LISTEN_PEER_URLS", url);
            }
            crate::etcd::succeed(&directory, &mut command, to);
        };
        migrate(highest);
        let etcd = real.start(&directory, highest);
        assert_eq!(etcd.contents(), seed.contents);
        drop(etcd);
        migrate(lowest);
        real.check(&directory, lowest, &seed.contents);
        println!("with {}: up and down", extra.split('=').next().unwrap());
    });
}
