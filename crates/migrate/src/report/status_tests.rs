//! A status as people and programs read it.

use super::*;
use crate::inspect::bolt::sample::database;
use crate::inspect::layout::DataLayout;
use crate::report::format::OutputFormat;
use crate::report::status;
use crate::scratch::ScratchDirectory;
use crate::state::backup_store::BackupStore;

fn example() -> ScratchDirectory {
    let scratch = ScratchDirectory::new();
    let member = br#"{"id":1,"peerURLs":["http://a:2380","http://b:2380"],"name":"m"}"#;
    let downgrade = br#"{"target-version":"3.6.0","enabled":true}"#;
    let file = database(&[
        ("cluster", true, &[("clusterVersion", b"3.7.0"), ("downgrade", downgrade)]),
        ("members", true, &[("1", member)]),
        ("meta", false, &[("storageVersion", b"3.7.0")]),
    ]);
    scratch.write("data/member/snap/db", &file);
    scratch.write("data/member/snap/0000000000000002-0000000000000007.snap", b"");
    scratch.write("data/member/wal/0000000000000000-0000000000000000.wal", b"");
    scratch.write("data/version.txt", b"3.7.1/etcd3");
    scratch.write(
        "data/.migrate/journal",
        b"target 3.6.14/etcd3\nstep downgrade 3.7.1 to 3.6.14 in place\noutcome it died\n",
    );
    scratch.write("data.bak/2026-08-01T120000Z/member/snap/db", &vec![0; 150_000]);
    scratch.write("data.bak/2026-08-01T120000Z/version.txt", b"3.4.27/etcd3");
    scratch
}

fn print(scratch: &ScratchDirectory, format: OutputFormat) -> String {
    let path = scratch.path().join("data");
    let status = status::look(&DataLayout::of(&path, None), &BackupStore::of(&path, None)).unwrap();
    status.print(format).replace(&scratch.path().display().to_string(), "DIR")
}

#[test]
fn a_status_reads_well() {
    assert_eq!(
        print(&example(), OutputFormat::Text),
        "\
data directory DIR/data
  version      etcd 3.7.1 (version.txt and the data agree)
  version.txt  3.7.1/etcd3
  cluster      3.7
  storage      3.7
  downgrade    to 3.6 is enabled
  database     0.0 MiB, 0 keys at revision 1, 0 revisions kept, 0 leases
  log          1 file, 0.0 MiB, 1 raft snapshot
  auth         not enabled
  members      1
               m  http://a:2380,http://b:2380
  last run     to 3.6.14/etcd3: it died, in the step `downgrade 3.7.1 to 3.6.14 in place`
  backups      1 in DIR/data.bak
               2026-08-01T120000Z  3.4.27/etcd3  0.1 MiB
"
    );
}

#[test]
fn programs_read_the_same() {
    let json = print(&example(), OutputFormat::Json);
    for part in [
        r#""dataDirectory":"DIR/data","storage":"etcd3""#,
        r#""versionFile":"3.7.1/etcd3","data":{"series":"3.7","clusterVersion":"3.7""#,
        r#""downgradeTo":"3.6""#,
        r#""keys":0,"revisions":0,"revision":1,"compactRevision":null,"leases":0"#,
        r#""members":[{"name":"m","peerURLs":["http://a:2380","http://b:2380"]}]"#,
        r#""lastJourney":{"target":"3.6.14/etcd3","step":"downgrade 3.7.1 to 3.6.14 in place""#,
        r#""versionFile":"3.4.27/etcd3","bytes":150012"#,
    ] {
        assert!(json.contains(part), "{part} in {json}");
    }
}

#[test]
fn names_and_urls_are_those_that_etcd_stores() {
    let scratch = ScratchDirectory::new();
    let member = br#"{"peerURLs":["http://[::1]:2380"],"name":"a\u0026b"}"#;
    let file = database(&[("members", true, &[("1", member)])]);
    scratch.write("data/member/snap/db", &file);
    scratch.write("data/member/wal/0000000000000000-0000000000000000.wal", b"");
    let json = print(&scratch, OutputFormat::Json);
    let expected = r#""members":[{"name":"a&b","peerURLs":["http://[::1]:2380"]}]"#;
    assert!(json.contains(expected), "{json}");
}

#[test]
fn a_fresh_directory_has_a_status_too() {
    let scratch = ScratchDirectory::new();
    scratch.write("data/lost+found/x", b"");
    let expected = "\
data directory DIR/data
  version      no etcd has started here yet
  version.txt  none
  backups      0 in DIR/data.bak
";
    assert_eq!(print(&scratch, OutputFormat::Text), expected);
}

#[test]
fn evidence_that_contradicts_itself_is_shown_and_is_no_error() {
    let scratch = example();
    scratch.write("data/version.txt", b"3.4.27/etcd3");
    let contradiction = "version.txt says etcd 3.4.27, but the data was written by etcd 3.7";
    // A step is under way, and the next run would go by the data.
    let text = print(&scratch, OutputFormat::Text);
    assert!(!text.contains(contradiction), "{text}");
    scratch.write("data/.migrate/journal", b"target 3.6.14/etcd3\noutcome done\n");
    let text = print(&scratch, OutputFormat::Text);
    assert!(text.contains(contradiction), "{text}");
}
