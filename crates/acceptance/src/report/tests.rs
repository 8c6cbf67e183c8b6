//! Every format shows the same results.

use super::*;
use crate::runtime::Cause;
use crate::{CaseLog, Suite};
use crate::{FailureDetail, ProvenMigration};

fn case(suite: Suite, name: &str, outcome: Outcome) -> CaseResult {
    let version = |text: &str| text.parse().unwrap();
    CaseResult {
        suite,
        case: name.to_owned(),
        proves: "it <works> & lasts".to_owned(),
        outcome,
        log: CaseLog {
            step: "stop \"it\"".to_owned(),
            notes: vec![],
            migrations: vec![ProvenMigration { from: version("3.5.33"), to: version("3.6.14") }],
        },
        took: Duration::from_millis(1500),
    }
}

fn results() -> Results {
    let detail = FailureDetail {
        what: "it did not stop\n  expected 0".to_owned(),
        command: Some("etcd --name <m>".to_owned()),
        log: vec!["the \u{1b}[31mlast\u{1b}[0m line".to_owned()],
        ..FailureDetail::default()
    };
    Results {
        reference: "etcd:3.6.14-0".to_owned(),
        platform: "linux/amd64".to_owned(),
        runtime: "rootfs",
        bundled: ["3.4.27", "3.5.33", "3.6.14"].map(|text| text.parse().unwrap()).to_vec(),
        cases: vec![
            case(Suite::Structure, "paths", Outcome::Passed),
            case(Suite::Run, "serve", Outcome::Failed(detail)),
            case(Suite::Run, "user", Outcome::Skipped("no other user here".to_owned())),
        ],
        planned: 3,
        required: vec![],
        took: Duration::from_secs(3),
    }
}

