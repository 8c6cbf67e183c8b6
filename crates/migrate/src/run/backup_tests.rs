//! Copies of small directories.

use super::*;
use crate::inspect::layout::DataLayout;
use crate::plan::space::StepBytes;
use crate::report::format::OutputFormat;
use crate::scratch::ScratchDirectory;

fn example() -> ScratchDirectory {
    let scratch = ScratchDirectory::new();
    scratch.write("data/member/snap/db", &[7; 5000]);
    scratch.write("data/member/wal/0.wal", b"log");
    scratch.write("data/version.txt", b"3.4.27/etcd3");
    scratch.write("data/.migrate/lock", b"");
    scratch
}

fn backup<'a>(store: &'a BackupStore, layout: &'a DataLayout, stop: &'a StopSignal) -> Backup<'a> {
    let space = SpaceCheck { layout, steps: StepBytes::default() };
    Backup { space, store, log: EventLog::new(OutputFormat::Text), stop }
}

fn make_on(store: &BackupStore, data_dir: &Path) -> Result<PathBuf, MigrateError> {
    backup(store, &DataLayout::of(data_dir, None), &StopSignal::default()).make()
}

fn make_in(scratch: &ScratchDirectory) -> Result<PathBuf, MigrateError> {
    let data_dir = scratch.path().join("data");
    make_on(&BackupStore::of(&data_dir, None), &data_dir)
}

#[test]
fn a_copy_is_whole_and_does_not_change_with_the_data() {
    let scratch = example();
    let copy = make_in(&scratch).unwrap();
    scratch.write("data/member/snap/db", b"changed");
    assert_eq!(fs::read(copy.join("member/snap/db")).unwrap(), [7; 5000]);
    assert_eq!(fs::read(copy.join("member/wal/0.wal")).unwrap(), b"log");
    assert_eq!(fs::read(copy.join("version.txt")).unwrap(), b"3.4.27/etcd3");
    let left = fs::read_dir(scratch.path().join("data.bak")).unwrap().flatten();
    let is_partial = |name: std::ffi::OsString| name.to_string_lossy().starts_with("partial");
    assert!(!left.map(|entry| entry.file_name()).any(is_partial));
}

#[test]
fn only_the_newest_copies_stay_and_nothing_else_goes() {
    let scratch = example();
    scratch.write("data.bak/member/snap/db", b"of the old program");
    let copies: Vec<_> = (0..4).map(|_| make_in(&scratch).unwrap()).collect();
    // A copy of earlier code has no label.
    fs::remove_file(copies[1].join("data-directory")).unwrap();
    let layout = DataLayout::of(&scratch.path().join("data"), None);
    let store = BackupStore::of(&layout.data_dir, None);
    assert_eq!(store.copies(), copies);
    backup(&store, &layout, &StopSignal::default()).retain(2, &copies[0]);
    let kept: Vec<_> = copies.iter().map(|copy| copy.exists()).collect();
    // Only what has our label goes.
    assert_eq!(kept, [true, true, true, true]);
    backup(&store, &layout, &StopSignal::default()).retain(1, &copies[3]);
    let kept: Vec<_> = copies.iter().map(|copy| copy.exists()).collect();
    assert_eq!(kept, [false, true, false, true]);
    assert!(scratch.path().join("data.bak/member/snap/db").exists());
}

#[test]
fn a_place_for_several_directories_loses_no_copy_of_another_and_keeps_its_mode() {
    let place = ScratchDirectory::new();
    place.write("notes.txt", b"mine");
    let kept = place.path().join("2020-01-01T000000Z");
    place.write("2020-01-01T000000Z/member/snap/db", b"of whom?");
    let directories = [example(), example()];
    let stores = directories.each_ref().map(|directory| {
        let data_dir = directory.path().join("data");
        (BackupStore::of(&data_dir, Some(place.path())), data_dir)
    });
    let [one, other] = stores.each_ref().map(|(store, data_dir)| make_on(store, data_dir).unwrap());
    let newest = make_on(&stores[0].0, &stores[0].1).unwrap();
    // An unfinished copy of the other, which may be running now.
    let (half, _record) = stores[1].0.begin().unwrap();
    let layout = DataLayout::of(&stores[0].1, None);
    backup(&stores[0].0, &layout, &StopSignal::default()).retain(1, &newest);
    assert!(!one.exists() && newest.exists() && other.exists() && kept.exists());
    make_on(&stores[0].0, &stores[0].1).unwrap();
    assert!(half.exists());
    assert_eq!(stores[1].0.copies(), [kept, other]);
}

