//! The places that `migrate` runs in: other users, read-only roots, containers, mount points.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::directory::Directory;
use crate::etcd::{Real, own_programs, real, succeed};
use crate::events::{self, Running};
use crate::kills::backups;
use crate::mount::Mount;
use crate::require::{require, require_root};

#[test]
#[ignore = "needs etcd servers"]
fn a_directory_that_is_served_is_left_alone() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = &seed.directory;
    let _etcd = real.start(directory, lowest);
    let (code, events) = events::run(&mut directory.command(highest, &real.bin_dir));
    assert_eq!(code, Some(5), "{events:?}");
    assert_eq!(events.error().id, "in-use", "{events:?}");
    assert!(!Path::new(&directory.path("data.bak")).exists());
}

#[test]
#[ignore = "needs etcd servers"]
fn the_second_of_two_learns_who_is_at_work() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = &seed.directory;
    let mut command = directory.command(highest, &real.bin_dir);
    let mut first = Running::spawn(&mut command);
    first.wait_for_server();
    let (code, events) = events::run(&mut directory.command(highest, &real.bin_dir));
    assert_eq!(code, Some(5), "{events:?}");
    let holder = format!("is being migrated by process {} on ", first.child.id());
    assert!(events.error().message.contains(&holder), "{events:?}");
    let (code, events) = first.end();
    assert!(code == Some(0) && events.has("done"), "{events:?}");
    real.check(directory, highest, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers and root"]
fn a_mount_point_a_link_and_a_trailing_slash_are_as_good_as_any() {
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let there_and_back = |directory: &Directory, flags: &[&str]| {
        for to in [highest, lowest] {
            let mut command = directory.command(to, &real.bin_dir);
            succeed(directory, command.arg("--allow-multi-step-downgrade").args(flags), to);
        }
        real.check(directory, lowest, &seed.contents);
    };

    let directory = seed.copy();
    let path = format!("--data-dir={}//", directory.path("data").display());
    there_and_back(&directory, &[&path]);
    assert_eq!(backups(&directory).len(), 1);

    let directory = Directory::new();
    seed.copy_to(&directory.path("elsewhere"));
    symlink("elsewhere", directory.path("data")).unwrap();
    there_and_back(&directory, &[]);
    assert!(directory.path("data").is_symlink());
    assert_eq!(backups(&directory).len(), 1);

    let directory = Directory::new();
    fs::create_dir(directory.path("data")).unwrap();
    let _mount = Mount::tmpfs("size=2g", &directory.path("data"));
    seed.copy_to(&directory.path("data"));
    there_and_back(&directory, &[]);
    // What lies beside a mount point is gone with the container.
    assert!(!directory.path("data.bak").exists());
    assert_eq!(fs::read_dir(directory.path("data/.migrate/backup")).unwrap().count(), 1);
}

#[test]
#[ignore = "needs etcd servers and root"]
fn a_read_only_root_is_no_obstacle() {
    let real = real();
    let wrapper =
        ["unshare", "--mount", "sh", "-c", "mount -o remount,bind,ro / && exec \"$@\"", "sh"];
    require(&[&wrapper[..], &["true"]].concat());
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let bin = own_programs(real, &[lowest, real.version(5), real.version(6), highest]);
    let directory = Directory::new();
    let _mount = Mount::tmpfs("size=2g", &directory.0);
    seed.copy_to(&directory.path("data"));
    let mut command = directory.command_under(&wrapper, highest, &bin.0);
    let events = succeed(&directory, command.env_remove("DO_NOT_MOVE_BINARIES"), highest);
    let cause = "Read-only file system";
    assert!(events.messages("not-placed")[0].contains(cause), "{events:?}");
    let output = Command::new(bin.path("etcd")).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(lowest));
    real.check(&directory, highest, &seed.contents);
}

const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// Neither root's home nor the cache is for other users to read.
fn programs_for_all(real: &Real) -> Directory {
    let (lowest, highest) = real.ends();
    let bin = own_programs(real, &[lowest, real.version(5), real.version(6), highest]);
    fs::copy(env!("CARGO_BIN_EXE_migrate"), bin.path("migrate")).unwrap();
    bin
}

