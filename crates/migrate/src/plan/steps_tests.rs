//! Tables of versions and the steps between them.

use super::*;

/// The last minor version that can replay requests of the v2 API.
const V2: Series = Series::new(3, 5);
/// … and those of them that etcd converts.
const CONVERTED: Series = Series::new(3, 6);

const BUNDLED: &str = "3.4.27\n3.5.33\n3.6.14\n3.7.1\n";

const CLUSTER: ClusterState = ClusterState {
    voters: 1,
    started_voters: 1,
    is_corrupt: false,
    is_full: false,
    open_downgrade: None,
};

fn steps(
    origin: &CurrentVersion,
    to: &VersionPair,
    bundled: &Bundled,
    downgrades: Downgrades,
) -> Result<Vec<Step>, NoPath> {
    let v2_content = V2Content::Refuse;
    super::steps(origin, to, bundled, PlanOptions { downgrades, v2_content, defrag: Defrag::No })
}

fn known(text: &str) -> KnownVersion {
    // `3.5.?` is a 3.5 of an unknown patch.
    let exact: Option<EtcdVersion> = text.parse().ok();
    let series = text.replace('?', "0").parse().unwrap();
    KnownVersion { exact, ..KnownVersion::plain(series) }
}

fn describe(steps: Result<Vec<Step>, NoPath>) -> String {
    match steps {
        Ok(steps) => steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        Err(error) => format!("error: {error}"),
    }
}

fn plan(from: KnownVersion, to: &str, bundled: &str, downgrades: Downgrades) -> String {
    let to = VersionPair::etcd3(to.parse().unwrap());
    describe(steps(&CurrentVersion::Etcd3(from), &to, &bundled.parse().unwrap(), downgrades))
}

#[track_caller]
fn check(from: &str, to: &str, expected: &str) {
    check_with(BUNDLED, from, to, expected);
}

#[track_caller]
fn check_with(bundled: &str, from: &str, to: &str, expected: &str) {
    assert_eq!(plan(known(from), to, bundled, Downgrades::OneMinor), expected, "{from} -> {to}");
}

#[track_caller]
fn check_known(from: KnownVersion, to: &str, expected: &str) {
    assert_eq!(plan(from, to, BUNDLED, Downgrades::OneMinor), expected);
}

#[track_caller]
fn check_down(from: &str, to: &str, expected: &str) {
    let actual = plan(known(from), to, BUNDLED, Downgrades::SeveralMinors);
    assert_eq!(actual, expected, "{from} -> {to}");
}

#[test]
fn same_minor_and_one_minor_up_start_no_server() {
    check("3.4.27", "3.4.27", "record 3.4.27");
    check("3.4.18", "3.4.27", "record 3.4.27");
    check("3.7.9", "3.7.1", "record 3.7.1");
    check("3.4.27", "3.5.33", "record 3.5.33");
    check("3.5.33", "3.5.33", "record 3.5.33");
    check("3.5.33", "3.6.14", "record 3.6.14");
    check("3.6.14", "3.6.14", "record 3.6.14");
    check("3.6.14", "3.7.1", "record 3.7.1");
    check("3.7.1", "3.7.1", "record 3.7.1");
    check("3.5.0", "3.5.33", "record 3.5.33");
    check("3.3.25", "3.4.27", "record 3.4.27");
}

#[test]
fn every_minor_between_is_served_and_recorded() {
    check("3.4.27", "3.6.14", "backup, serve 3.5.33, record 3.5.33, record 3.6.14");
    check(
        "3.4.27",
        "3.7.1",
        "backup, serve 3.5.33, record 3.5.33, serve 3.6.14, record 3.6.14, record 3.7.1",
    );
    check("3.5.33", "3.7.1", "backup, serve 3.6.14, record 3.6.14, record 3.7.1");
    check("3.3.17", "3.5.33", "backup, serve 3.4.27, record 3.4.27, record 3.5.33");
}

