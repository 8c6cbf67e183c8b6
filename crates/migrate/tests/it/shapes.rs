//! Directories of every shape go up, down in place and down by a snapshot.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::directory::Directory;
use crate::etcd::{Real, Seed, real, side_by_side, spread, succeed};
use crate::events;
use crate::kills::{CALLS, assert_same, backups, kills, points};
use crate::mount::Mount;
use crate::require::{require, require_root};
use crate::shape::{SHAPES, Shape, Shaped};
use crate::surroundings::not_of;

/// From and to, as minors: up, down in place, down by a snapshot.
const JOURNEYS: [(u64, u64); 3] = [(4, 6), (7, 6), (5, 4)];

#[test]
#[ignore = "needs etcd servers and root"]
fn directories_of_every_shape_keep_it() {
    let real = real();
    let seeds = JOURNEYS.map(|(from, _)| real.seed_with(real.version(from), 20));
    let journeys = || JOURNEYS.into_iter().zip(&seeds);
    let all = |shape: Shape| journeys().map(move |way| (shape, way, true));
    // What the last one replaces is nowhere else then.
    let bare = |shape: Shape| journeys().next_back().map(|way| (shape, way, false));
    let cases: Vec<_> =
        SHAPES.into_iter().flat_map(|shape| all(shape).chain(bare(shape))).collect();
    side_by_side(&cases, |(shape, ((from, to), seed), has_copy)| {
        let [from, to] = [*from, *to].map(|minor| real.version(minor));
        let what = format!("{shape:?}, {from} to {to}, with a copy: {has_copy}");
        let mut shaped = Shaped::new(seed, *shape);
        let mut command = shaped.command(&[], to, real);
        if !has_copy {
            command.arg("--no-backup");
        }
        succeed(&shaped.directory, &mut command, to);
        let etcd = shaped.start(real, to);
        assert_eq!(etcd.contents(), seed.contents, "{what}");
        drop(etcd);
        if *has_copy {
            check_copy(real, seed, &shaped.directory, from, &what);
        }
        shaped.check(&what);
        println!("{what}: whole");
    });
}

pub fn copy(from: &Path, to: &Path) {
    let status =
        Command::new("cp").args(["-a", "--sparse=always", "-T"]).arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

/// The copy holds all files itself, and an etcd starts on it.
#[track_caller]
fn check_copy(real: &Real, seed: &Seed, directory: &Directory, from: &str, what: &str) {
    let copies = backups(directory);
    assert_eq!(copies.len(), 1, "{what}");
    assert_same(&seed.directory.path("data/member"), &copies[0].join("member"), what);
    for part in ["member", "member/snap", "member/wal"] {
        let metadata = fs::symlink_metadata(copies[0].join(part)).unwrap();
        assert!(metadata.is_dir(), "{what}: {part}");
    }
    let restored = Directory::new();
    copy(&copies[0], &restored.path("data"));
    real.check(&restored, from, &seed.contents);
}

/// The calls of a migration that is not disturbed.
fn calls(seed: &Seed, shape: Shape, real: &Real, to: &str) -> Vec<(String, usize)> {
    let shaped = Shaped::new(seed, shape);
    let log = shaped.directory.path("calls");
    let trace = format!("trace={CALLS}");
    let wrapper = ["strace", "-qq", "-o", log.to_str().unwrap(), "-e", &trace];
    succeed(&shaped.directory, &mut shaped.command(&wrapper, to, real), to);
    points(&fs::read_to_string(log).unwrap())
}

/// Kills `migrate` before a call. Whether it was killed.
fn kill_before(shaped: &Shaped, (call, count): &(String, usize), to: &str, real: &Real) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={count}");
    let trace = format!("trace={call}");
    let wrapper = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let output = shaped.command(&wrapper, to, real).output().unwrap();
    output.status.signal() == Some(9)
}

#[test]
#[ignore = "needs etcd servers, strace and root"]
fn a_kill_before_any_call_leaves_no_shape_half_replaced() {
    const KILLED: [Shape; 5] = [
        Shape::Link("member/wal"),
        Shape::Tmpfs("member/wal"),
        Shape::Bind("member/snap"),
        Shape::Link("member"),
        Shape::WalDirArgument,
    ];
    let real = real();
    require(&["strace", "-o", "/dev/null", "true"]);
    let [from, to] = [5, 4].map(|minor| real.version(minor));
    let seed = real.seed_with(from, 20);
    for shape in KILLED {
        let all = calls(&seed, shape, real, to);
        // From the first file that is moved to the last one, and everywhere else.
        let renames = all.iter().filter(|(call, _)| call == "rename").cloned();
        let renames: Vec<_> = renames.collect();
        let chosen = if kills() >= 300 {
            all.clone()
        } else {
            [spread(&renames, kills() * 2), spread(&all, kills())].concat()
        };
        let survived = AtomicUsize::new(0);
        side_by_side(&chosen, |point| {
            let mut shaped = Shaped::new(&seed, shape);
            let what = format!("{shape:?}, a kill before {} {}", point.0, point.1);
            let is_killed = kill_before(&shaped, point, to, real);
            survived.fetch_add(usize::from(is_killed), Ordering::Relaxed);
            if let Some(copy) = backups(&shaped.directory).iter().min() {
                assert_same(&seed.directory.path("data/member"), &copy.join("member"), &what);
            }
            succeed(&shaped.directory, &mut shaped.command(&[], to, real), to);
            let etcd = shaped.start(real, to);
            assert_eq!(etcd.contents(), seed.contents, "{what}");
            drop(etcd);
            shaped.check(&what);
        });
        let survived = survived.into_inner();
        println!("{shape:?}: {survived} kills survived, of {} points", all.len());
        assert!(survived * 2 >= chosen.len(), "only {survived} of {} happened", chosen.len());
    }
}

