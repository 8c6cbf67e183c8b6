//! `etcdimg test` on the real four-version image: every suite passes on it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::require;

fn etcdimg(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_etcdimg")).args(arguments).output().unwrap()
}

/// The image as quickstart makes it where no release host is in reach; built once.
#[track_caller]
pub(crate) fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    require::real_parts();
    IMAGE.get_or_init(|| {
        let folder = own_folder();
        let tar = folder.join("base.tar");
        let made = Command::new("scripts/busybox-base")
            .args(["linux/amd64", tar.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let digest = String::from_utf8(made.stdout).unwrap();
        let base = format!("busybox=rootfs:{}@{}", tar.display(), digest.trim());
        let out = folder.join("layout");
        let built =
            etcdimg(&["build", "--from=source", "--base", &base, "--out", out.to_str().unwrap()]);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        out
    })
}

/// Named after this process. Those of processes that have ended are removed: a static is never
/// dropped, and other test runs may still use theirs.
fn own_folder() -> PathBuf {
    const PREFIX: &str = "acceptance-";
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(parent).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        let process = name.strip_prefix(PREFIX);
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            let _ = fs::remove_dir_all(path);
        }
    }
    let folder = parent.join(format!("{PREFIX}{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Exit code and results of suites or cases on an image.
pub(crate) fn results(layout: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    results_of(Path::new(env!("CARGO_BIN_EXE_etcdimg")), layout, arguments)
}

pub(crate) fn results_of(
    program: &Path,
    layout: &Path,
    arguments: &[&str],
) -> (Option<i32>, Value, String) {
    let all = [&["test", layout.to_str().unwrap(), "--format=json"], arguments].concat();
    let output = Command::new(program).args(all).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), stderr)
}

pub(crate) fn failed(results: &Value) -> Vec<String> {
    ended(results, "failed").map(name).collect()
}

pub(crate) fn ended<'a>(results: &'a Value, outcome: &'a str) -> impl Iterator<Item = &'a Value> {
    let cases = results["cases"].as_array().into_iter().flatten();
    cases.filter(move |case| case["outcome"] == outcome)
}

pub(crate) fn name(case: &Value) -> String {
    format!("{}/{}", case["suite"].as_str().unwrap(), case["case"].as_str().unwrap())
}

/// What the report says of a failure.
#[track_caller]
pub(crate) fn why<'a>(results: &'a Value, case: &str) -> &'a str {
    let found = ended(results, "failed").find(|it| name(it) == case);
    found.and_then(|it| it["why"]["what"].as_str()).expect(case)
}