#[test]
fn an_old_or_unknown_3_5_is_served_by_the_bundled_one_before_3_6() {
    check("3.5.25", "3.6.14", "backup, serve 3.5.33, record 3.5.33, record 3.6.14");
    check("3.5.?", "3.6.14", "backup, serve 3.5.33, record 3.5.33, record 3.6.14");
    check("3.5.26", "3.6.14", "record 3.6.14");
    check(
        "3.5.12",
        "3.7.1",
        "backup, serve 3.5.33, record 3.5.33, serve 3.6.14, record 3.6.14, record 3.7.1",
    );
    let old = "3.5.21\n3.6.4\n";
    let reason = "error: cannot go to 3.6.4: the way leads through etcd 3.5, of which only 3.5.26 \
                  and later are safe, and this image bundles 3.5.21";
    check_with(old, "3.5.21", "3.6.4", reason);
    check_with(old, "3.4.18", "3.6.4", reason);
    check_with(
        "3.6.4",
        "3.5.21",
        "3.6.4",
        "error: cannot go to 3.6.4: this image bundles no etcd 3.5",
    );
}

#[test]
fn a_restart_in_the_middle_of_a_rolling_upgrade_starts_no_server() {
    let from = |text| KnownVersion { evidence: Evidence::DataBeforeOurFile, ..known(text) };
    check_known(from("3.5.?"), "3.6.14", "record 3.6.14");
    // Back to where the others still are, or on to what comes after.
    check_known(from("3.5.?"), "3.5.33", "record 3.5.33");
    check_known(from("3.5.?"), "3.7.1", "backup, serve 3.6.14, record 3.6.14, record 3.7.1");
    check_known(from("3.4.?"), "3.5.33", "record 3.5.33");
    check_known(from("3.6.?"), "3.7.1", "record 3.7.1");
    // The log overrides version.txt.
    let v2 = KnownVersion { replayed_until: Some(V2), ..from("3.5.?") };
    check_known(v2, "3.6.14", "backup, serve 3.5.33, record 3.5.33, record 3.6.14");
    let converted = KnownVersion { replayed_until: Some(CONVERTED), ..from("3.5.?") };
    check_known(converted, "3.6.14", "record 3.6.14");
    // The old program recorded the next minor, whatever the patch of the data was.
    let theirs = KnownVersion { evidence: Evidence::DataBeforeFile, ..known("3.5.?") };
    check_known(theirs, "3.6.14", "backup, serve 3.5.33, record 3.5.33, record 3.6.14");
}

#[test]
fn a_log_with_requests_of_the_v2_api_is_served_by_3_5_before_3_6() {
    let from = |text| KnownVersion { replayed_until: Some(V2), ..known(text) };
    check_known(from("3.5.33"), "3.6.14", "backup, serve 3.5.33, record 3.5.33, record 3.6.14");
    check_known(from("3.5.33"), "3.5.33", "record 3.5.33");
    check_known(from("3.4.27"), "3.5.33", "record 3.5.33");
}

#[test]
fn a_log_with_requests_that_3_6_converts_is_served_by_3_6_before_3_7() {
    let from = |text| KnownVersion { replayed_until: Some(CONVERTED), ..known(text) };
    check_known(from("3.6.14"), "3.7.1", "backup, serve 3.6.14, record 3.6.14, record 3.7.1");
    check_known(from("3.6.?"), "3.7.1", "backup, serve 3.6.14, record 3.6.14, record 3.7.1");
    // Every server on the way writes a raft snapshot, so nothing is served twice.
    check_known(from("3.5.33"), "3.7.1", "backup, serve 3.6.14, record 3.6.14, record 3.7.1");
    check_known(from("3.5.33"), "3.6.14", "record 3.6.14");
    check_known(from("3.6.14"), "3.6.14", "record 3.6.14");
    let restarted = KnownVersion { evidence: Evidence::DataBeforeOurFile, ..from("3.6.?") };
    check_known(restarted, "3.7.1", "backup, serve 3.6.14, record 3.6.14, record 3.7.1");
    let bundled = "3.5.33\n3.7.1\n";
    assert_eq!(
        plan(from("3.6.14"), "3.7.1", bundled, Downgrades::OneMinor),
        "error: cannot go to 3.7.1: this image bundles no etcd 3.6",
    );
}

#[test]
fn a_log_that_is_too_old_for_its_own_data_is_refused() {
    let from = KnownVersion { replayed_until: Some(V2), ..known("3.6.14") };
    check_known(
        from,
        "3.7.1",
        "error: the log holds requests that only etcd 3.5 and older can replay, but the data is at \
         etcd 3.6",
    );
}

#[test]
fn a_downgrade_that_was_begun_is_cancelled_before_the_data_goes_elsewhere() {
    let from = |text| KnownVersion { abandons_downgrade: true, ..known(text) };
    check_known(from("3.7.1"), "3.7.1", "backup, cancel the downgrade with 3.7.1, record 3.7.1");
    check_known(from("3.6.14"), "3.7.1", "backup, cancel the downgrade with 3.6.14, record 3.7.1");
    check_known(
        from("3.5.33"),
        "3.7.1",
        "backup, cancel the downgrade with 3.5.33, serve 3.6.14, record 3.6.14, record 3.7.1",
    );
}

