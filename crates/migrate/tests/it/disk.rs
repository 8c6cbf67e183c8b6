//! Disks that are full, read-only or broken, and copies of the data.
//!
//! After each fault the disk is repaired, and the next run must succeed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::directory::Directory;
use crate::etcd::{Real, Seed, amount, real, side_by_side, spread, succeed};
use crate::events::{self, Events, Running};
use crate::kills::{assert_same, backups, points};
use crate::mount::Mount;
use crate::require::require;

/// Cases of each test when not everything is asked for.
fn cases() -> usize {
    if amount("ETCDIMG_REAL_KILLS", 0) >= 300 { usize::MAX } else { 6 }
}

fn migrations(real: &Real) -> [(&str, &str); 2] {
    let (lowest, highest) = real.ends();
    [(lowest, highest), (real.version(5), real.version(4))]
}

/// Runs into the fault: one clear error, or none if the fault was not met. The step it was met in.
#[track_caller]
fn fails_clearly(
    real: &Real,
    directory: &Directory,
    command: &mut Command,
    what: &str,
) -> Option<String> {
    let (code, events) = events::run(command);
    judge(real, directory, (code, &events), what)
}

#[track_caller]
fn judge(
    real: &Real,
    directory: &Directory,
    (code, events): (Option<i32>, &Events),
    what: &str,
) -> Option<String> {
    let version = directory.version();
    let known = real.versions.values().any(|known| version == format!("{known}/etcd3"));
    assert!(known, "{what}: version.txt says {version:?}");
    if code == Some(0) {
        return None;
    }
    assert!(code == Some(1) || code == Some(4), "{what}: {code:?} {events:?}");
    let error = events.error();
    // Exit code 1 is for what changed nothing.
    let has_begun = !events.started().is_empty();
    assert!(!has_begun || code == Some(4), "{what}: {code:?} {events:?}");
    let says_next = error.hints.contains(&"run migrate again: it goes on where it stopped");
    assert!(!has_begun || says_next, "{what}: {events:?}");
    let left = ["restored", "staged"].map(|name| directory.path("data/.migrate").join(name));
    let is_clean = !left.iter().any(|path| path.exists());
    let is_between = !directory.path("data/member").exists();
    assert!(is_clean || is_between || what.contains("unlink"), "{what}: {events:?}");
    // For the table only.
    let steps = events.messages("step");
    Some(steps.last().copied().unwrap_or("before any step").to_owned())
}

/// In which steps the faults were met, and how often.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, usize>>);

impl Tally {
    fn add(&self, step: Option<String>) {
        let step = step.unwrap_or_else(|| "nowhere".to_owned());
        *self.0.lock().unwrap().entry(step).or_default() += 1;
    }

    /// Prints the table. A fault that hardly any run met proves nothing.
    #[track_caller]
    fn end(self, what: &str, at_least: usize) {
        let table = self.0.into_inner().unwrap();
        let words: Vec<_> = table.iter().map(|(step, count)| format!("{step} {count}")).collect();
        println!("{what}: {}", words.join(", "));
        let met: usize =
            table.iter().filter(|(step, _)| *step != "nowhere").map(|(_, count)| count).sum();
        assert!(met >= at_least, "{what}: only {met} runs met it");
    }
}

/// A run on a file system that is too small, and one after it has grown.
fn with_little_room(
    real: &Real,
    (seed, to): (&Seed, &str),
    (options, grown): (&str, &str),
    flags: &[&str],
    tally: &Tally,
) {
    let directory = Directory::new();
    let mount = Mount::tmpfs("size=4g", &directory.0);
    seed.copy_to(&directory.path("data"));
    mount.remount(options);
    let command = || {
        let mut command = directory.command(to, &real.bin_dir);
        command.args(flags);
        command
    };
    tally.add(fails_clearly(real, &directory, &mut command(), options));
    mount.remount(grown);
    succeed(&directory, &mut command(), to);
    real.check(&directory, to, &seed.contents);
}

