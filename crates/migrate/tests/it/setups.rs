//! Set-ups drawn by chance: data, shape of the directory, owner, flags, leftovers, interruptions. A
//! model says what must come out; real servers say what does.
//!
//! `ETCDIMG_SETUPS` is how many are drawn, and `ETCDIMG_TEST_SEED` the number that the draw begins
//! with.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::directory::Directory;
use crate::etcd::{Real, Seed, amount, minor, real, side_by_side};
use crate::events;
use crate::shape::{SHAPES, Shape, Shaped};
use crate::v2_api;

/// What is in the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Plain,
    /// The server was killed, and the log holds more than the database.
    Unclean,
    /// The quota was reached.
    NoSpace,
    /// A client of the v2 API has stored a key.
    V2,
}

/// A set-up.
#[derive(Clone, Debug)]
struct Setup {
    from: String,
    to: String,
    content: Content,
    shape: Option<Shape>,
    /// `None` if there is no `version.txt`.
    version_file: Option<String>,
    v2_content: Option<&'static str>,
    goes_several: bool,
    owner: u32,
    flags: &'static str,
    leftover: bool,
    /// After so many milliseconds `migrate` is killed.
    kill_after: Option<u64>,
    more: &'static str,
}

/// What must come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused(i32),
}

const FLAGS: [&str; 5] = [
    "",
    "--experimental-initial-corrupt-check=true",
    "--enable-v2=true --proxy off --max-learners=2",
    "--auto-compaction-retention=1h --quota-backend-bytes=1",
    "--force-new-cluster",
];
const MORE: [&str; 5] = ["", "--no-backup", "--verify=off", "--verify=quick", "--backup-retain=2"];

impl Setup {
    fn draw(real: &Real, random: &mut fastrand::Rng) -> Self {
        let versions: Vec<_> = real.versions.values().cloned().collect();
        let from = random.choice(&versions).unwrap().clone();
        let content = match random.u8(..8) {
            0 | 1 => Content::Unclean,
            2 => Content::NoSpace,
            3 | 4 if minor(&from) < 6 => Content::V2,
            _ => Content::Plain,
        };
        let other = random.choice(&versions).unwrap();
        let version_file = match random.u8(..6) {
            0 | 1 => None,
            2 => Some(String::new()),
            3 => Some(format!("{other}/etcd3\n")),
            _ => Some(format!("{from}/etcd3")),
        };
        // Most set-ups should come to their end.
        let flags = FLAGS[if random.u8(..12) == 0 { 4 } else { random.usize(..4) }];
        Self {
            to: random.choice(&versions).unwrap().clone(),
            content,
            shape: random.bool().then(|| *random.choice(SHAPES).as_ref().unwrap()),
            version_file,
            v2_content: *random.choice([None, Some("drop"), Some("convert")]).as_ref().unwrap(),
            goes_several: random.u8(..4) > 0,
            owner: if random.u8(..3) == 0 { 65534 } else { 0 },
            flags,
            leftover: random.bool(),
            kill_after: (random.u8(..3) == 0).then(|| random.u64(..3000)),
            more: random.choice(MORE).unwrap(),
            from,
        }
    }

    /// The model.
    fn expected(&self) -> Outcome {
        let (from, to) = (minor(&self.from), minor(&self.to));
        if self.flags.contains("force-new-cluster") {
            return Outcome::Refused(2);
        }
        let file = self.version_file.as_deref().and_then(|text| text.split('/').next());
        if let Some(file) = file.filter(|file| !file.is_empty()).map(minor)
            && file != from
            && file != from + 1
        {
            return Outcome::Refused(3);
        }
        let is_lost = to > 5 || to < from;
        if self.content == Content::V2 && self.v2_content.is_none() && is_lost {
            return Outcome::Refused(3);
        }
        if to + 1 < from && !self.goes_several {
            return Outcome::Refused(3);
        }
        Outcome::Done
    }

    fn command(&self, place: &Place, real: &Real) -> Command {
        let mut command = match place {
            Place::Shaped(shaped) => shaped.command(&[], &self.to, real),
            Place::Plain(directory) => directory.command(&self.to, &real.bin_dir),
        };
        // The flag of a shape is in the same variable.
        match (self.shape, place) {
            (Some(Shape::WalDirArgument), Place::Shaped(shaped)) => {
                let wal_dir = shaped.wal_dir().unwrap();
                command.env("ETCD_CREDS", format!("--wal-dir={} {}", wal_dir.display(), self.flags))
            }
            _ => command.env("ETCD_CREDS", self.flags),
        };
        command.args(self.goes_several.then_some("--allow-multi-step-downgrade"));
        command.args(self.v2_content.map(|what| format!("--v2-content={what}")));
        command.args(Some(self.more).filter(|more| !more.is_empty()));
        command
    }
}

enum Place {
    Plain(Directory),
    Shaped(Shaped),
}

impl Place {
    fn directory(&self) -> &Directory {
        match self {
            Self::Plain(directory) => directory,
            Self::Shaped(shaped) => &shaped.directory,
        }
    }
}

/// Data of a version, made once: what is in it, and whether puts are refused.
struct Base {
    seed: Seed,
    version: String,
    content: Content,
}

