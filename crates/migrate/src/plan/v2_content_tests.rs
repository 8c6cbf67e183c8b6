//! Tables of what happens to content of the v2 API.

use super::*;
use crate::inspect::current_version::CurrentVersion;
use crate::inspect::version_pair::VersionPair;
use crate::plan::steps::{self, Defrag, Downgrades, NoPath, PlanOptions, Step};

fn from(version: &str) -> KnownVersion {
    let exact: EtcdVersion = version.parse().unwrap();
    let names = vec!["/a".to_owned(), "/b".to_owned()];
    KnownVersion {
        exact: Some(exact.clone()),
        v2: V2Contents { keys: 3, names, ..V2Contents::default() },
        ..KnownVersion::plain(exact.series())
    }
}

fn with_auth(version: &str) -> KnownVersion {
    let from = from(version);
    KnownVersion { v2: V2Contents { has_auth: true, ..from.v2 }, ..from }
}

fn plan(from: &KnownVersion, to: &str, v2_content: V2Content) -> Result<String, NoPath> {
    let bundled = "3.4.27\n3.5.33\n3.6.14\n3.7.1\n".parse().unwrap();
    let allowed =
        PlanOptions { downgrades: Downgrades::SeveralMinors, v2_content, defrag: Defrag::No };
    let to = VersionPair::etcd3(to.parse().unwrap());
    let steps = steps::steps(&CurrentVersion::Etcd3(from.clone()), &to, &bundled, allowed)?;
    Ok(steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn refusal(from: &KnownVersion, to: &str, content: V2Content) -> String {
    plan(from, to, content).unwrap_err().to_string()
}

#[test]
fn content_is_refused_where_it_would_be_lost() {
    let refused = "clients of the v2 API have stored 3 keys in /a, /b, and users or roles, and etcd \
        3.6 does not start on that";
    for (version, to) in [("3.4.27", "3.6.14"), ("3.4.27", "3.7.1"), ("3.5.33", "3.6.14")] {
        let reason = refusal(&with_auth(version), to, V2Content::Refuse);
        assert_eq!(reason, refused, "{version} {to}");
    }
    let lost = "clients of the v2 API have stored 3 keys in /a, /b, and a downgrade to 3.4.27 would \
        lose it";
    assert_eq!(refusal(&from("3.5.33"), "3.4.27", V2Content::Refuse), lost);
}

#[test]
fn content_stays_where_the_target_has_it() {
    for (version, to) in [("3.4.27", "3.5.33"), ("3.5.33", "3.5.33"), ("3.4.27", "3.4.27")] {
        for content in [V2Content::Refuse, V2Content::Drop, V2Content::Convert] {
            assert_eq!(plan(&with_auth(version), to, content), Ok(format!("record {to}")));
        }
    }
}

#[test]
fn the_last_version_with_the_v2_api_removes_its_content() {
    for (version, to, expected) in [
        ("3.5.33", "3.6.14", "backup, ? v2 content with 3.5.33, record 3.5.33, record 3.6.14"),
        (
            "3.4.27",
            "3.7.1",
            "backup, ? v2 content with 3.5.33, record 3.5.33, serve 3.6.14, record 3.6.14, record 3.7.1",
        ),
    ] {
        let expected = |verb| Ok(expected.replace('?', verb));
        assert_eq!(plan(&from(version), to, V2Content::Drop), expected("drop"));
        assert_eq!(plan(&from(version), to, V2Content::Convert), expected("convert"));
    }
    assert_eq!(
        plan(&with_auth("3.5.33"), "3.6.14", V2Content::Drop).unwrap(),
        "backup, drop v2 content with 3.5.33 and a snapshot, record 3.5.33, record 3.6.14"
    );
}

#[test]
fn a_downgrade_by_snapshot_drops_content_by_itself() {
    let down = "downgrade 3.5.33 to 3.4.27 by snapshot, record 3.4.27";
    let plan = |content| plan(&from("3.5.33"), "3.4.27", content).unwrap();
    assert_eq!(plan(V2Content::Drop), format!("backup, {down}"));
    assert_eq!(plan(V2Content::Convert), format!("backup, convert v2 content with 3.5.33, {down}"));
}

#[test]
fn what_no_list_shows_is_not_converted() {
    let mut hidden = from("3.5.33");
    hidden.v2.hidden_keys = 3;
    // So it does not matter that no key could be written.
    hidden.needs_credentials = true;
    let step = |to| plan(&hidden, to, V2Content::Convert).unwrap();
    assert!(step("3.6.14").starts_with("backup, drop v2 content with 3.5.33, "));
    assert!(step("3.4.27").starts_with("backup, downgrade "));
}

#[test]
fn keys_are_converted_only_where_they_can_be_written() {
    let mut locked = from("3.5.33");
    locked.needs_credentials = true;
    let mut full = from("3.5.33");
    full.cluster.is_full = true;
    for (from, reason) in [(locked, "authentication enabled"), (full, "NOSPACE")] {
        assert!(refusal(&from, "3.6.14", V2Content::Convert).contains(reason));
        assert!(plan(&from, "3.6.14", V2Content::Drop).is_ok());
    }
}

#[test]
fn content_of_a_cluster_is_dealt_with_by_hand() {
    let from = KnownVersion { members: 3, ..from("3.5.33") };
    for content in [V2Content::Refuse, V2Content::Drop, V2Content::Convert] {
        let refusal = plan(&from, "3.6.14", content).unwrap_err();
        let is_of_cluster = matches!(refusal, NoPath::V2(V2Refusal::Cluster { members: 3, .. }));
        assert_eq!(is_of_cluster, content != V2Content::Refuse);
        assert!(refusal.hint().unwrap().contains("restart one of them with `--enable-v2`"));
    }
    assert_eq!(plan(&from, "3.5.33", V2Content::Drop).unwrap(), "record 3.5.33");
}

#[test]
fn a_step_names_the_programs_that_it_starts() {
    let version: EtcdVersion = "3.5.33".parse().unwrap();
    let programs = |removal| {
        let step = Step::DropV2 { version: version.clone(), removal };
        let programs = crate::plan::tools::needed(&step, &version);
        programs.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(programs(V2Removal::Delete), ["etcd"]);
    assert_eq!(programs(V2Removal::Restore), ["etcd", "etcdutl"]);
}