fn used(what: &str, directory: &Path) -> u64 {
    let output = Command::new("du").args(["-s", what]).arg(directory).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs etcd servers and root"]
fn a_disk_without_room_for_one_more_file_is_reported_and_survived() {
    let real = real();
    for (from, to) in migrations(real) {
        let seed = real.seed(from);
        let files = used("--inodes", &seed.directory.path("data")) + 1;
        let all: Vec<_> = (0..20).collect();
        let tally = Tally::default();
        side_by_side(&spread(&all, cases()), |more| {
            let options = format!("nr_inodes={}", files + more);
            let room = (options.as_str(), "nr_inodes=100000");
            with_little_room(real, (&seed, to), room, &[], &tally);
        });
        tally.end(&format!("{from} -> {to}, no inode left"), 3);
    }
}

#[test]
#[ignore = "needs etcd servers and root"]
fn a_full_disk_is_reported_and_survived() {
    // KiB beyond what the data takes; etcd lays out logs of 64 MiB.
    const ROOM: [u64; 18] =
        [0, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 8192, 66_000, 100_000, 132_000];
    let real = real();
    for (from, to) in migrations(real) {
        let seed = real.seed(from);
        let kilobytes = used("-k", &seed.directory.path("data"));
        let with_flags =
            |flags: &'static [&str]| ROOM.iter().map(move |more| (*more, flags)).collect();
        let all: [Vec<_>; 2] = [with_flags(&[]), with_flags(&["--no-backup"])];
        let tally = Tally::default();
        side_by_side(&spread(&all.concat(), cases()), |(more, flags)| {
            let options = format!("size={}k", kilobytes + more);
            let room = (options.as_str(), "size=4g");
            with_little_room(real, (&seed, to), room, flags, &tally);
        });
        tally.end(&format!("{from} -> {to}, no space left"), 3);
    }
}

/// Another program fills the disk after `migrate` has checked the free space.
#[test]
#[ignore = "needs etcd servers and root"]
fn a_disk_that_fills_while_a_server_runs_is_reported_and_survived() {
    const ROOM: [u64; 6] = [0, 16, 256, 4096, 32_000, 66_000];
    let real = real();
    for (from, to) in migrations(real) {
        let seed = real.seed(from);
        let tally = Tally::default();
        side_by_side(&ROOM, |more| {
            let directory = Directory::new();
            let mount = Mount::tmpfs("size=4g", &directory.0);
            seed.copy_to(&directory.path("data"));
            let mut command = directory.command(to, &real.bin_dir);
            let mut running = Running::spawn(&mut command);
            running.wait_for_server();
            mount.leave(*more);
            let (code, events) = running.end();
            tally.add(judge(real, &directory, (code, &events), &format!("{more} KiB left")));
            mount.remount("size=4g");
            succeed(&directory, &mut directory.command(to, &real.bin_dir), to);
            real.check(&directory, to, &seed.contents);
        });
        tally.end(&format!("{from} -> {to}, the disk fills"), 1);
    }
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_call_that_fails_anywhere_is_reported_and_survived() {
    const FAULTS: [(&str, &str); 8] = [
        ("write", "ENOSPC"),
        ("rename", "EIO"),
        ("fsync", "EIO"),
        ("mkdir", "ENOSPC"),
        ("unlinkat", "EIO"),
        ("unlink", "EIO"),
        ("copy_file_range", "ENOSPC"),
        ("clone3", "EAGAIN"),
    ];
    let real = real();
    require(&["strace", "-o", "/dev/null", "true"]);
    for (from, to) in migrations(real) {
        let seed = real.seed(from);
        let directory = seed.copy();
        let log = directory.path("calls");
        let names: Vec<_> = FAULTS.iter().map(|(call, _)| *call).collect();
        let trace = format!("trace={}", names.join(","));
        let wrapper = ["strace", "-qq", "-o", log.to_str().unwrap(), "-e", &trace];
        succeed(&directory, &mut directory.command_under(&wrapper, to, &real.bin_dir), to);
        let all = points(&fs::read_to_string(log).unwrap());
        let tally = Tally::default();
        let chosen = spread(&all, cases());
        side_by_side(&chosen, |(call, count)| {
            let (_, fault) = FAULTS.iter().find(|(name, _)| name == call).unwrap();
            let what = format!("{fault} by {call} {count}");
            let trace = format!("trace={call}");
            let inject = format!("inject={call}:error={fault}:when={count}");
            let wrapper = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let directory = seed.copy();
            let mut command = directory.command_under(&wrapper, to, &real.bin_dir);
            tally.add(fails_clearly(real, &directory, &mut command, &what));
            succeed(&directory, &mut directory.command(to, &real.bin_dir), to);
            real.check(&directory, to, &seed.contents);
        });
        tally.end(&format!("{from} -> {to}, {} of {} calls failed", chosen.len(), all.len()), 1);
    }
}

#[test]
#[ignore = "needs etcd servers and root"]
fn a_read_only_disk_stops_only_those_who_have_work_to_do() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = seed.copy();
    let mount = Mount::read_only(&directory.path("data"));
    let run =
        |to: &str, flags: &[&str]| events::run(directory.command(to, &real.bin_dir).args(flags));
    let (code, events) = run(lowest, &[]);
    assert_eq!(code, Some(0), "{events:?}");
    assert_eq!(run(highest, &["--plan"]).0, Some(0));
    for to in [real.version(5), highest] {
        let (code, events) = run(to, &[]);
        assert_eq!(code, Some(1), "{events:?}");
        assert!(events.error().message.contains("Read-only file system"), "{events:?}");
    }
    drop(mount);
    real.migrate(&directory, highest, &[]);
    real.check(&directory, highest, &seed.contents);
}

/// Files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
#[ignore = "needs etcd servers"]
fn copies_are_whole_and_independent_and_as_many_as_asked_for() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = seed.copy();
    real.migrate(&directory, highest, &[]);
    let copies = backups(&directory);
    assert_eq!(copies.len(), 1);
    assert_same(&seed.directory.path("data/member"), &copies[0].join("member"), "the copy");
    assert_same(&seed.directory.path("data/version.txt"), &copies[0].join("version.txt"), "");
    for file in files(&copies[0]) {
        assert_eq!(fs::metadata(&file).unwrap().nlink(), 1, "{} is linked", file.display());
    }
    // The copy is good for its purpose.
    let restored = Directory::new();
    fs::rename(&copies[0], restored.path("data")).unwrap();
    real.check(&restored, lowest, &seed.contents);

    for (index, to) in [lowest, highest, lowest].into_iter().enumerate() {
        let flags = ["--allow-multi-step-downgrade", "--backup-retain=2"];
        let events = real.migrate(&directory, to, &flags);
        assert!(events.made_a_copy(), "{events:?}");
        assert_eq!(events.has("retain"), index == 2, "{events:?}");
        assert_eq!(backups(&directory).len(), (index + 1).min(2));
    }
    let without = seed.copy();
    let events = real.migrate(&without, highest, &["--no-backup"]);
    assert!(events.has("no-backup") && !events.made_a_copy(), "{events:?}");
    assert!(!without.path("data.bak").exists());
}

