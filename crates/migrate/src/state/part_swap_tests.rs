//! Replacements inside of links and other directories, ended at every point.

use super::*;
use crate::scratch::ScratchDirectory;

const OLD: [(Part, &str); 4] = [
    (Part::Snap, "db"),
    (Part::Snap, "0000000000000002-0000000000000009.snap"),
    (Part::Wal, "0000000000000000-0000000000000000.wal"),
    (Part::Wal, "0.tmp"),
];
const NEW: [(Part, &str); 3] = [
    (Part::Snap, "db"),
    (Part::Snap, "0000000000000001-0000000000000003.snap"),
    (Part::Wal, "0000000000000000-0000000000000000.wal"),
];

/// Old data whose log is on a fast disk, new data where the tools leave it, and files of others.
fn example() -> (ScratchDirectory, DataLayout) {
    let scratch = ScratchDirectory::new();
    scratch.write("data/.migrate/lock", b"");
    let layout =
        DataLayout::of(&scratch.path().join("data"), Some(&scratch.path().join("fast/log")));
    for (part, name) in OLD {
        write(&layout, part, name, b"old");
    }
    write(&layout, Part::Wal, "README", b"of somebody else");
    write(&layout, Part::Snap, ".hidden", b"of somebody else");
    let restored = restored(&layout);
    for (part, name) in NEW {
        let directory = restored.join("member").join(part.name());
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), b"new").unwrap();
    }
    (scratch, layout)
}

fn restored(layout: &DataLayout) -> PathBuf {
    PartSwap::of(layout).work().join("restored")
}

fn write(layout: &DataLayout, part: Part, name: &str, content: &[u8]) {
    let path = layout.directory(part).join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[track_caller]
fn check_end(layout: &DataLayout) {
    for (part, other) in [(Part::Snap, ".hidden"), (Part::Wal, "README")] {
        let directory = layout.directory(part);
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        let new = NEW.iter().filter(|(it, _)| *it == part).map(|(_, name)| *name);
        let mut expected: Vec<_> = new.chain([other]).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
        for name in names.iter().filter(|name| *name != other) {
            assert_eq!(fs::read(directory.join(name)).unwrap(), b"new", "{name}");
        }
    }
    assert!(!layout.member.join("wal").exists());
}

#[test]
fn a_replacement_that_ends_anywhere_is_finished_by_the_next_one() {
    // The old files are moved out one by one, then the new ones in.
    for moved in 0..=OLD.len() + NEW.len() {
        let (_scratch, layout) = example();
        let swap = PartSwap::of(&layout);
        swap.stage(&restored(&layout)).unwrap();
        swap.note(Phase::Out).unwrap();
        for (part, name) in OLD.iter().take(moved) {
            let replaced = swap.work_in(*part).join("replaced");
            fs::create_dir_all(&replaced).unwrap();
            fs::rename(layout.directory(*part).join(name), replaced.join(name)).unwrap();
        }
        if moved > OLD.len() {
            swap.note(Phase::In).unwrap();
        }
        for (part, name) in NEW.iter().take(moved.saturating_sub(OLD.len())) {
            let staged = swap.staged(*part, &restored(&layout)).join(name);
            fs::rename(staged, layout.directory(*part).join(name)).unwrap();
        }
        let next = PartSwap::of(&layout);
        assert!(next.is_pending());
        // Nothing goes before the end, not even when somebody cleans up.
        next.clear().unwrap();
        next.finish(&restored(&layout)).unwrap();
        assert!(!next.is_pending());
        next.clear().unwrap();
        check_end(&layout);
    }
}

#[test]
fn a_replacement_without_an_interruption_leaves_nothing() {
    let (_scratch, layout) = example();
    let swap = PartSwap::of(&layout);
    swap.finish(&restored(&layout)).unwrap();
    swap.clear().unwrap();
    check_end(&layout);
}

#[test]
fn what_came_into_being_meanwhile_is_not_replaced() {
    let (_scratch, layout) = example();
    let swap = PartSwap::of(&layout);
    swap.stage(&restored(&layout)).unwrap();
    swap.each(|part| swap.move_out(part)).unwrap();
    swap.note(Phase::In).unwrap();
    write(&layout, Part::Snap, "db", b"of an etcd that started meanwhile");
    let failure = swap.finish(&restored(&layout)).unwrap_err();
    assert!(failure.cause.contains("has come into being meanwhile"), "{}", failure.cause);
    assert_eq!(fs::read(layout.db()).unwrap(), b"of an etcd that started meanwhile");
    assert!(swap.is_pending());
}

#[test]
fn a_volume_that_is_not_mounted_is_waited_for() {
    let (scratch, layout) = example();
    let swap = PartSwap::of(&layout);
    swap.stage(&restored(&layout)).unwrap();
    swap.note(Phase::Out).unwrap();
    let away = scratch.path().join("away");
    fs::rename(&layout.wal, &away).unwrap();
    fs::create_dir(&layout.wal).unwrap();
    let failure = swap.finish(&restored(&layout)).unwrap_err();
    assert_eq!(failure.kind, MigrateErrorKind::NotMigratable);
    assert_eq!(fs::read(layout.db()).unwrap(), b"old");
    fs::remove_dir(&layout.wal).unwrap();
    fs::rename(&away, &layout.wal).unwrap();
    swap.finish(&restored(&layout)).unwrap();
    swap.clear().unwrap();
    check_end(&layout);
}
