//! Damaged files: whatever is in the database or in `version.txt`, the answer is an error or a
//! value, in little memory and little time.
//!
//! Real databases are cut and scribbled over, the same on every run. `ETCDIMG_REAL_DAMAGE` is the
//! number of damaged files of each version.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;

use crate::directory::{Directory, outcome};
use crate::etcd::{amount, minor, real, side_by_side};
use crate::require::require;
use crate::schema::STATUS;

/// A reader that believes a length in a damaged file would want more than this: a log alone has
/// 64 MB.
const LIMITS: [&str; 4] = ["prlimit", "--as=50000000", "--cpu=5", "--core=0"];
const PAGE: usize = 4096;
const META_BYTES: usize = 80;

/// Half of them are values that decide something in a database.
fn byte(random: &mut Rng) -> u8 {
    const TELLING: [u8; 7] = [0, 1, 2, 0x10, 0x7f, 0x80, 0xff];
    if random.bool() { TELLING[random.usize(..TELLING.len())] } else { random.u8(..) }
}

/// The pages that hold something, meta pages included: most of a database is reserve.
fn used_pages(bytes: &[u8]) -> Vec<usize> {
    let number = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let is_used = |page: &usize| {
        let header = [number(page * PAGE), number(page * PAGE + 8)];
        header[0] == *page as u64 && header[1] != 0
    };
    (0..bytes.len() / PAGE).filter(is_used).collect()
}

fn damage(bytes: &mut Vec<u8>, random: &mut Rng) {
    let pages = used_pages(bytes);
    let page = |random: &mut Rng| pages[random.usize(..pages.len())] * PAGE;
    match random.usize(..8) {
        0 => bytes.truncate(random.usize(..(pages[pages.len() - 1] + 1) * PAGE)),
        1 => {
            let start = page(random) + random.usize(..PAGE);
            let end = (start + random.usize(..4 * PAGE)).min(bytes.len());
            bytes[start..end].fill(0);
        }
        2 => {
            // A page in the place of another, as a lost write leaves it.
            let (from, to) = (page(random), page(random));
            bytes.copy_within(from..from + PAGE, to);
        }
        3 => {
            let page = page(random);
            for _ in 0..random.usize(..400) {
                bytes[page + random.usize(..PAGE)] = byte(random);
            }
        }
        _ => {
            // Headers and elements, where the numbers are.
            for _ in 0..=random.usize(..20) {
                let at = page(random) + random.usize(..200);
                bytes[at] = byte(random);
            }
        }
    }
    if random.bool() {
        mend_meta(bytes);
    }
}

/// Gives the meta pages a right hash again, so that what they say is believed.
fn mend_meta(bytes: &mut [u8]) {
    for page in 0..2 {
        let Some(meta) = bytes.get_mut(page * PAGE + 16..page * PAGE + META_BYTES) else { return };
        let hash = meta[..56].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        meta[56..64].copy_from_slice(&hash.to_ne_bytes());
    }
}

/// Plans only, which reads everything and starts nothing.
fn plan(directory: &Directory, highest: &str) -> Command {
    let mut command = directory.command_under(&LIMITS, highest, directory.0.as_path());
    command.args(["--plan", "--trust=data"]);
    command.arg(format!("--bundled-versions=3.4.99,3.5.99,3.6.99,{highest}"));
    command
}

#[track_caller]
fn is_accepted(directory: &Directory, highest: &str, what: &str) -> bool {
    let (code, _, stderr) = outcome(&plan(directory, highest).output().unwrap());
    assert!(code == Some(0) || code == Some(3), "{what}: {code:?} {stderr}");
    if code == Some(3) {
        let is_clear = stderr.starts_with("error: ") && !stderr.contains("panicked");
        assert!(is_clear, "{what}: {stderr}");
        assert!(stderr.len() < 2000, "{what}: {} bytes of error", stderr.len());
    }
    code == Some(0)
}

#[test]
#[ignore = "needs etcd servers and prlimit"]
fn a_damaged_database_is_an_error_or_a_value() {
    let real = real();
    require(&[&LIMITS[..], &["true"]].concat());
    let (_, highest) = real.ends();
    let count = amount("ETCDIMG_REAL_DAMAGE", 150);
    let versions: Vec<_> = real.versions.values().collect();
    side_by_side(&versions, |version| {
        let directory = real.seed(version).directory;
        let db = directory.path("data/member/snap/db");
        let mut whole = fs::read(&db).unwrap();
        // Without the reserve at its end, which makes the file a thousand times larger.
        whole.truncate((used_pages(&whole).pop().unwrap() + 1) * PAGE);
        fs::write(&db, &whole).unwrap();
        assert!(is_accepted(&directory, highest, "the whole file"));
        let mut refused = 0;
        for number in 0..count {
            let mut random = Rng::with_seed(0x9E37_79B9_7F4A_7C15 ^ (number as u64 + 1));
            let mut bytes = whole.clone();
            damage(&mut bytes, &mut random);
            fs::write(&db, &bytes).unwrap();
            refused += usize::from(!is_accepted(&directory, highest, &format!("{number}")));
        }
        assert!(refused * 10 > count, "only {refused} of {count} were refused");
        println!("{version}: {refused} of {count} damaged databases refused, the others read");
    });
}

