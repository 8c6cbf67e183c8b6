//! Data directories in all shapes.

use super::*;
use crate::scratch::ScratchDirectory;

fn example() -> ScratchDirectory {
    let scratch = ScratchDirectory::new();
    scratch.write("data/member/snap/db", b"");
    scratch.write("data/member/wal/0.wal", b"");
    scratch.write("fast/log/0.wal", b"");
    scratch
}

fn layout(scratch: &ScratchDirectory, wal_dir: Option<&str>) -> DataLayout {
    let wal_dir = wal_dir.map(|name| scratch.path().join(name));
    DataLayout::of(&scratch.path().join("data"), wal_dir.as_deref())
}

#[test]
fn plain_directories_can_be_renamed() {
    let scratch = example();
    for wal_dir in [None, Some("data/member/wal"), Some("data/member/../member/wal")] {
        let layout = layout(&scratch, wal_dir);
        assert_eq!(layout.unusual(), []);
        assert!(layout.can_be_renamed() && !layout.has_log_apart());
        layout.refuse_to_replace().unwrap();
    }
    let nothing = DataLayout::of(&scratch.path().join("nothing"), None);
    assert!(nothing.can_be_renamed());
}

#[test]
fn a_log_apart_is_where_the_operator_says() {
    let scratch = example();
    let layout = layout(&scratch, Some("fast/log"));
    assert!(layout.has_log_apart() && !layout.can_be_renamed());
    assert_eq!(layout.unusual(), [(&*scratch.path().join("fast/log"), Shape::Apart)]);
}

#[cfg(unix)]
#[test]
fn links_are_seen_and_those_that_lead_nowhere_are_refused() {
    use std::os::unix::fs::symlink;

    for part in ["member", "member/snap", "member/wal"] {
        let scratch = example();
        let path = scratch.path().join("data").join(part);
        let target = scratch.path().join("elsewhere");
        fs::rename(&path, &target).unwrap();
        symlink("nowhere", &path).unwrap();
        let layout = layout(&scratch, None);
        let failure = layout.refuse_broken_links().unwrap_err();
        assert_eq!(failure.kind, MigrateErrorKind::NotMigratable);
        let expected = format!("{} is a link to nowhere, which is not there", path.display());
        assert_eq!(failure.cause, expected);
        fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        layout.refuse_broken_links().unwrap();
        layout.refuse_to_replace().unwrap();
        assert_eq!(layout.unusual(), [(&*path, Shape::Link(target))]);
        assert!(!layout.can_be_renamed());
    }
}

#[cfg(unix)]
#[test]
fn a_file_of_etcd_that_is_a_link_cannot_be_replaced() {
    use std::os::unix::fs::symlink;

    let scratch = example();
    let layout = layout(&scratch, None);
    symlink("elsewhere", layout.snap.join("notes")).unwrap();
    layout.refuse_to_replace().unwrap();
    fs::remove_file(layout.db()).unwrap();
    symlink("/big/db", layout.db()).unwrap();
    let failure = layout.refuse_to_replace().unwrap_err();
    assert_eq!(failure.kind, MigrateErrorKind::NotMigratable);
    let expected = format!("{} is a link to /big/db: ", layout.db().display());
    assert!(failure.cause.starts_with(&expected), "{}", failure.cause);
    fs::remove_dir_all(&layout.wal).unwrap();
    symlink("snap", &layout.wal).unwrap();
    let failure = layout.refuse_to_replace().unwrap_err();
    assert!(failure.cause.ends_with(" are one directory"), "{}", failure.cause);
}

#[test]
fn only_what_etcd_has_written_is_its_own() {
    for (part, names) in [
        (
            Part::Snap,
            &["db", "0000000000000001-0000000000000002.snap", "0000000000000007.snap.db"][..],
        ),
        (Part::Snap, &["x.snap.broken", "tmp158215125", "db.tmp123"]),
        (Part::Wal, &["0000000000000000-0000000000000000.wal", "0.tmp", "x.wal.broken"]),
    ] {
        assert!(names.iter().all(|name| part.is_of_etcd(OsStr::new(name))), "{names:?}");
    }
    for name in ["README", "lost+found", ".snapshot", ".migrate-swap", "backup"] {
        assert!(!Part::ALL.iter().any(|part| part.is_of_etcd(OsStr::new(name))), "{name}");
    }
}