#[test]
#[ignore = "needs etcd servers and root"]
fn a_copy_that_does_not_fit_is_refused_before_anything_is_written() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = seed.copy();
    let copies = directory.path("data.bak");
    fs::create_dir(&copies).unwrap();
    let _mount = Mount::tmpfs("size=32m", &copies);
    let (code, events) = events::run(&mut directory.command(highest, &real.bin_dir));
    assert_eq!(code, Some(1), "{events:?}");
    let error = events.error();
    assert!(error.message.contains("and a copy of the data needs"), "{error:?}");
    assert!(error.hints[0].starts_with("nothing was changed"), "{error:?}");
    assert_eq!(events.started(), [""; 0]);
    assert_same(&seed.directory.path("data/member"), &directory.path("data/member"), "the data");
    assert_eq!(files(&copies), Vec::<PathBuf>::new());
    // Elsewhere there is room.
    let elsewhere = Directory::new();
    let flag = format!("--backup-dir={}", elsewhere.path("copies").display());
    real.migrate(&directory, highest, &[&flag]);
    assert_eq!(fs::read_dir(elsewhere.path("copies")).unwrap().count(), 1);
    real.check(&directory, highest, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers, mkfs.xfs and root"]
fn a_copy_shares_its_blocks_where_the_file_system_can() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let outside = Directory::new();
    let directory = Directory::new();
    let image = outside.path("image");
    let _mount = Mount::xfs(&image, &directory.0);
    seed.copy_to(&directory.path("data"));
    let events = real.migrate(&directory, highest, &[]);
    // The proof is below; this is what a person reads.
    assert!(events.messages("backup")[0].contains("sharing its blocks"), "{events:?}");
    let copies = backups(&directory);
    assert_same(&seed.directory.path("data/member"), &copies[0].join("member"), "the copy");
    for file in files(&copies[0].join("member")) {
        assert_eq!(fs::metadata(&file).unwrap().nlink(), 1, "{} is linked", file.display());
    }
    // The first of the log is not written to again, so all of it is still shared.
    let log = files(&copies[0].join("member/wal")).into_iter().min().unwrap();
    let map = Command::new("filefrag").arg("-v").arg(&log).output().unwrap();
    let map = String::from_utf8(map.stdout).unwrap();
    assert!(map.contains("shared"), "{map}");
    real.check(&directory, highest, &seed.contents);
}