#[test]
fn one_minor_down_is_a_downgrade() {
    check("3.7.1", "3.6.14", "backup, downgrade 3.7.1 to 3.6.14 in place, record 3.6.14");
    check("3.6.14", "3.5.33", "backup, downgrade 3.6.14 to 3.5.33 in place, record 3.5.33");
    check("3.5.33", "3.4.27", "backup, downgrade 3.5.33 to 3.4.27 by snapshot, record 3.4.27");
    check("3.5.?", "3.4.27", "backup, downgrade 3.5.33 to 3.4.27 by snapshot, record 3.4.27");
}

#[test]
fn several_minors_down_must_be_asked_for() {
    for (from, to, reason) in [
        ("3.6.14", "3.4.27", "cannot go from 3.6 back to 3.4.27: more than one minor version"),
        ("3.7.1", "3.4.27", "cannot go from 3.7 back to 3.4.27: more than one minor version"),
        ("3.7.1", "3.5.33", "cannot go from 3.7 back to 3.5.33: more than one minor version"),
    ] {
        check(from, to, &format!("error: {reason}"));
    }
    check_down(
        "3.6.14",
        "3.4.27",
        "backup, downgrade 3.6.14 to 3.5.33 in place, record 3.5.33, \
         downgrade 3.5.33 to 3.4.27 by snapshot, record 3.4.27",
    );
    check_down(
        "3.7.1",
        "3.5.33",
        "backup, downgrade 3.7.1 to 3.6.14 in place, record 3.6.14, \
         downgrade 3.6.14 to 3.5.33 in place, record 3.5.33",
    );
    check_down(
        "3.7.1",
        "3.4.27",
        "backup, downgrade 3.7.1 to 3.6.14 in place, record 3.6.14, \
         downgrade 3.6.14 to 3.5.33 in place, record 3.5.33, \
         downgrade 3.5.33 to 3.4.27 by snapshot, record 3.4.27",
    );
}

#[test]
fn data_of_3_8_goes_back_only_to_a_3_7_that_needs_no_files_of_snapshots() {
    check_with(
        "3.6.14\n3.7.1\n3.8.0",
        "3.8.0",
        "3.7.1",
        "error: cannot go to 3.7.1: the way leads through etcd 3.7, of which only 3.7.2 and later \
         are safe, and this image bundles 3.7.1",
    );
    check_with(
        "3.6.14\n3.7.3\n3.8.0",
        "3.8.0",
        "3.7.3",
        "backup, downgrade 3.8.0 to 3.7.3 in place, record 3.7.3",
    );
    check_with("3.7.1\n3.8.0", "3.7.1", "3.8.0", "record 3.8.0");
}

#[test]
fn what_cannot_be_done_has_a_reason() {
    check(
        "3.3.17",
        "3.6.14",
        "backup, serve 3.4.27, record 3.4.27, serve 3.5.33, record 3.5.33, record 3.6.14",
    );
    check("3.2.32", "3.6.14", "error: cannot go to 3.6.14: this image bundles no etcd 3.3");
    check("3.8.0", "3.7.1", "error: cannot go to 3.7.1: this image bundles no etcd 3.8");
    check("2.2.1", "3.4.27", "error: etcd 2.2 is not supported: only etcd 3 is");
    check("4.0.0", "3.7.1", "error: etcd 4.0 is not supported: only etcd 3 is");
    check("3.7.1", "4.0.0", "error: etcd 4.0 is not supported: only etcd 3 is");
    check(
        "3.6.14",
        "3.6.15",
        "error: this image bundles no etcd 3.6.15, only 3.4.27, 3.5.33, 3.6.14, 3.7.1",
    );
    check_with(
        "3.4.27\n3.6.14",
        "3.4.27",
        "3.6.14",
        "error: cannot go to 3.6.14: this image bundles no etcd 3.5",
    );
}

