//! A plan as people read it, where there is content of the v2 API.

use super::*;
use crate::inspect::current_version::KnownVersion;

fn origin(has_auth: bool) -> CurrentVersion {
    let names = vec!["/a".to_owned(), "/b".to_owned()];
    CurrentVersion::Etcd3(KnownVersion {
        evidence: Evidence::Data,
        v2: V2Contents { keys: 3, hidden_keys: 1, names, has_auth, size_bytes: 9 },
        ..KnownVersion::plain("3.5".parse().unwrap())
    })
}

fn report(origin: &CurrentVersion, steps: &[Step]) -> (String, String) {
    let report = PlanReport {
        data_dir: Path::new("/d"),
        target: &"3.6.14/etcd3".parse().unwrap(),
        origin,
        steps,
        backup: Path::new("/d.bak"),
        restore: None,
    };
    (report.text(), report.json().to_string())
}

#[test]
fn what_is_there_and_what_will_happen_to_it_is_said() {
    let version: EtcdVersion = "3.5.33".parse().unwrap();
    let (delete, restore) = (V2Removal::Delete, V2Removal::Restore);
    let convert = Step::ConvertV2 { version: version.clone(), removal: delete, size_bytes: 9 };
    let (text, json) = report(&origin(false), &[convert]);
    assert_eq!(
        text,
        "data directory /d: etcd 3.5 (read from the data)\ntarget 3.6.14/etcd3\n\
         content of the v2 API: 3 keys in /a, /b\n  \
         1. start etcd 3.5.33, wait until the cluster is at 3.5, write the keys of the v2 API into the \
         v3 API unless they exist there, delete them, stop it; 1 hidden key is lost\n"
    );
    let found = r#""v2":{"keys":3,"hiddenKeys":1,"names":["/a","/b"],"auth":false}"#;
    let step = r#""steps":[{"action":"convert-v2","version":"3.5.33","way":"delete","mayChange":["log-replay","lease-end","compaction","v2-conversion"]}]"#;
    assert!(json.contains(found) && json.contains(step), "{json}");
    let drop = Step::DropV2 { version, removal: restore };
    let (text, json) = report(&origin(true), &[drop]);
    assert!(text.contains("3 keys in /a, /b, and users or roles\n"), "{text}");
    assert!(text.contains("drop the content of the v2 API by restoring the database"), "{text}");
    assert!(text.ends_with("ids are new\n"), "{text}");
    assert!(json.contains(r#"{"action":"drop-v2","version":"3.5.33","way":"snapshot","#), "{json}");
}

#[test]
fn a_downgrade_says_that_it_drops_what_nothing_has_converted() {
    let [from, to]: [EtcdVersion; 2] = ["3.5.33", "3.4.27"].map(|text| text.parse().unwrap());
    let removal = V2Removal::Delete;
    let convert = Step::ConvertV2 { version: from.clone(), removal, size_bytes: 9 };
    let down = Step::Downgrade { from, to, method: DowngradeMethod::Snapshot };
    let lost = "; the content of the v2 API is lost\n";
    let (text, json) = report(&origin(false), std::slice::from_ref(&down));
    assert!(text.ends_with(lost) && json.contains(r#""dropsV2":true"#), "{text}{json}");
    let (text, json) = report(&origin(false), &[convert, down]);
    assert!(!text.contains(lost) && !json.contains("dropsV2"), "{text}{json}");
}
