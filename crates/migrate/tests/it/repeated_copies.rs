//! Copies that were interrupted go on, and a migration that is tried again makes no second one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::directory::Directory;
use crate::etcd::{Real, own_programs, real};
use crate::events;
use crate::kills::{assert_same, backups};
use crate::require::require;
use crate::shapes::copy;

/// The files of an unfinished copy, with what would be another number if they were written again.
fn partial(directory: &Directory) -> Vec<(PathBuf, u64, i64)> {
    let Ok(entries) = fs::read_dir(directory.path("data.bak")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let Some(partial) = paths.into_iter().find(|path| {
        path.is_dir() && path.file_name().unwrap().to_str().unwrap().starts_with("partial")
    }) else {
        return Vec::new();
    };
    files(&partial, Path::new("member"))
}

fn files(copy: &Path, below: &Path) -> Vec<(PathBuf, u64, i64)> {
    let Ok(entries) = fs::read_dir(copy.join(below)) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let name = below.join(entry.file_name());
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            found.extend(files(copy, &name));
        } else {
            found.push((name, metadata.ino(), metadata.mtime_nsec()));
        }
    }
    found
}

#[test]
#[ignore = "needs etcd servers and strace"]
fn a_copy_that_was_interrupted_goes_on_where_it_was() {
    let real = real();
    require(&["strace", "-o", "/dev/null", "true"]);
    let (lowest, highest) = real.ends();
    let seed = real.seed_with(lowest, 20);
    // The database, and then the log in blocks.
    for (signal, count, code) in [("KILL", 3, None), ("TERM", 2, Some(143))] {
        let directory = seed.copy();
        let inject = format!("inject=copy_file_range:signal={signal}:when={count}");
        let trace = ["-e", "trace=copy_file_range", "-e", &inject];
        let wrapper = [&["strace", "-qq", "-o", "/dev/null"][..], &trace].concat();
        let mut command = directory.command_under(&wrapper, highest, &real.bin_dir);
        assert_eq!(command.output().unwrap().status.code(), code, "{signal}");
        let before = partial(&directory);
        let name = |path: &str| before.iter().find(|(name, ..)| name.ends_with(path)).cloned();
        let db = name("snap/db").expect("the database was copied first");
        // Another etcd has served the data meanwhile, in the second case.
        let is_served = signal == "TERM";
        let contents = if is_served {
            let etcd = real.start(&directory, lowest);
            etcd.run(&["put", "/registry/late", "late"]);
            etcd.contents()
        } else {
            seed.contents.clone()
        };
        let expected = Directory::new();
        copy(&directory.path("data"), &expected.path("data"));
        let events = real.migrate(&directory, highest, &[]);
        assert!(events.made_a_copy(), "{events:?}");
        let copies = backups(&directory);
        assert_eq!(copies.len(), 1, "{signal}");
        assert_same(&expected.path("data/member"), &copies[0].join("member"), signal);
        let after = files(&copies[0], Path::new("member"));
        assert_eq!(after.contains(&db), !is_served, "{signal}: {before:?} {after:?}");
        let etcd = real.start(&directory, highest);
        assert_eq!(etcd.contents(), contents, "{signal}");
    }
}

/// Programs of which the etcd that is needed on the way dies at once.
fn with_broken_etcd(real: &Real, broken: &str) -> Directory {
    let versions: Vec<_> = real.versions.values().map(String::as_str).collect();
    let bin = own_programs(real, &versions);
    let path = bin.path(&format!("etcd-{broken}"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "#!/bin/sh\necho no >&2\nexit 1\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[test]
#[ignore = "needs etcd servers"]
fn a_migration_that_fails_again_makes_no_second_copy_of_the_same_data() {
    let real = real();
    let [from, between, to] = [4, 5, 6].map(|minor| real.version(minor));
    let seed = real.seed_with(from, 10);
    let directory = seed.copy();
    let bin = with_broken_etcd(real, between);
    let fail = || {
        let (code, events) = events::run(&mut directory.command(to, &bin.0));
        assert_eq!(code, Some(4), "{events:?}");
        (events.made_a_copy(), events.has("backup-kept"))
    };
    assert_eq!(fail(), (true, false));
    for _ in 0..2 {
        assert_eq!(fail(), (false, true));
    }
    let first = backups(&directory);
    assert_eq!(first.len(), 1);
    // Somebody has gone back to the old etcd meanwhile, and has written.
    let etcd = real.start(&directory, from);
    etcd.run(&["put", "/registry/late", "late"]);
    let contents = etcd.contents();
    drop(etcd);
    assert_eq!(fail(), (true, false));
    assert_eq!(fail(), (false, true));
    let copies = backups(&directory);
    assert!(copies.len() == 2 && copies.contains(&first[0]), "{copies:?}");
    assert_same(&seed.directory.path("data/member"), &first[0].join("member"), "the first copy");
    real.migrate(&directory, to, &[]);
    let etcd = real.start(&directory, to);
    assert_eq!(etcd.contents(), contents);
}
