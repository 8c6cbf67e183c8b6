//! Lists of small directories.

use super::*;
use crate::scratch::ScratchDirectory;

fn fingerprint(scratch: &ScratchDirectory) -> String {
    MemberFiles::of(&DataLayout::of(scratch.path(), None)).unwrap().fingerprint()
}

#[test]
fn the_fingerprint_changes_with_the_data_and_with_nothing_else() {
    let scratch = ScratchDirectory::new();
    scratch.write("member/snap/db", b"1234");
    scratch.write("member/wal/0.wal", b"log");
    let before = fingerprint(&scratch);
    scratch.write("version.txt", b"3.5.33/etcd3");
    scratch.write(".migrate/journal", b"x");
    // A reader, and what an etcd would remove.
    fs::read(scratch.path().join("member/snap/db")).unwrap();
    scratch.write("member/snap/db.tmp1", b"x");
    assert_eq!(fingerprint(&scratch), before);
    for change in ["member/snap/db", "member/wal/1.wal", "member/snap/0.snap"] {
        let before = fingerprint(&scratch);
        // The clock of a file system has steps.
        std::thread::sleep(std::time::Duration::from_millis(20));
        scratch.write(change, b"4321");
        assert_ne!(fingerprint(&scratch), before, "{change}");
    }
}

#[test]
fn a_list_names_each_directory_before_what_is_in_it() {
    let scratch = ScratchDirectory::new();
    for name in ["snap/db", "wal/0.wal", "wal/more/x", "other/deep/y"] {
        scratch.write(&format!("member/{name}"), b"1");
    }
    let list = MemberFiles::of(&DataLayout::of(scratch.path(), None)).unwrap();
    let names: Vec<_> = list.directories.iter().map(|it| it.to.to_str().unwrap()).collect();
    let expected = ["", "/other", "/other/deep", "/snap", "/wal", "/wal/more"];
    assert_eq!(names, expected.map(|name| format!("member{name}")));
    let files: Vec<_> = list.files.iter().map(|it| it.to.to_str().unwrap()).collect();
    let expected = ["other/deep/y", "snap/db", "wal/0.wal", "wal/more/x"];
    assert_eq!(files, expected.map(|name| format!("member/{name}")));
    assert_eq!(list.size_bytes(), 4);
}
