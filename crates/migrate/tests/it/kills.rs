//! `migrate` and its servers are killed; the next run goes on and nothing is lost.
//!
//! `ETCDIMG_REAL_KILLS` is the number of kills of each test. From 300 on every call that changes
//! something on the disk is one of them, of each kind of migration.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::directory::{Directory, outcome};
use crate::etcd::{Real, Seed, amount, own_programs, real, side_by_side, spread, succeed};
use crate::events::{Events, Failure};
use crate::require::require;

/// The calls by which `migrate` changes the disk or its servers.
pub const CALLS: &str = "write,rename,renameat2,link,linkat,fsync,fdatasync,unlink,unlinkat,mkdir,\
                     copy_file_range,sendfile,ftruncate,fchmod,chmod,ioctl,clone3,kill";

pub fn kills() -> usize {
    amount("ETCDIMG_REAL_KILLS", 6)
}

/// One way to go, with flags for `migrate`.
struct MigrationCase<'a> {
    real: &'a Real,
    seed: Seed,
    from: &'a str,
    to: &'a str,
}

impl<'a> MigrationCase<'a> {
    fn new(real: &'a Real, from: &'a str, to: &'a str) -> Self {
        Self { real, seed: real.seed(from), from, to }
    }

    fn command(&self, directory: &Directory, wrapper: &[&str]) -> Command {
        let mut command = directory.command_under(wrapper, self.to, &self.real.bin_dir);
        command.arg("--allow-multi-step-downgrade");
        command
    }

    /// What must hold at any moment, whoever was killed.
    fn check_halves(&self, directory: &Directory, what: &str) {
        let version = directory.version();
        let known = self.real.versions.values().any(|known| version == format!("{known}/etcd3"));
        assert!(known, "{what}: version.txt says {version:?}");
        // The oldest complete copy is of the untouched data, and is whole.
        let mut copies = backups(directory);
        copies.sort();
        if let Some(copy) = copies.first() {
            let original = self.seed.directory.path("data/member");
            assert_same(&original, &copy.join("member"), what);
        }
    }

    fn check_end(&self, directory: &Directory, what: &str) {
        succeed(directory, &mut self.command(directory, &[]), self.to);
        let etcd = self.real.start(directory, self.to);
        assert_eq!(etcd.contents(), self.seed.contents, "after {what}");
    }
}

/// Complete copies, which have a time for a name.
pub fn backups(directory: &Directory) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory.path("data.bak")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.filter(|path| !name(path).starts_with("partial")).collect()
}

pub fn assert_same(one: &Path, other: &Path, what: &str) {
    let status = Command::new("diff").arg("-rq").arg(one).arg(other).output().unwrap();
    assert!(status.status.success(), "{what}: {}", String::from_utf8_lossy(&status.stdout));
}

/// Every call of a migration that is not disturbed, as its name and which one of that name it is.
pub fn points(log: &str) -> Vec<(String, usize)> {
    let mut points: Vec<(String, usize)> = Vec::new();
    for line in log.lines() {
        let Some((name, _)) = line.split_once('(').filter(|(name, _)| !name.contains(' ')) else {
            continue;
        };
        let before = points.iter().filter(|(known, _)| known == name).count();
        points.push((name.to_owned(), before + 1));
    }
    points
}