#[test]
#[ignore = "needs etcd servers and root"]
fn files_of_others_stay_theirs_and_the_rest_belongs_to_the_owner_of_the_data() {
    const NOBODY: u32 = 65534;
    require_root();
    let real = real();
    let seed = real.seed_with(real.version(5), 10);
    for shape in [Shape::Link("member/wal"), Shape::WalDirArgument] {
        let mut shaped = Shaped::new(&seed, shape);
        let place = shaped.directory.0.clone();
        let own = Command::new("chown").args(["-R", "65534:65534"]).arg(&place).status().unwrap();
        assert!(own.success());
        let of_others = ["README", "lost+found", "lost+found/x"].map(|name| {
            let path = shaped.elsewhere().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name != "lost+found" {
                fs::write(&path, "of root").unwrap();
            }
            path.display().to_string()
        });
        for to in [4, 6].map(|minor| real.version(minor)) {
            succeed(&shaped.directory, &mut shaped.command(&[], to, real), to);
            let wrong = not_of(NOBODY, &place.join("data"));
            let wrong = wrong.iter().filter(|path| !Path::new(path).is_symlink());
            assert_eq!(wrong.collect::<Vec<_>>(), Vec::<&String>::new(), "{shape:?} {to}");
            let mut left = not_of(NOBODY, &shaped.elsewhere());
            left.sort();
            assert_eq!(left, of_others, "{shape:?} {to}");
        }
        let etcd = shaped.start(real, real.version(6));
        assert_eq!(etcd.contents(), seed.contents);
        drop(etcd);
        shaped.check(&format!("{shape:?}"));
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn what_cannot_be_replaced_is_refused_before_the_first_step() {
    let real = real();
    let [from, to] = [5, 4].map(|minor| real.version(minor));
    let seed = real.seed_with(from, 10);
    let directory = seed.copy();
    let db = directory.path("data/member/snap/db");
    fs::rename(&db, directory.path("big")).unwrap();
    symlink(directory.path("big"), &db).unwrap();
    let refused = |directory: &Directory, what: &str| {
        for flags in [&["--plan"][..], &[]] {
            let mut command = directory.command(to, &real.bin_dir);
            let (code, events) = events::run(command.args(flags));
            assert_eq!(code, Some(3), "{events:?}");
            assert!(events.error().message.contains(what), "{events:?}");
        }
        assert!(backups(directory).is_empty());
    };
    refused(&directory, "is a link to ");
    assert!(db.is_symlink());
    // Upwards nothing is replaced.
    real.migrate(&directory, real.version(6), &[]);
    assert!(db.is_symlink() && directory.path("big").exists());
    // A link that leads nowhere: its volume is not mounted.
    let directory = seed.copy();
    let wal = directory.path("data/member/wal");
    fs::rename(&wal, directory.path("volume")).unwrap();
    symlink("/no/such/volume", &wal).unwrap();
    refused(&directory, "is a link to /no/such/volume, which is not there");
}

#[test]
#[ignore = "needs etcd servers and root"]
fn a_bind_mount_of_the_data_directory_holds_its_copies() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed_with(lowest, 10);
    let directory = Directory::new();
    for name in ["volume", "data"] {
        fs::create_dir(directory.path(name)).unwrap();
    }
    let volume = directory.path("volume");
    let _mount = Mount::new(&["--bind", volume.to_str().unwrap()], &directory.path("data"));
    seed.copy_to(&directory.path("data"));
    real.migrate(&directory, highest, &[]);
    assert!(!directory.path("data.bak").exists());
    assert_eq!(fs::read_dir(volume.join(".migrate/backup")).unwrap().count(), 1);
    real.check(&directory, highest, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers, mkfs.xfs and root"]
fn room_is_judged_for_each_file_where_only_some_can_share_their_blocks() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed_with(lowest, 10);
    let outside = Directory::new();
    let directory = Directory::new();
    let _mount = Mount::xfs(&outside.path("image"), &directory.0);
    seed.copy_to(&directory.path("data"));
    // The database could share its blocks with a copy, the log cannot.
    let wal = directory.path("data/member/wal");
    let moved = Command::new("mv").arg(&wal).arg(outside.path("wal")).status().unwrap();
    assert!(moved.success());
    symlink(outside.path("wal"), &wal).unwrap();
    let free = Command::new("df").args(["--output=avail", "-k"]).arg(&directory.0).output();
    let text = String::from_utf8(free.unwrap().stdout).unwrap();
    let free: u64 = text.lines().last().unwrap().trim().parse().unwrap();
    let filler = directory.path("filler");
    let length = format!("{}KiB", free - 30_000);
    let status = Command::new("fallocate").args(["-l", &length]).arg(&filler).status().unwrap();
    assert!(status.success());
    let (code, events) = events::run(&mut directory.command(highest, &real.bin_dir));
    assert_eq!(code, Some(1), "{events:?}");
    let message = events.error().message.to_owned();
    assert!(message.contains("and a copy of the data") && message.contains("needs"), "{message}");
    assert!(backups(&directory).is_empty());
    fs::remove_file(&filler).unwrap();
    real.migrate(&directory, highest, &[]);
    real.check(&directory, highest, &seed.contents);
    assert!(wal.is_symlink());
}
