//! The same inputs give the same bytes, independent of user, folder, time and environment.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::catalog_fixture::{self, CatalogFixture, shared_cache};
use crate::require;

#[track_caller]
fn check_same(a: &CatalogFixture, b: &CatalogFixture) {
    let [a, b] = [a, b].map(|fixture| catalog_fixture::files(&fixture.out()));
    let names = |layout: &BTreeMap<String, Vec<u8>>| layout.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (name, bytes) in &a {
        assert!(b[name] == *bytes, "{name} differs");
    }
}

/// A build by another shell, in which `script` runs before.
fn build_after(fixture: &CatalogFixture, script: &str) -> String {
    let mut build = Command::new("sh");
    build.args(["-c", &format!("{script}\nexec \"$@\""), "sh", env!("CARGO_BIN_EXE_etcdimg")]);
    fixture.arguments(&mut build, "build");
    fixture.finish(&mut build).ok()
}

#[test]
fn surroundings_do_not_matter() {
    let plain = CatalogFixture::with_release();
    let expected = plain.build().ok();
    for script in [
        "umask 000",
        "umask 077",
        "export TZ=Pacific/Chatham LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8",
        "export USER=somebody LOGNAME=somebody HOSTNAME=elsewhere TERM=dumb",
        "cd /",
        "ulimit -n 64",
    ] {
        let fixture = CatalogFixture::with_release();
        assert_eq!(build_after(&fixture, script), expected, "{script}");
        check_same(&plain, &fixture);
    }
}

#[test]
#[ignore = "needs taskset"]
fn one_processor_gives_what_two_give() {
    require::program(&["taskset", "-c", "0", "true"]);
    let [one, all] = [CatalogFixture::with_release(), CatalogFixture::with_release()];
    let expected = all.build().ok();
    assert_eq!(build_after(&one, "set -- taskset -c 0 \"$@\""), expected);
    check_same(&one, &all);
}

#[test]
#[ignore = "needs root"]
fn another_user_gives_the_same() {
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    require::root();
    require::program(&[&["setpriv"], &user[..], &["true"]].concat());
    let [own, other] = [CatalogFixture::with_release(), CatalogFixture::with_release()];
    let expected = own.build().ok();
    // The program and its inputs, where the other user may read and write.
    let program = other.path("etcdimg");
    fs::copy(env!("CARGO_BIN_EXE_etcdimg"), &program).unwrap();
    for link in ["src", "scripts", "tests"] {
        fs::remove_file(other.root().join(link)).unwrap();
    }
    let chown = Command::new("chown").args(["-R", "65534:65534"]).arg(other.path("")).status();
    assert!(chown.unwrap().success());
    let mut build = Command::new("setpriv");
    build.args(user).arg(program);
    other.arguments(&mut build, "build");
    build.env("HOME", other.path("cache"));
    assert_eq!(other.finish(&mut build).ok(), expected);
    check_same(&own, &other);
}

#[test]
#[ignore = "needs faketime"]
fn another_clock_gives_the_same() {
    require::program(&["faketime", "2031-01-01", "true"]);
    let [now, later] = [CatalogFixture::with_release(), CatalogFixture::with_release()];
    let expected = now.build().ok();
    assert_eq!(build_after(&later, "set -- faketime '2031-01-01 01:02:03' \"$@\""), expected);
    check_same(&now, &later);
}

#[test]
fn the_epoch_is_the_only_time() {
    let [zero, first, second] = [
        CatalogFixture::with_release(),
        CatalogFixture::with_release(),
        CatalogFixture::with_release(),
    ];
    let none = zero.build().ok();
    let flag = first.run("build", &["--source-date-epoch", "1700000000"]).ok();
    let variable =
        second.finish(second.command("build").env("SOURCE_DATE_EPOCH", "1700000000")).ok();
    assert_ne!(none, flag);
    assert_eq!(flag, variable);
    check_same(&first, &second);
}