/// Kills `migrate`, not its servers, before each of its calls.
fn kill_at_every_point(minors: impl Fn(&Real) -> (&str, &str)) {
    let real = real();
    require(&["strace", "-o", "/dev/null", "true"]);
    let (from, to) = minors(real);
    let case = MigrationCase::new(real, from, to);
    let directory = case.seed.copy();
    let log = directory.path("calls");
    let trace = format!("trace={CALLS}");
    let wrapper = ["strace", "-qq", "-o", log.to_str().unwrap(), "-e", &trace];
    succeed(&directory, &mut case.command(&directory, &wrapper), to);
    let all = points(&fs::read_to_string(log).unwrap());
    let chosen = if kills() >= 300 { all.clone() } else { spread(&all, kills()) };
    let survived = AtomicUsize::new(0);
    side_by_side(&chosen, |(call, count)| {
        let directory = case.seed.copy();
        let what = format!("a kill before {call} {count}");
        let inject = format!("inject={call}:signal=KILL:when={count}");
        let trace = format!("trace={call}");
        let wrapper = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let output = case.command(&directory, &wrapper).output().unwrap();
        // A run may have fewer lines to write than the one that was counted.
        let is_killed = output.status.signal() == Some(9);
        survived.fetch_add(usize::from(is_killed), Ordering::Relaxed);
        case.check_halves(&directory, &what);
        case.check_end(&directory, &what);
    });
    let survived = survived.into_inner();
    println!("{} -> {}: {survived} kills survived, of {} points", case.from, to, all.len());
    // On a loaded machine the run that was counted may have started a server twice.
    assert!(survived * 2 >= chosen.len(), "only {survived} of {} happened", chosen.len());
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_kill_before_any_call_of_an_upgrade_loses_nothing() {
    kill_at_every_point(Real::ends);
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_kill_before_any_call_of_a_downgrade_by_snapshot_loses_nothing() {
    kill_at_every_point(|real| (real.version(5), real.version(4)));
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_kill_before_any_call_of_a_downgrade_in_place_loses_nothing() {
    kill_at_every_point(|real| (real.version(6), real.version(5)));
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_kill_while_programs_are_replaced_leaves_programs_that_run() {
    let real = real();
    require(&["strace", "-o", "/dev/null", "true"]);
    let versions = [real.version(5), real.version(6)];
    let bin = own_programs(real, &versions);
    let run = |wrapper: &[&str], to: &str| {
        let directory = Directory::new();
        let mut command = directory.command_under(wrapper, to, &bin.0);
        command.env_remove("DO_NOT_MOVE_BINARIES").output().unwrap()
    };
    let plain = |name: &str| {
        let mut command = Command::new(bin.path(name));
        let word = if name == "etcd" { "--version" } else { "version" };
        let (code, stdout, stderr) = outcome(&command.arg(word).output().unwrap());
        assert_eq!(code, Some(0), "{stderr}");
        let version = stdout.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
        versions.iter().position(|known| *known == version).expect(&stdout)
    };
    let mut survived = 0;
    for call in ["rename", "linkat", "link", "unlink", "fsync"] {
        for count in 1.. {
            assert_eq!(run(&[], versions[0]).status.code(), Some(0));
            assert_eq!(["etcd", "etcdctl", "etcdutl"].map(plain), [0, 0, 0]);
            let trace = format!("trace={call}");
            let inject = format!("inject={call}:signal=KILL:when={count}");
            let wrapper = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let is_killed = run(&wrapper, versions[1]).status.signal() == Some(9);
            for name in ["etcd", "etcdctl", "etcdutl"] {
                plain(name);
            }
            assert_eq!(run(&[], versions[1]).status.code(), Some(0));
            assert_eq!(["etcd", "etcdctl", "etcdutl"].map(plain), [1, 1, 1]);
            if !is_killed {
                break;
            }
            survived += 1;
        }
    }
    assert!(!bin.path("etcd-next").exists());
    assert!(survived >= 6, "only {survived} kills");
    println!("swap of the plain programs: {survived} kills survived");
}

#[test]
#[ignore = "needs etcd servers"]
fn kills_at_random_moments_lose_nothing() {
    const IN_A_ROW: usize = 3;
    let real = real();
    let (lowest, highest) = real.ends();
    // The moments lie where a run with nothing in its way is, and a little behind.
    let cases = [
        (MigrationCase::new(real, lowest, highest), 2600),
        (MigrationCase::new(real, real.version(5), real.version(4)), 2600),
        (MigrationCase::new(real, real.version(6), real.version(5)), 12_000),
    ];
    let rounds: Vec<_> = (0..kills().div_ceil(IN_A_ROW)).collect();
    let survived = AtomicUsize::new(0);
    side_by_side(&rounds, |round| {
        let (case, longest) = &cases[round % cases.len()];
        let directory = case.seed.copy();
        let mut random = fastrand::Rng::with_seed(*round as u64);
        for _ in 0..IN_A_ROW {
            let mut child = case.command(&directory, &[]).stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_millis(random.u64(..*longest)));
            child.kill().unwrap();
            let is_killed = child.wait().unwrap().signal() == Some(9);
            survived.fetch_add(usize::from(is_killed), Ordering::Relaxed);
            case.check_halves(&directory, "a kill at random");
        }
        case.check_end(&directory, "kills at random");
    });
    let survived = survived.into_inner();
    println!("at random moments: {survived} kills survived");
    // A run that ends before its kill proves nothing.
    assert!(survived >= rounds.len(), "only {survived} runs were killed before their end");
}

/// The server that a `migrate` has started, once it runs.
fn server_of(migrate: &mut Child) -> Option<u32> {
    let started = Instant::now();
    let children = format!("/proc/{0}/task/{0}/children", migrate.id());
    while migrate.try_wait().unwrap().is_none() {
        let ids = fs::read_to_string(&children).unwrap_or_default();
        let is_server = |id: &u32| {
            let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            line.contains("--snapshot-count=1")
        };
        if let Some(id) = ids.split_whitespace().map(|id| id.parse().unwrap()).find(is_server) {
            return Some(id);
        }
        assert!(started.elapsed() < Duration::from_mins(1), "no server was started");
        thread::sleep(Duration::from_millis(1));
    }
    None
}

/// Of a step that failed with a copy at hand.
fn assert_says_what_is_next(directory: &Directory, error: &Failure<'_>) {
    let copy = backups(directory)[0].display().to_string();
    let copy = format!("a copy from before the first step is in {copy}");
    let next = ["run migrate again: it goes on where it stopped", &copy];
    assert!(error.hints.ends_with(&next), "{error:?}");
}

#[test]
#[ignore = "needs etcd servers"]
fn the_death_of_a_server_is_reported_at_once_and_the_next_run_goes_on() {
    let real = real();
    let (lowest, highest) = real.ends();
    let cases = [
        MigrationCase::new(real, lowest, highest),
        MigrationCase::new(real, real.version(5), real.version(4)),
        MigrationCase::new(real, real.version(6), real.version(5)),
    ];
    let rounds: Vec<_> = (0..kills().div_ceil(3).clamp(3, 30)).collect();
    let survived = AtomicUsize::new(0);
    side_by_side(&rounds, |round| {
        let case = &cases[round % cases.len()];
        let directory = case.seed.copy();
        let mut command = case.command(&directory, &[]);
        command.arg("--log-format=json");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let id = server_of(&mut child).expect("a server is started");
        // From its first instruction to a server that serves.
        thread::sleep(Duration::from_millis(40 * (*round as u64 / 3)));
        let killed = Command::new("kill").args(["-9", &id.to_string()]).status().unwrap();
        let at = Instant::now();
        let (code, _, stderr) = outcome(&child.wait_with_output().unwrap());
        if code == Some(0) {
            // It had done its part, and was about to end anyway.
            assert!(round / 3 > 3, "{stderr}");
        } else {
            assert!(killed.success());
            assert_eq!(code, Some(4), "{stderr}");
            let events = Events::of(&stderr);
            let error = events.error();
            assert!(error.message.contains("(signal: 9"), "{error:?}");
            assert_says_what_is_next(&directory, &error);
            // Long before any deadline, also while a tool waits for the server.
            assert!(at.elapsed() < Duration::from_mins(1), "reported late: {:?}", at.elapsed());
            survived.fetch_add(1, Ordering::Relaxed);
        }
        case.check_halves(&directory, "the death of a server");
        case.check_end(&directory, "the death of a server");
    });
    let survived = survived.into_inner();
    println!("of servers: {survived} kills survived");
    // Those with the shortest delays meet their server at work.
    assert!(survived >= rounds.len().min(12), "only {survived} servers were killed at work");
}

#[test]
#[ignore = "needs etcd servers"]
fn a_stop_signal_stops_the_server_too_and_the_next_run_goes_on() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    side_by_side(&[("TERM", 143), ("INT", 130)], |(signal, expected)| {
        let directory = seed.copy();
        let mut command = directory.command(highest, &real.bin_dir);
        command.arg("--log-format=json");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        server_of(&mut child).expect("a server is started");
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let (code, _, stderr) = outcome(&child.wait_with_output().unwrap());
        assert_eq!(code, Some(*expected), "{stderr}");
        let events = Events::of(&stderr);
        let error = events.error();
        assert!(error.hints.iter().any(|hint| hint.contains("the data is whole")), "{error:?}");
        let copy = backups(&directory)[0].display().to_string();
        assert!(error.hints.last().unwrap().ends_with(&copy), "{error:?}");
        let db = fs::File::open(directory.path("data/member/snap/db")).unwrap();
        db.try_lock_shared().expect("no server has it open any more");
        drop(db);
        real.migrate(&directory, highest, &[]);
        real.check(&directory, highest, &seed.contents);
    });
}

#[test]
#[ignore = "needs etcd servers"]
fn what_only_the_log_of_a_killed_server_knows_is_not_lost() {
    let real = real();
    let (lowest, highest) = real.ends();
    let cases = [
        MigrationCase::new(real, lowest, highest),
        MigrationCase::new(real, real.version(5), real.version(4)),
    ];
    let rounds: Vec<_> = (0..kills().clamp(4, 40)).collect();
    side_by_side(&rounds, |round| {
        let case = &cases[round % cases.len()];
        let directory = case.seed.copy();
        let etcd = real.start(&directory, case.from);
        let keys: Vec<_> = (0..5).map(|number| format!("/registry/late/{number}")).collect();
        for key in &keys {
            etcd.run(&["put", key, "late"]);
        }
        // Ten times a second etcd commits to its database what its log already has.
        let contents = etcd.contents();
        etcd.kill();
        succeed(&directory, &mut case.command(&directory, &[]), case.to);
        let etcd = real.start(&directory, case.to);
        assert_eq!(etcd.contents(), contents, "{} -> {}", case.from, case.to);
    });
    println!("{} servers killed after a write, nothing lost", rounds.len());
}

/// What a loss of power would take away is what was not made durable before it was relied on.
#[test]
#[ignore = "needs etcd servers and strace"]
fn every_rename_is_made_durable_before_anything_follows_from_it() {
    let real = real();
    require(&["strace", "-o", "/dev/null", "true"]);
    let (lowest, highest) = real.ends();
    let mut renames = 0;
    for (from, to) in [(lowest, highest), (real.version(5), real.version(4))] {
        let case = MigrationCase::new(real, from, to);
        let directory = case.seed.copy();
        let log = directory.path("calls");
        let wrapper =
            ["strace", "-qq", "-y", "-o", log.to_str().unwrap(), "-e", "trace=rename,fsync,clone3"];
        succeed(&directory, &mut case.command(&directory, &wrapper), to);
        renames += check_durable(&fs::read_to_string(log).unwrap());
    }
    assert!(renames > 10, "only {renames} renames were seen");
    println!("{renames} renames, each durable");
}

/// Each renamed thing was synced before, and its new directory after, before a server starts.
fn check_durable(log: &str) -> usize {
    let lines: Vec<_> = log.lines().filter(|line| !line.contains("= -1")).collect();
    let synced = |line: &str| {
        let path = line.strip_prefix("fsync(")?.split_once('<')?.1.split_once('>')?.0;
        Some(PathBuf::from(path))
    };
    let mut renames = 0;
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("rename(")) {
        let words: Vec<_> = line.split('"').collect();
        let (old, new) = (Path::new(words[1]), Path::new(words[3]));
        renames += 1;
        // What moves away was durable all the time.
        let moves_away = new.ends_with("replaced");
        let before = lines[..index].iter().filter_map(|line| synced(line));
        assert!(
            moves_away || before.into_iter().any(|path| path == old),
            "{line} of unsynced data"
        );
        let after = lines[index + 1..].iter().take_while(|line| !line.starts_with("clone3"));
        let parent = new.parent().unwrap();
        let is_durable = after.filter_map(|line| synced(line)).any(|path| path == parent);
        assert!(is_durable, "{line} may be undone by a loss of power");
    }
    renames
}