/// The migrations that the old image was tested with.
#[test]
fn what_the_old_image_was_tested_with_has_an_answer() {
    let theirs = "3.0.17\n3.1.12";
    check_with(theirs, "3.0.17", "3.1.12", "record 3.1.12");
    check_with(
        theirs,
        "3.1.12",
        "3.0.17",
        "backup, downgrade 3.1.12 to 3.0.17 by snapshot, record 3.0.17",
    );
    check_with(theirs, "2.2.1", "3.1.12", "error: etcd 2.2 is not supported: only etcd 3 is");
    check("3.0.17", "3.7.1", "error: cannot go to 3.7.1: this image bundles no etcd 3.1");
    check(
        "3.1.12",
        "3.4.21",
        "error: this image bundles no etcd 3.4.21, only 3.4.27, 3.5.33, 3.6.14, 3.7.1",
    );
    check("3.1.12", "3.4.27", "error: cannot go to 3.4.27: this image bundles no etcd 3.2");
    let cluster = KnownVersion { members: 3, ..known("3.0.17") };
    assert_eq!(plan(cluster, "3.1.12", theirs, Downgrades::OneMinor), "record 3.1.12");
    let bundled: Bundled = theirs.parse().unwrap();
    let origin = CurrentVersion::Etcd3(known("3.0.17"));
    let to = "2.2.1/etcd2".parse().unwrap();
    let refused = describe(steps(&origin, &to, &bundled, Downgrades::OneMinor));
    assert_eq!(refused, "error: etcd2 storage is not supported");
}

#[test]
fn clusters_and_credentials_limit_downgrades_only() {
    let cluster = |from| KnownVersion { members: 3, ..known(from) };
    let guarded = |from| KnownVersion { needs_credentials: true, ..known(from) };
    let one = Downgrades::OneMinor;
    assert_eq!(
        plan(cluster("3.6.14"), "3.5.33", BUNDLED, one),
        "error: cannot go back to 3.5.33: the data belongs to a cluster of 3 members, and one \
         member cannot go back alone"
    );
    assert_eq!(
        plan(guarded("3.6.14"), "3.5.33", BUNDLED, one),
        "backup, downgrade 3.6.14 to 3.5.33 by snapshot, record 3.5.33"
    );
    assert_eq!(
        plan(guarded("3.7.1"), "3.6.14", BUNDLED, one),
        "error: cannot go from 3.7 back to 3.6.14: the data has authentication enabled, and etcd \
         3.7 goes back only with credentials"
    );
    assert_eq!(plan(cluster("3.6.14"), "3.7.1", BUNDLED, one), "record 3.7.1");
    assert!(plan(guarded("3.4.27"), "3.7.1", BUNDLED, one).starts_with("backup, serve 3.5.33"));
    assert!(plan(guarded("3.5.33"), "3.4.27", BUNDLED, one).starts_with("backup, downgrade"));
}

#[test]
fn an_empty_directory_takes_the_target() {
    let bundled: Bundled = BUNDLED.parse().unwrap();
    for version in bundled.versions() {
        let to = VersionPair::etcd3(version.clone());
        let steps = steps(&CurrentVersion::Fresh, &to, &bundled, Downgrades::OneMinor);
        assert_eq!(steps.unwrap(), [Step::Record(version.clone())]);
    }
}

#[test]
fn etcd2_storage_is_refused_at_both_ends() {
    let bundled: Bundled = BUNDLED.parse().unwrap();
    for (origin, to) in [
        (CurrentVersion::Etcd2, "3.7.1/etcd3"),
        (CurrentVersion::Fresh, "3.7.1/etcd2"),
        (CurrentVersion::Etcd3(known("3.7.1")), "2.2.1/etcd2"),
    ] {
        let steps = steps(&origin, &to.parse().unwrap(), &bundled, Downgrades::OneMinor);
        assert_eq!(describe(steps), "error: etcd2 storage is not supported");
    }
}

/// The laws of every plan, over all pairs of minors, patches around the gate, and bundles.
#[test]
fn every_plan_ends_at_the_target_one_minor_at_a_time_and_backs_up_first() {
    let candidates = ["3.4.27", "3.5.21", "3.5.33", "3.6.14", "3.7.1"];
    let mut plans = 0;
    for mask in 1_u32..1 << candidates.len() {
        let chosen = candidates.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0);
        let bundled =
            Bundled::new(chosen.map(|(_, text)| text.parse().unwrap()).collect::<Vec<_>>());
        for from in 0..10 {
            for patch in ["0", "25", "26", "?"] {
                for to in bundled.versions() {
                    let from = KnownVersion {
                        replayed_until: (mask & 1 == 0).then_some(CONVERTED),
                        abandons_downgrade: mask & 2 == 0,
                        ..known(&format!("3.{from}.{patch}"))
                    };
                    let pair = VersionPair::etcd3(to.clone());
                    let origin = CurrentVersion::Etcd3(from.clone());
                    let Ok(steps) = steps(&origin, &pair, &bundled, Downgrades::SeveralMinors)
                    else {
                        continue;
                    };
                    check_laws(&from, to, &bundled, &steps);
                    plans += 1;
                }
            }
        }
    }
    assert!(plans > 500, "only {plans} plans were checked");
}