#[test]
fn a_failure_shows_step_command_and_log() {
    insta::assert_snapshot!(results().text(), @r#"
    passed  structure/paths     1.5 s  it <works> & lasts
    FAILED  run/serve           1.5 s  it <works> & lasts
    skipped run/user            1.5 s  it <works> & lasts: no other user here

    run/serve failed: it did not stop
      expected 0
      step     stop "it"
      command  etcd --name <m>
      | the �[31mlast�[0m line

    etcd:3.6.14-0 linux/amd64 by rootfs: 1 passed, 1 failed, 1 skipped in 3.0 s
    "#);
}

#[test]
fn junit_is_xml_that_counts() {
    insta::assert_snapshot!(results().junit(), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="etcd:3.6.14-0" tests="3" skipped="1" failures="1" errors="0" time="3.000">
        <testsuite name="structure" tests="1" skipped="0" errors="0" failures="0">
            <testcase name="paths" classname="linux/amd64.structure" time="1.500"/>
        </testsuite>
        <testsuite name="run" tests="2" skipped="1" errors="0" failures="1">
            <testcase name="serve" classname="linux/amd64.run" time="1.500">
                <failure message="it did not stop
      expected 0">step: stop &quot;it&quot;
    command: etcd --name &lt;m&gt;
    the �[31mlast�[0m line</failure>
            </testcase>
            <testcase name="user" classname="linux/amd64.run" time="1.500">
                <skipped message="no other user here"/>
            </testcase>
        </testsuite>
    </testsuites>
    "#);
}

#[test]
fn the_page_needs_nothing_else_and_draws_what_was_tested() {
    let page = results().html();
    assert!(!page.contains("http") && !page.contains("<script"), "{page}");
    assert!(page.contains("<header class=\"failed\">"));
    assert!(page.contains("3.5.33 to 3.6.14, directly: tested"));
    assert!(page.contains("3.4.27 to 3.6.14, through 3.5.33: not tested here"));
    assert!(page.contains("3.6.14 to 3.5.33, directly: not tested here"));
    assert!(!page.contains("3.6.14 to 3.4.27"));
    assert!(page.contains("$ etcd --name &lt;m&gt;"));
}

#[test]
fn only_what_passed_counts_as_tested() {
    let mut results = results();
    results.cases.remove(0);
    assert!(results.html().contains("3.5.33 to 3.6.14, directly: not tested here"));
}

/// What every report and the exit code say: JUnit's counters, JSON, the page's header, the table.
#[track_caller]
fn check(cases: Vec<CaseResult>, planned: usize, required: &[Suite], expected: &str) {
    let results = Results { cases, planned, ..results() }.requiring(required);
    let (junit, json, html, text) =
        (results.junit(), results.json(), results.html(), results.text());
    let counters = junit.lines().nth(1).unwrap().split_once(" tests").unwrap().1;
    let counters = counters.split_once(" time").unwrap().0;
    let errors = junit.matches("<error ").count() + junit.matches("<failure ").count();
    let header = html.split_once("<header class=\"").unwrap().1.split_once('"').unwrap().0;
    let json = format!("{} failed {}", json["verdict"].as_str().unwrap(), json["failed"]);
    let said = text.lines().last().unwrap().split_once(": ").unwrap();
    let said = if said.0 == "INCOMPLETE" { said.1 } else { "complete" };
    assert_eq!(
        format!("tests{counters}; {errors} in JUnit; {json}; {header}; {said}"),
        expected,
        "{:?}",
        results.verdict()
    );
}

#[test]
fn the_verdict_is_the_same_everywhere() {
    let passed = || case(Suite::Run, "serve", Outcome::Passed);
    let failed = || case(Suite::Run, "shell", Outcome::Failed(FailureDetail::default()));
    let skipped = || case(Suite::Kubernetes, "static-pod", Outcome::Skipped("no podman".into()));
    check(
        vec![passed(), skipped()],
        2,
        &[Suite::Run],
        r#"tests="2" skipped="1" failures="0" errors="0"; 0 in JUnit; passed failed 0; passed; complete"#,
    );
    check(
        vec![passed(), failed()],
        2,
        &[],
        r#"tests="2" skipped="0" failures="1" errors="0"; 1 in JUnit; failed failed 1; failed; complete"#,
    );
    // A skip of what is required is a failure.
    check(
        vec![passed(), skipped()],
        2,
        &[Suite::Kubernetes],
        r#"tests="2" skipped="0" failures="1" errors="0"; 1 in JUnit; failed failed 1; failed; complete"#,
    );
    // So is a required suite of which no case was run.
    check(
        vec![passed()],
        1,
        &[Suite::Kubernetes],
        r#"tests="2" skipped="0" failures="0" errors="1"; 1 in JUnit; incomplete failed 0; incomplete; no case of kubernetes was run, and --require asks for it"#,
    );
    check(
        vec![skipped()],
        1,
        &[],
        r#"tests="2" skipped="1" failures="0" errors="1"; 1 in JUnit; incomplete failed 0; incomplete; nothing could be tested here"#,
    );
    let machine = FailureDetail { cause: Cause::Machine, ..FailureDetail::default() };
    let unable = || case(Suite::Run, "shell", Outcome::Failed(machine.clone()));
    check(
        vec![passed(), unable()],
        2,
        &[],
        r#"tests="3" skipped="0" failures="1" errors="1"; 2 in JUnit; incomplete failed 1; incomplete; 1 of 2 cases could not run"#,
    );
    check(
        vec![failed(), unable()],
        2,
        &[],
        r#"tests="2" skipped="0" failures="2" errors="0"; 2 in JUnit; failed failed 2; failed; complete"#,
    );
    // Ctrl-C.
    check(
        vec![passed(), failed()],
        7,
        &[],
        r#"tests="3" skipped="0" failures="1" errors="1"; 2 in JUnit; incomplete failed 1; incomplete; interrupted after 2 of 7 cases"#,
    );
}

#[test]
fn a_required_skip_says_why() {
    let skipped = case(Suite::Run, "user", Outcome::Skipped("no other user here".to_owned()));
    let results = Results { cases: vec![skipped], planned: 1, ..results() };
    let junit = results.requiring(&[Suite::Run]).junit();
    let message = "message=\"skipped, and --require asks for it: no other user here\"";
    assert!(junit.contains(&format!("<failure {message}")), "{junit}");
}