#[test]
fn what_etcd_removes_at_its_start_is_not_copied() {
    let scratch = example();
    let leftovers = ["tmp158215125", "db.tmp123", "0000000000000001-0000000000000002.snap.broken"];
    for name in leftovers {
        scratch.write(&format!("data/member/snap/{name}"), &[0; 100]);
    }
    scratch.write("data/member/tmp1", b"not in snap");
    let copy = make_in(&scratch).unwrap();
    assert!(leftovers.iter().all(|name| !copy.join("member/snap").join(name).exists()));
    assert!(copy.join("member/tmp1").exists());
}

#[cfg(unix)]
#[test]
fn only_a_place_that_was_made_for_the_copies_is_like_the_data() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = example();
    let mode = |name: &str| fs::metadata(scratch.path().join(name)).unwrap().permissions();
    let set = |name: &str, mode| platform::set_mode(&scratch.path().join(name), mode).unwrap();
    set("data", 0o700);
    scratch.write("shared/notes.txt", b"");
    set("shared", 0o755);
    for (place, expected) in [("shared", 0o755), ("new", 0o700)] {
        let data_dir = scratch.path().join("data");
        let store = BackupStore::of(&data_dir, Some(&scratch.path().join(place)));
        let copy = make_on(&store, &data_dir).unwrap();
        assert_eq!(mode(place).mode() & 0o777, expected, "{place}");
        assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn a_half_made_copy_is_cleared_away_first() {
    let scratch = example();
    let store = BackupStore::of(&scratch.path().join("data"), None);
    let (half, _) = store.begin().unwrap();
    fs::create_dir(half.join("member")).unwrap();
    scratch.write("data.bak/partial/notes", b"of somebody else");
    let copy = make_in(&scratch).unwrap();
    assert_eq!(fs::read(copy.join("member/snap/db")).unwrap(), [7; 5000]);
    assert!(!half.exists() && scratch.path().join("data.bak/partial/notes").exists());
}

#[test]
fn a_copy_that_cannot_be_made_is_an_error() {
    let scratch = example();
    scratch.write("data.bak", b"a file");
    assert_eq!(make_in(&scratch).unwrap_err().kind, MigrateErrorKind::System);
}

/// A copy that was interrupted when half of the database was there, in which the durable bytes are
/// others than those of the original, so that it shows whether they were copied again.
fn interrupted(scratch: &ScratchDirectory) -> (BackupStore, PathBuf) {
    let layout = DataLayout::of(&scratch.path().join("data"), None);
    let store = BackupStore::of(&layout.data_dir, None);
    let stop = StopSignal::default();
    stop.raise(15);
    let failure = backup(&store, &layout, &stop).make().unwrap_err();
    assert_eq!(failure.kind, MigrateErrorKind::Interrupted(15));
    let (partial, mut record) = store.begin().unwrap();
    for file in MemberFiles::of(&layout).unwrap().files {
        let is_db = file.to.ends_with("db");
        let bytes = if is_db { 3000 } else { file.bytes };
        fs::write(partial.join(&file.to), vec![b'!'; usize::try_from(bytes).unwrap()]).unwrap();
        record.note(&file.to, &file.mark, bytes);
    }
    (store, layout.data_dir)
}

#[test]
fn a_copy_that_was_interrupted_goes_on() {
    let scratch = example();
    let (store, data_dir) = interrupted(&scratch);
    scratch.write("data/version.txt", b"3.5.33/etcd3");
    let copy = make_on(&store, &data_dir).unwrap();
    let db = fs::read(copy.join("member/snap/db")).unwrap();
    assert_eq!(db, [[b'!'; 3000].as_slice(), [7; 2000].as_slice()].concat());
    assert_eq!(fs::read(copy.join("member/wal/0.wal")).unwrap(), b"!!!");
    assert_eq!(fs::read(copy.join("version.txt")).unwrap(), b"3.5.33/etcd3");
    // The next copy has nothing to do with it.
    assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 1);
    let next = make_on(&store, &data_dir).unwrap();
    assert_eq!(fs::read(next.join("member/snap/db")).unwrap(), [7; 5000]);
}