fn check_laws(from: &KnownVersion, to: &EtcdVersion, bundled: &Bundled, steps: &[Step]) {
    let mut at = from.series.minor;
    let mut is_backed_up = false;
    for step in steps {
        assert!(is_backed_up || !step.changes_data(), "{steps:?}");
        match step {
            Step::Backup => is_backed_up = true,
            Step::CancelDowngrade(version) => {
                assert!(bundled.versions().contains(version) && version.minor() == at);
            }
            Step::Serve(version) => {
                assert!(bundled.versions().contains(version), "{steps:?}");
                assert!(version.minor() == at || version.minor() == at + 1, "{steps:?}");
                at = version.minor();
            }
            Step::DropV2 { .. } | Step::ConvertV2 { .. } => {
                panic!("there is no content: {steps:?}")
            }
            Step::Downgrade { from, to, .. } => {
                assert!([from, to].iter().all(|version| bundled.versions().contains(version)));
                assert!(from.minor() == at && to.minor() + 1 == at, "{steps:?}");
                at = to.minor();
            }
            Step::Defrag(_) => panic!("nobody asked for it: {steps:?}"),
            // Only the last record may run ahead, by the minor that the target upgrades itself.
            Step::Record(version) => assert!(version.minor() == at || version == to),
        }
    }
    assert!(to.minor() == at || to.minor() == at + 1, "{steps:?}");
    assert_eq!(steps.last(), Some(&Step::Record(to.clone())));
}

#[test]
fn what_no_server_recovers_from_is_refused_before_the_first_step() {
    let bundled = "3.5.33\n3.6.14\n3.7.1".parse().unwrap();
    let reason = |from: KnownVersion, to: &str| {
        let to = VersionPair::etcd3(to.parse().unwrap());
        let steps = steps(&CurrentVersion::Etcd3(from), &to, &bundled, Downgrades::OneMinor);
        steps.map_err(|error| error.to_string()).err()
    };
    let from = known("3.5.33");
    let with = |members, cluster| KnownVersion { members, cluster, ..from.clone() };
    assert_eq!(reason(from.clone(), "3.7.1"), None);
    let members = |voters, started_voters| {
        with(voters + 1, ClusterState { voters, started_voters, ..CLUSTER })
    };
    assert_eq!(reason(members(3, 2), "3.7.1"), None);
    for (part, from) in [
        ("the data has the CORRUPT alarm", with(1, ClusterState { is_corrupt: true, ..CLUSTER })),
        ("of the 2 members with a vote, only 1 ever started", members(2, 1)),
        ("of the 5 members with a vote, only 2 ever started", members(5, 2)),
    ] {
        let text = reason(from.clone(), "3.7.1").unwrap_or_default();
        assert!(text.starts_with(part), "{text}");
        // No server is started for the next minor version.
        assert_eq!(reason(from, "3.6.14"), None);
    }
    let open = with(1, ClusterState { open_downgrade: Some(Series::new(3, 4)), ..CLUSTER });
    for (to, is_refused) in [("3.7.1", true), ("3.6.14", true), ("3.5.33", false)] {
        assert_eq!(reason(open.clone(), to).is_some(), is_refused, "{to}");
    }
}

#[test]
fn a_database_is_defragmented_last_and_after_a_copy() {
    let to: EtcdVersion = "3.6.14".parse().unwrap();
    let bundled: Bundled = "3.5.33\n3.6.14".parse().unwrap();
    let allowed = PlanOptions {
        downgrades: Downgrades::OneMinor,
        v2_content: V2Content::Refuse,
        defrag: Defrag::AtTheEnd,
    };
    let from = CurrentVersion::Etcd3(known("3.6.14"));
    let pair = VersionPair::etcd3(to.clone());
    let steps = super::steps(&from, &pair, &bundled, allowed).unwrap();
    assert_eq!(steps, [Step::Backup, Step::Defrag(to.clone()), Step::Record(to)]);
}