#[test]
#[ignore = "needs etcd servers and root"]
fn a_user_who_is_not_root_migrates_what_is_theirs() {
    let real = real();
    require_root();
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let bin = programs_for_all(real);
    let directory = seed.copy();
    let give = |path: &str, flag: &str| {
        let mut command = Command::new("chown");
        command.args([flag, "65534:65534"]).arg(directory.path(path));
        assert!(command.status().unwrap().success());
    };
    give("data", "-R");
    let migrate = bin.path("migrate");
    let wrapper = [&AS_NOBODY[..], &[migrate.to_str().unwrap()]].concat();
    let command = || {
        let mut command = directory.command_in_place_of(&wrapper, highest, &bin.0);
        command.env_remove("DO_NOT_MOVE_BINARIES");
        command
    };
    // Nothing may be written beside the data.
    let (code, events) = events::run(&mut command());
    assert_eq!(code, Some(1), "{events:?}");
    let error = events.error();
    assert!(error.message.contains("Permission denied"), "{error:?}");
    assert!(error.hints[0].starts_with("nothing was changed; --backup-dir"), "{error:?}");
    give(".", "-h");
    let events = succeed(&directory, &mut command(), highest);
    assert!(events.messages("not-placed")[0].contains("Permission denied"), "{events:?}");
    assert_eq!(backups(&directory).len(), 1);
    real.check(&directory, highest, &seed.contents);
}

#[test]
#[ignore = "needs etcd servers and root"]
fn the_first_process_of_a_container_migrates_and_can_be_stopped() {
    const WRAPPER: [&str; 4] = ["unshare", "--pid", "--fork", "--mount-proc"];
    let real = real();
    require(&[&WRAPPER[..], &["true"]].concat());
    let (lowest, highest) = real.ends();
    let seed = real.seed(lowest);
    let directory = seed.copy();
    let mut command = directory.command_under(&WRAPPER, highest, &real.bin_dir);
    let mut running = Running::spawn(&mut command);
    running.wait_for_server();
    let id = running.child.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    assert!(Command::new("kill").arg(children.trim()).status().unwrap().success());
    assert_eq!(running.end().0, Some(143));
    succeed(&directory, &mut directory.command_under(&WRAPPER, highest, &real.bin_dir), highest);
    real.check(&directory, highest, &seed.contents);
}

/// Everything in the directory that does not belong to a user.
pub fn not_of(user: u32, path: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::symlink_metadata(path).unwrap();
    let mut others = Vec::new();
    if metadata.uid() != user {
        others.push(path.display().to_string());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            others.extend(not_of(user, &entry.unwrap().path()));
        }
    }
    others
}

#[test]
#[ignore = "needs etcd servers and root"]
fn what_root_writes_belongs_to_the_owner_of_the_data() {
    const NOBODY: u32 = 65534;
    require_root();
    let real = real();
    let (lowest, highest) = real.ends();
    let seed = real.seed_with(lowest, 10);
    let directory = seed.copy();
    let own = || {
        let mut command = Command::new("chown");
        assert!(command.args(["-R", "65534:65534"]).arg(&directory.0).status().unwrap().success());
    };
    own();
    // In place and by snapshot, with a mask that lets nobody else read.
    for to in [highest, lowest, real.version(5), lowest] {
        let shell = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
        let mut command = directory.command_under(&shell, to, &real.bin_dir);
        command.arg("--allow-multi-step-downgrade");
        succeed(&directory, &mut command, to);
        for place in ["data", "data.bak"] {
            assert_eq!(not_of(NOBODY, &directory.path(place)), Vec::<String>::new(), "{to}");
        }
    }
    // The owner goes on with it, and so do the servers that he starts.
    let bin = programs_for_all(real);
    let migrate = bin.path("migrate");
    let owner = [&AS_NOBODY[..], &[migrate.to_str().unwrap()]].concat();
    succeed(&directory, &mut directory.command_in_place_of(&owner, highest, &bin.0), highest);
    real.check(&directory, highest, &seed.contents);
    // A fresh directory, too.
    let fresh = Directory::new();
    fs::create_dir(fresh.path("data")).unwrap();
    std::os::unix::fs::chown(fresh.path("data"), Some(NOBODY), Some(NOBODY)).unwrap();
    succeed(&fresh, &mut fresh.command(highest, &real.bin_dir), highest);
    assert_eq!(not_of(NOBODY, &fresh.path("data")), Vec::<String>::new());
}