/// Everything is compiled again: another folder, another cache, another umask, zone and language.
/// Only Go's modules and toolchains, which go.sum pins, are those of the first one.
#[test]
#[ignore = "needs compilers and the network"]
fn programs_compiled_anew_elsewhere_are_the_same() {
    let first = CatalogFixture::with_shared_cache();
    let expected = first.run("build", &["--from", "source"]).ok();
    let second = CatalogFixture::empty();
    for part in ["go-mod", "parts"] {
        std::os::unix::fs::symlink(shared_cache().join(part), second.cache().join(part)).unwrap();
    }
    let mut build = Command::new("sh");
    build.args(["-c", "umask 077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_etcdimg")]);
    second.arguments(&mut build, "build");
    build.args(["--from", "source"]).env("TZ", "Pacific/Chatham").env("LC_ALL", "tr_TR.UTF-8");
    let run = second.finish(&mut build);
    for program in ["etcd 3.4.21", "etcdctl 3.4.21", "migrate"] {
        assert!(run.stderr.contains(&format!("Compiled {program} for ")), "{}", run.stderr);
    }
    assert_eq!(run.ok(), expected);
    check_same(&first, &second);
    sources_older_than_the_last_compile_are_compiled(&second, &expected);
    a_failed_compile_fails_the_build(&second);
}

/// Files with other times, as in another checkout or an unpacked archive.
fn sources_older_than_the_last_compile_are_compiled(fixture: &CatalogFixture, before: &str) {
    const FILE: &str = "crates/migrate/src/report/plan_text.rs";
    fixture.edit(FILE, "start and stop etcd", "begin and end etcd");
    let file = fs::File::options().append(true).open(fixture.root().join(FILE)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_hours(1)).unwrap();
    let run = fixture.run("build", &["--from", "source"]);
    assert!(run.stderr.contains("Compiled migrate for "), "{}", run.stderr);
    assert_ne!(run.ok(), before);
}

/// The old tool shipped the programs of the last build instead.
fn a_failed_compile_fails_the_build(fixture: &CatalogFixture) {
    const FILE: &str = "crates/migrate/src/main.rs";
    let main = fixture.root().join(FILE);
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, format!("{text}\ncompile_error!(\"broken on purpose\");\n")).unwrap();
    let before = catalog_fixture::files(&fixture.out());
    let run = fixture.run("build", &["--from", "source"]);
    assert_eq!(run.code, Some(6), "{}", run.stderr);
    for part in [
        "error: cannot compile migrate for x86_64-unknown-linux-musl",
        "error: broken on purpose",
        "the whole log is in `FIXTURE/cache/logs/migrate-x86_64-unknown-linux-musl.log`",
    ] {
        assert!(run.stderr.contains(part), "{part} is not in\n{}", run.stderr);
    }
    assert_eq!(catalog_fixture::files(&fixture.out()), before);
}

/// `--from source` compiles the programs that a release contains; only the labels differ.
#[test]
fn layers_do_not_depend_on_where_programs_come_from() {
    let [release, source] = [CatalogFixture::with_release(), CatalogFixture::with_release()];
    release.build().ok();
    source.run("build", &["--from", "source"]).ok();
    let [release, source] = [release, source]
        .map(|fixture| crate::mutable_image::MutableImage::open(&fixture.out()).config);
    assert_eq!(release["rootfs"], source["rootfs"]);
    assert_ne!(release["config"]["Labels"], source["config"]["Labels"]);
}

#[test]
fn a_cache_that_is_taken_away_changes_nothing() {
    let fixture = CatalogFixture::with_release();
    let expected = fixture.build().ok();
    let first = catalog_fixture::files(&fixture.out());
    fs::remove_dir_all(fixture.cache()).unwrap();
    fs::remove_dir_all(fixture.out()).unwrap();
    catalog_fixture::Parts::get().copy_compiled(&fixture.cache());
    assert_eq!(fixture.build().ok(), expected);
    assert!(catalog_fixture::files(&fixture.out()) == first);
}