/// What the log alone says: whether it holds requests that etcd 3.6 cannot replay.
#[track_caller]
fn replays_old_requests(directory: &Directory, highest: &str) -> bool {
    let mut command = directory.command_under(&LIMITS, highest, directory.0.as_path());
    let (code, stdout, stderr) = outcome(&command.args(["status", "--json"]).output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    STATUS.read(&stdout)["data"]["replaysV2Requests"] == true
}

#[test]
#[ignore = "needs etcd servers and prlimit"]
fn a_damaged_log_is_an_error_or_a_value() {
    let real = real();
    require(&[&LIMITS[..], &["true"]].concat());
    let (_, highest) = real.ends();
    let count = amount("ETCDIMG_REAL_DAMAGE", 150);
    // Only data of 3.5 and before has its log looked at.
    let versions: Vec<_> = real.versions.values().filter(|version| minor(version) <= 5).collect();
    side_by_side(&versions, |version| {
        let directory = real.seed(version).directory;
        // Which 3.4 writes into its log, as a request that 3.6 does not replay.
        let answer = real.start(&directory, version).get("/health");
        assert!(answer.contains("true"), "{answer}");
        let has_old_requests = minor(version) == 4;
        let log = fs::read_dir(directory.path("data/member/wal")).unwrap();
        let mut log: Vec<_> = log.map(|entry| entry.unwrap().path()).collect();
        log.sort();
        let log = log.iter().find(|path| path.extension().is_some_and(|kind| kind == "wal"));
        let log = log.unwrap();
        let whole = fs::read(log).unwrap();
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let file = fs::File::options().write(true).open(log).unwrap();
        assert_eq!(replays_old_requests(&directory, highest), has_old_requests, "{version}");
        let mut understood = 0;
        for number in 0..count {
            let mut random = Rng::with_seed(0x9E37_79B9_7F4A_7C15 ^ (number as u64 + 1));
            let mut bytes = whole[..used].to_vec();
            for _ in 0..=random.usize(..20) {
                let at = random.usize(..used);
                bytes[at] = byte(&mut random);
            }
            if random.bool() {
                // The length of the first record, anything up to that of the file.
                let length = random.usize(..whole.len()) as u64;
                bytes[..8].copy_from_slice(&length.to_le_bytes());
            }
            file.write_all_at(&bytes, 0).unwrap();
            // Some of them end within a record.
            let length = if random.usize(..3) == 0 { random.usize(..used) } else { whole.len() };
            file.set_len(length as u64).unwrap();
            is_accepted(&directory, highest, &format!("{number}"));
            understood += usize::from(replays_old_requests(&directory, highest));
        }
        println!("{version}: {count} damaged logs read, {understood} of them understood");
        // What is damaged says less, and some are damaged behind what counts.
        let is_so = if has_old_requests { 1..count } else { 0..count };
        assert!(is_so.contains(&understood), "{version}: {understood} of {count} understood");
    });
}

#[test]
#[ignore = "needs prlimit"]
fn a_damaged_version_file_is_an_error_or_a_value() {
    const TEXT: &[u8] = b"3.5.33/etcd3";
    let directory = Directory::new();
    directory.write("data/version.txt", TEXT);
    require(&[&LIMITS[..], &["true"]].concat());
    let refused = AtomicUsize::new(0);
    let mut random = Rng::with_seed(99);
    let files: Vec<Vec<u8>> = (0..400)
        .map(|number| {
            let mut bytes = TEXT.to_vec();
            match number % 4 {
                0 => bytes.truncate(random.usize(..bytes.len())),
                1 => bytes = (0..random.usize(..300)).map(|_| byte(&mut random)).collect(),
                2 => bytes = bytes.repeat(1 + random.usize(..100_000)),
                _ => {
                    let at = random.usize(..bytes.len());
                    bytes[at] = b"0123456789./+-etcdv \n\0"[random.usize(..22)];
                }
            }
            bytes
        })
        .collect();
    side_by_side(&files, |bytes| {
        let directory = Directory::new();
        directory.write("data/version.txt", bytes);
        let is_refused = !is_accepted(&directory, "3.7.1", &String::from_utf8_lossy(bytes));
        refused.fetch_add(usize::from(is_refused), Ordering::Relaxed);
    });
    let refused = refused.into_inner();
    assert!((200..395).contains(&refused), "{refused} of {} were refused", files.len());
    println!("{refused} of {} damaged version files refused", files.len());
}
