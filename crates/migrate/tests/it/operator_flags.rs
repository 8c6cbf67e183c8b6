//! Settings that operators really have, some of which a version on the way does not know.

use std::process::Command;

use crate::directory::{Directory, free_port, outcome};
use crate::etcd::{real, side_by_side, succeed};
use crate::kills::backups;

/// Who starts etcd like this, its extra arguments, and its variables.
struct OperatorSettings {
    who: &'static str,
    arguments: &'static str,
    variables: &'static [(&'static str, &'static str)],
}

const SETTINGS: &[OperatorSettings] = &[
    OperatorSettings {
        who: "kubeadm 1.31 to 1.33",
        arguments: "--experimental-initial-corrupt-check=true \
            --experimental-watch-progress-notify-interval=5s --snapshot-count=10000",
        variables: &[],
    },
    OperatorSettings {
        who: "kubeadm 1.34 to 1.37",
        arguments: "--feature-gates=InitialCorruptCheck=true --watch-progress-notify-interval=5s \
            --snapshot-count=10000",
        variables: &[],
    },
    OperatorSettings {
        who: "GCE's manifest",
        arguments: "--quota-backend-bytes=4294967296 --max-wals=5 --logger=zap \
            --experimental-peer-skip-client-san-verification=true",
        variables: &[("ETCD_ELECTION_TIMEOUT", "1000"), ("ETCD_HEARTBEAT_INTERVAL", "100")],
    },
    OperatorSettings {
        who: "k3s",
        arguments: "--heartbeat-interval=500 --election-timeout=5000 --log-outputs=stderr \
            --snapshot-count=10000 --experimental-initial-corrupt-check=true \
            --listen-metrics-urls=http://127.0.0.1:1",
        variables: &[],
    },
    OperatorSettings {
        who: "Bitnami's chart",
        arguments: "",
        variables: &[
            ("ETCD_ENABLE_V2", "false"),
            ("ETCD_AUTO_COMPACTION_MODE", "revision"),
            ("ETCD_AUTO_COMPACTION_RETENTION", "1000"),
            ("ETCD_LOG_LEVEL", "info"),
            ("ETCD_INITIAL_CLUSTER_STATE", "existing"),
        ],
    },
    OperatorSettings {
        who: "etcdadm",
        arguments: "",
        variables: &[
            ("ETCD_INITIAL_CLUSTER_STATE", "new"),
            ("ETCD_STRICT_RECONFIG_CHECK", "true"),
            ("ETCD_DEBUG", "false"),
            ("ETCD_PROXY", "off"),
        ],
    },
    OperatorSettings {
        who: "old and new spellings at once",
        arguments: "--debug --enable-v2=false --max-learners=3 --v2-deprecation=write-only \
            --proxy=off --experimental-compaction-batch-limit=500",
        variables: &[
            ("ETCD_FEATURE_GATES", "InitialCorruptCheck=true"),
            ("ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", "true"),
            ("ETCD_V2_DEPRECATION", "write-only"),
            ("ETCD_QUOTA_BACKEND_BYTES", "8589934592"),
        ],
    },
];

impl OperatorSettings {
    fn set<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("ETCD_CREDS", self.arguments).envs(self.variables.iter().copied())
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn settings_of_operators_go_up_and_down() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed_with(lowest, 10);
    side_by_side(SETTINGS, |settings| {
        let directory = seed.copy();
        for to in [highest, lowest] {
            let mut command = directory.command(to, &real.bin_dir);
            command.arg("--allow-multi-step-downgrade");
            succeed(&directory, settings.set(&mut command), to);
        }
        real.check(&directory, lowest, &seed.contents);
        println!("{}: up to {highest} and back", settings.who);
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn a_setting_that_a_version_does_not_know_is_left_out_with_its_reason() {
    let real = real();
    let seed = real.seed_with(real.version(4), 10);
    let to = real.version(6);
    let mut command = seed.directory.command(to, &real.bin_dir);
    command.env("ETCD_CREDS", "--max-learners=3 --no-such-flag=1");
    let events = succeed(&seed.directory, &mut command, to);
    let left_out = events.messages("left-out");
    let served = real.version(5);
    for line in [
        format!("etcd {served} runs without --max-learners: only etcd 3.6 and later know it"),
        format!(
            "etcd {served} runs without --no-such-flag: no known version of etcd has this flag"
        ),
    ] {
        assert!(left_out.contains(&line.as_str()), "{events:?}");
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn what_would_move_data_or_change_the_cluster_is_refused_at_once() {
    let real = real();
    let seed = real.seed_with(real.version(4), 10);
    for flag in ["--force-new-cluster", "--data-dir /x", "--config-file=/x"] {
        let mut command = seed.directory.command(real.version(6), &real.bin_dir);
        let (code, _, stderr) = outcome(&command.env("ETCD_CREDS", flag).output().unwrap());
        assert_eq!(code, Some(2), "{flag}: {stderr}");
        assert!(!seed.directory.path("data.bak").exists());
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn a_migration_raises_no_alarm() {
    let real = real();
    let (lowest, highest) = real.ends();
    let directory = Directory::new();
    succeed(&directory, &mut directory.command(lowest, &real.bin_dir), lowest);
    let etcd = real.start(&directory, lowest);
    let value = "x".repeat(100_000);
    for number in 0..100 {
        etcd.run(&["put", &format!("/registry/{number}"), &value]);
    }
    // What is in the log only is put again by the next server, which would then ask for its quota.
    etcd.kill();
    let mut command = directory.command(highest, &real.bin_dir);
    command.env("ETCD_QUOTA_BACKEND_BYTES", "1000000");
    succeed(&directory, &mut command, highest);
    let etcd = real.start(&directory, highest);
    assert_eq!(etcd.run(&["alarm", "list"]), "");
    etcd.run(&["put", "/registry/more", "x"]);
}

#[test]
#[ignore = "needs etcd servers"]
fn copies_and_places_of_somebody_else_are_left_alone() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed_with(lowest, 10);
    let directory = &seed.directory;
    let copies = ["2026-10-01T10:00:00+00:00", "2026-10-02T10:00:00+00:00"];
    for name in copies {
        directory.write(&format!("data.bak/{name}/member/snap/db"), b"of the operator");
    }
    directory.write("data/member/snap/tmp158215125", b"half");
    let within = directory.path("data/member/backup");
    let mut command = directory.command(highest, &real.bin_dir);
    let (code, _, stderr) = outcome(&command.arg("--backup-dir").arg(&within).output().unwrap());
    assert_eq!(code, Some(2), "{stderr}");
    // A port that somebody else has is not needed by the only member.
    let taken = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let mut command = directory.command(highest, &real.bin_dir);
    let events = succeed(directory, command.env("LISTEN_PEER_URLS", url), highest);
    assert!(events.made_a_copy() && !events.has("retain"), "{events:?}");
    // What etcd would remove at its start is not in the copy that was made.
    let ours = backups(directory).into_iter().filter(|path| path.join("data-directory").exists());
    let ours: Vec<_> = ours.collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert!(ours[0].join("member/snap/db").exists());
    assert!(!ours[0].join("member/snap/tmp158215125").exists());
    for name in copies {
        let path = directory.path(&format!("data.bak/{name}/member/snap/db"));
        assert_eq!(std::fs::read(path).unwrap(), b"of the operator");
    }
    real.check(directory, highest, &seed.contents);
}