/// Cases as `--list` shows them.
pub(crate) fn listed(arguments: &[&str]) -> BTreeSet<String> {
    let all = [&["test", image().to_str().unwrap(), "--list"], arguments].concat();
    let listed = String::from_utf8(etcdimg(&all).stdout).unwrap();
    listed.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn every_suite_passes_on_the_real_image_in_namespaces() {
    require::program(&["podman", "--version"]);
    let folder = tempfile::tempdir().unwrap();
    let report = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (xml, html) = (report("results.xml"), report("results.html"));
    let (code, results, stderr) =
        results(image(), &["--runtime=rootfs", "--report", &xml, "--report", &html]);
    assert_eq!((code, failed(&results)), (Some(0), vec![]), "{stderr}\n{results:#}");
    assert_eq!(results["verdict"], "passed");
    assert_eq!(results["cases"].as_array().unwrap().len(), listed(&[]).len());
    // This index has no image for Windows.
    for skipped in ended(&results, "skipped") {
        assert_eq!(skipped["suite"], "windows", "{skipped}");
    }
    assert_eq!(results["runtime"], "rootfs");
    let junit = fs::read_to_string(xml).unwrap();
    assert!(junit.contains("<testsuite name=\"rolling-upgrade\""), "{junit}");
    let page = fs::read_to_string(&html).unwrap();
    assert!(page.contains("3.4.21 to 3.7.1, through 3.5.33 and 3.6.14: tested"));
    let titles = page.split("<title>").filter_map(|text| text.split_once("</title>"));
    let untested: Vec<_> =
        titles.map(|(title, _)| title).filter(|title| title.ends_with("not tested here")).collect();
    // No procedure goes over two minors and ends on the way.
    assert_eq!(
        untested,
        [
            "3.4.21 to 3.6.14, through 3.5.33: not tested here",
            "3.5.33 to 3.7.1, through 3.6.14: not tested here"
        ]
    );
}

#[test]
#[ignore = "needs an engine, compilers and the network"]
fn the_engine_runs_the_image_too() {
    let (code, results, stderr) =
        results(image(), &["--runtime=docker", "--suite=run", "--suite=migrate"]);
    assert_eq!((code, failed(&results)), (Some(0), vec![]), "{stderr}\n{results:#}");
    assert_eq!(results["runtime"], "docker");
}

#[test]
#[ignore = "needs an engine, compilers and the network"]
fn the_engine_runs_clusters_too() {
    let cases = [
        "operate/client-certificates",
        "operate/backup-and-restore",
        "rolling-upgrade/back-3.7.1-3.6.14",
    ];
    let named = cases.map(|case| format!("--case={case}"));
    let mut arguments = vec!["--runtime=docker"];
    arguments.extend(named.iter().map(String::as_str));
    let (code, results, stderr) = results(image(), &arguments);
    assert_eq!((code, failed(&results)), (Some(0), vec![]), "{stderr}\n{results:#}");
    assert_eq!(ended(&results, "passed").count(), cases.len(), "{results:#}");
    assert_eq!(results["runtime"], "docker");
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn cases_are_listed_and_chosen_by_name() {
    let listed = etcdimg(&["test", image().to_str().unwrap(), "--list", "--suite=run"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.starts_with("run/shell "), "{listed}");
    let (code, results, stderr) = results(image(), &["--case=run/shell", "--runtime=rootfs"]);
    assert_eq!((code, results["cases"].as_array().unwrap().len()), (Some(0), 1), "{stderr}");
    let unknown = etcdimg(&["test", image().to_str().unwrap(), "--case=no-such"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn an_index_without_windows_is_not_tested_for_it() {
    let (code, results, stderr) = results(
        image(),
        &["--suite=windows", "--case=structure/layers", "--suite=structure", "--case=images"],
    );
    assert_eq!((code, failed(&results)), (Some(0), vec![]), "{stderr}");
    let skipped = ended(&results, "skipped").find(|it| it["suite"] == "windows");
    let why = skipped.unwrap()["why"].as_str().unwrap();
    assert!(why.starts_with("not applicable: "), "{why}");
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn required_cases_must_have_been_run() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("results.xml");
    let report = report.to_str().unwrap();
    let test = |arguments: &[&str]| {
        let arguments = [arguments, &["--require=windows", "--report", report]].concat();
        let (code, results, stderr) = results(image(), &arguments);
        assert_eq!(code, Some(9), "{stderr}\n{results:#}");
        (results["verdict"].clone(), fs::read_to_string(report).unwrap())
    };
    let (verdict, junit) = test(&["--case=structure/layers", "--suite=structure"]);
    assert_eq!(verdict, "incomplete");
    let what = "no case of windows was run, and --require asks for it";
    assert!(junit.contains(&format!("<error message=\"{what}\"/>")), "{junit}");
    let (verdict, junit) = test(&["--case=structure/layers", "--case=images"]);
    assert_eq!(verdict, "failed");
    assert!(junit.contains("<failure message=\"skipped, and --require asks for it: "), "{junit}");
    assert!(junit.contains("skipped=\"0\" failures=\"1\" errors=\"0\""), "{junit}");
}

#[test]
fn reports_need_a_name_that_says_what_they_are() {
    let output = etcdimg(&["test", "--report", "results.txt"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("use a file name that ends in .xml or .html"), "{stderr}");
}