impl Base {
    fn new(real: &Real, version: &str, content: Content) -> Self {
        let mut seed = real.seed_with(version, 50);
        let directory = &seed.directory;
        match content {
            Content::Plain => {}
            Content::Unclean => {
                let etcd = real.start(directory, version);
                etcd.run(&["put", "/registry/late", "value"]);
                seed.contents = etcd.contents();
                etcd.kill();
            }
            Content::NoSpace => {
                let flags = ["--quota-backend-bytes=1"];
                let etcd = real.spawn_member(directory, version, &flags).ready(directory);
                assert_eq!(etcd.try_run(&["put", "/registry/large", "x"]), None);
                assert!(etcd.run(&["alarm", "list"]).contains("NOSPACE"));
            }
            Content::V2 => {
                let etcd = v2_api::start(real, directory, version, &[]);
                v2_api::ask(&etcd, "PUT", "/v2-key", "value=of v2");
            }
        }
        Self { seed, version: version.to_owned(), content }
    }
}

/// Keys with their revisions, without the revision of the whole store: a conversion raises it.
fn keys(contents: &str) -> &str {
    contents.split_once(':').map_or(contents, |(_, keys)| keys)
}

pub fn chown_all(path: &Path, owner: u32) {
    let _ = chown(path, Some(owner), Some(owner));
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            chown_all(&entry.unwrap().path(), owner);
        }
    }
}

/// Everything below a path that belongs to somebody else.
pub fn strangers(path: &Path, owner: u32) -> Vec<String> {
    let mut found = Vec::new();
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.uid() != owner && !metadata.is_symlink() {
        found.push(path.display().to_string());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            found.extend(strangers(&entry.unwrap().path(), owner));
        }
    }
    found
}

fn play(setup: &Setup, base: &Base, real: &Real) {
    let mut place = match setup.shape {
        Some(shape) => Place::Shaped(Shaped::new(&base.seed, shape)),
        None => Place::Plain(base.seed.copy()),
    };
    let data = place.directory().path("data");
    let _ = fs::remove_file(data.join("version.txt"));
    if let Some(text) = &setup.version_file {
        fs::write(data.join("version.txt"), text).unwrap();
    }
    if setup.leftover {
        fs::write(data.join("member/snap/tmp158215125"), [0; 100]).unwrap();
        fs::write(data.join("notes"), b"of somebody").unwrap();
    }
    if setup.owner != 0 {
        chown_all(&place.directory().0, setup.owner);
    }
    if let Some(milliseconds) = setup.kill_after {
        let mut child = setup.command(&place, real).spawn().unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        let _ = child.kill();
        child.wait().unwrap();
    }
    let (code, events) = events::run(&mut setup.command(&place, real));
    let expected = setup.expected();
    match expected {
        Outcome::Refused(expected) => {
            return assert_eq!(code, Some(expected), "{setup:?} {events:?}");
        }
        Outcome::Done => assert_eq!(code, Some(0), "{setup:?} {events:?}"),
    }
    if setup.leftover {
        assert_eq!(fs::read(data.join("notes")).unwrap(), b"of somebody", "{setup:?}");
    }
    if setup.owner != 0 {
        assert_eq!(strangers(&data.join("member"), setup.owner), [""; 0], "{setup:?}");
    }
    let (code, again) = events::run(&mut setup.command(&place, real));
    assert_eq!((code, again.has("step")), (Some(0), false), "{setup:?} {again:?}");
    let etcd = match &place {
        Place::Plain(directory) => real.start(directory, &setup.to),
        Place::Shaped(shaped) => shaped.start(real, &setup.to),
    };
    let found = etcd.contents();
    assert_eq!(keys(&found), keys(&base.seed.contents), "{setup:?}");
    assert_eq!(etcd.run(&["member", "list"]).lines().count(), 1, "{setup:?}");
    let alarms = etcd.run(&["alarm", "list"]);
    assert_eq!(alarms.contains("NOSPACE"), base.content == Content::NoSpace, "{setup:?}");
    if base.content == Content::V2 && setup.v2_content == Some("convert") && minor(&setup.to) > 5 {
        let value = etcd.run(&["get", "/v2-key", "--print-value-only"]);
        assert_eq!(value, "of v2\n", "{setup:?}");
    }
    drop(etcd);
    if let Place::Shaped(shaped) = &mut place {
        shaped.check(&format!("{setup:?}"));
    }
}

#[test]
#[ignore = "needs etcd servers and root"]
fn whatever_the_set_up_the_outcome_is_what_the_model_says() {
    let real = real();
    let count = amount("ETCDIMG_SETUPS", 8);
    assert!(count > 0, "ETCDIMG_SETUPS=0 draws nothing");
    let seed = amount("ETCDIMG_TEST_SEED", 20_261_128) as u64;
    let mut random = fastrand::Rng::with_seed(seed);
    let setups: Vec<_> = (0..count).map(|_| Setup::draw(real, &mut random)).collect();
    let mut wanted: Vec<(String, Content)> = Vec::new();
    for setup in &setups {
        let base = (setup.from.clone(), setup.content);
        if !wanted.contains(&base) {
            wanted.push(base);
        }
    }
    let bases: Vec<_> =
        wanted.iter().map(|(version, content)| Base::new(real, version, *content)).collect();
    side_by_side(&setups, |setup| {
        let is_own = |base: &&Base| base.version == setup.from && base.content == setup.content;
        play(setup, bases.iter().find(is_own).unwrap(), real);
    });
    let done = setups.iter().filter(|setup| setup.expected() == Outcome::Done).count();
    println!("{count} set-ups, {done} of them to the end");
    assert!(done * 3 >= count, "too many were refused");
}
