//! The table of etcd's flags against real etcds of every minor version.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use etcd_version::facts::Replacement;
use etcd_version::{EtcdVersion, Facts};

use crate::etcd::real;

/// etcd reads its flags before it prints its version, and starts no server then.
fn etcd(version: &str, arguments: &[&str]) -> Output {
    Command::new(real().bin_dir.join(format!("etcd-{version}"))).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(bytes).unwrap()
}

#[test]
#[ignore = "needs etcd servers"]
fn every_version_takes_the_flags_that_it_knows_and_no_others() {
    let facts = Facts::compiled_in();
    let mut wrong = Vec::new();
    for version in real().versions.values() {
        let series = version.parse::<EtcdVersion>().unwrap().series();
        for flag in facts.flags() {
            let argument = format!("--{}={}", flag.name, flag.sample());
            let output = etcd(version, &[&argument, "--version"]);
            let text = text(&output);
            let is_known = !text.contains("flag provided but not defined");
            if [is_known, output.status.success()] != [flag.is_known_to(series); 2] {
                let line = text.lines().next().unwrap_or_default();
                wrong.push(format!("etcd {version} {argument}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs etcd servers"]
fn the_table_has_every_flag_that_etcd_explains() {
    let facts = Facts::compiled_in();
    let is_of_a_name = |c: char| c == '-' || c.is_ascii_lowercase() || c.is_ascii_digit();
    for version in real().versions.values() {
        let help = text(&etcd(version, &["--help"]));
        let lines = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
        let names = lines.map(|line| line.split(|c| !is_of_a_name(c)).next().unwrap_or_default());
        let names: BTreeSet<_> = names.collect();
        assert!(names.len() > 50, "etcd {version}: {help}");
        let unknown: Vec<_> = names.iter().filter(|name| facts.flag(name).is_none()).collect();
        assert!(unknown.is_empty(), "etcd {version}: {unknown:?}");
    }
}

/// etcd refuses a feature that it does not have.
#[test]
#[ignore = "needs etcd servers"]
fn every_feature_that_replaces_a_flag_is_one_of_etcd() {
    let facts = Facts::compiled_in();
    let gates = facts.flag("feature-gates").unwrap();
    let mut tried = 0;
    for version in real().versions.values() {
        let series = version.parse::<EtcdVersion>().unwrap().series();
        for flag in facts.flags().iter().filter(|_| gates.is_known_to(series)) {
            let Some(Replacement::Gate(name)) = &flag.replacement else { continue };
            let output = etcd(version, &[&format!("--feature-gates={name}=true"), "--version"]);
            assert!(output.status.success(), "etcd {version}, {}: {}", flag.name, text(&output));
            tried += 1;
        }
    }
    assert!(tried > 0, "no version has features");
}
