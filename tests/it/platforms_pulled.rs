//! The index of all platforms, pushed into a registry and pulled by an engine for machines that
//! are not this one.

use std::path::Path;

use serde_json::Value;

use crate::require;
use crate::run::run;

/// Part of the test in `platforms.rs`, which makes the layout.
pub fn an_engine_runs_what_it_pulled(layout: &Path, tag: &str, platforms: &[&str]) {
    let registry = require::part("ETCDIMG_TEST_REGISTRY") + "/pulled";
    let cache = tempfile::tempdir().unwrap();
    let (layout, cache) = (layout.to_str().unwrap(), cache.path().to_str().unwrap());
    let push = ["--cache-dir", cache, "push", layout, "--registry", &registry, "--format=json"];
    let report = run(env!("CARGO_BIN_EXE_etcdimg"), &push);
    let report: Value = serde_json::from_str(&report).unwrap();
    let pushed = &report["repositories"][0];
    let forecast = &pushed["forecast"];
    let estimated = forecast["least"].as_u64().unwrap()..=forecast["most"].as_u64().unwrap();
    assert!(estimated.contains(&pushed["requests"].as_u64().unwrap()), "{report}");
    let reference = format!("{registry}/etcd:{tag}");
    for platform in platforms {
        require::emulator(platform);
        run("docker", &["pull", "--quiet", "--platform", platform, &reference]);
        let container = ["run", "--rm", "--network=none", "--platform", platform, &reference];
        let said = run("docker", &[&container[..], &["etcd", "--version"]].concat());
        let goarch = platform.split('/').nth(1).unwrap();
        assert!(said.contains(&format!("Go OS/Arch: linux/{goarch}\n")), "{platform}: {said}");
        run("docker", &["rmi", "--force", &reference]);
    }
}