#[test]
fn what_has_changed_since_the_interruption_is_copied_again() {
    let scratch = example();
    let (store, data_dir) = interrupted(&scratch);
    // The same length; one file goes, and another one is new.
    scratch.write("data/member/snap/db", &[8; 5000]);
    fs::remove_file(data_dir.join("member/wal/0.wal")).unwrap();
    scratch.write("data/member/wal/1.wal", b"new");
    scratch.write("data/member/extra/notes", b"");
    let copy = make_on(&store, &data_dir).unwrap();
    assert_eq!(fs::read(copy.join("member/snap/db")).unwrap(), [8; 5000]);
    assert_eq!(fs::read(copy.join("member/wal/1.wal")).unwrap(), b"new");
    assert!(!copy.join("member/wal/0.wal").exists() && copy.join("member/extra/notes").exists());
}

#[test]
fn a_file_that_was_replaced_by_one_of_the_same_length_and_time_is_copied_again() {
    let scratch = example();
    let (store, data_dir) = interrupted(&scratch);
    let db = data_dir.join("member/snap/db");
    let time = fs::metadata(&db).unwrap().modified().unwrap();
    fs::remove_file(&db).unwrap();
    scratch.write("data/member/snap/db", &[8; 5000]);
    fs::File::options().write(true).open(&db).unwrap().set_modified(time).unwrap();
    let copy = make_on(&store, &data_dir).unwrap();
    assert_eq!(fs::read(copy.join("member/snap/db")).unwrap(), [8; 5000]);
}

#[test]
fn a_copy_that_does_not_fit_leaves_nothing() {
    let scratch = example();
    let (store, data_dir) = interrupted(&scratch);
    let layout = DataLayout::of(&data_dir, None);
    let stop = StopSignal::default();
    let space = SpaceCheck { layout: &layout, steps: StepBytes { log: 1 << 60, restored: 0 } };
    let failure = Backup { space, ..backup(&store, &layout, &stop) }.make().unwrap_err();
    assert_eq!(failure.kind, MigrateErrorKind::System);
    assert!(failure.cause.contains("a copy of the data with what the steps write needs"));
    assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_the_copy_holds_files() {
    use std::os::unix::fs::symlink;

    for part in ["member", "member/snap", "member/wal"] {
        let scratch = example();
        let [from, to] = ["data", "disk"].map(|name| scratch.path().join(name).join(part));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(&from, &to).unwrap();
        symlink(&to, &from).unwrap();
        let copy = make_in(&scratch).unwrap();
        for path in ["member", "member/snap", "member/wal"] {
            assert!(!copy.join(path).is_symlink(), "{part}");
        }
        assert_eq!(fs::read(copy.join("member/snap/db")).unwrap(), [7; 5000]);
        assert_eq!(fs::read(copy.join("member/wal/0.wal")).unwrap(), b"log");
    }
}

#[test]
fn a_log_apart_is_part_of_the_copy_and_files_of_others_are_not() {
    let scratch = example();
    fs::rename(scratch.path().join("data/member/wal"), scratch.path().join("fast")).unwrap();
    scratch.write("fast/README", b"of somebody else");
    scratch.write("fast/other/0.wal", b"of somebody else");
    let layout = DataLayout::of(&scratch.path().join("data"), Some(&scratch.path().join("fast")));
    let store = BackupStore::of(&layout.data_dir, None);
    let copy = backup(&store, &layout, &StopSignal::default()).make().unwrap();
    let names = fs::read_dir(copy.join("member/wal")).unwrap().map(|it| it.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["0.wal"]);
    // One in `member` is copied once.
    fs::rename(scratch.path().join("fast"), layout.member.join("log")).unwrap();
    let layout = DataLayout::of(&layout.data_dir, Some(&layout.member.join("log")));
    let copy = backup(&store, &layout, &StopSignal::default()).make().unwrap();
    assert!(copy.join("member/wal/0.wal").exists() && !copy.join("member/log").exists());
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_left_out() {
    use std::os::unix::{fs::symlink, net::UnixListener};

    let scratch = example();
    let member = scratch.path().join("data/member");
    symlink("nowhere", member.join("snap/broken")).unwrap();
    symlink(".", member.join("circle")).unwrap();
    symlink("snap/db", member.join("link")).unwrap();
    let _socket = UnixListener::bind(member.join("socket")).unwrap();
    scratch.write("data/member/wal/lost+found/x", b"");
    let copy = make_in(&scratch).unwrap();
    for name in ["snap/broken", "circle", "socket", "wal/lost+found"] {
        assert!(!copy.join("member").join(name).exists(), "{name}");
    }
    assert_eq!(fs::read(copy.join("member/link")).unwrap(), [7; 5000]);
}
