//! The command line of `migrate`: what it refuses, prints and ends with.

use std::fs;

use crate::directory::{Directory, outcome};

const BUNDLED: &str = "--bundled-versions=3.4.27,3.5.33,3.6.14,3.7.1";

#[track_caller]
fn run(directory: &Directory, target: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = directory.command(target, &directory.path("bin"));
    let (code, stdout, stderr) = outcome(&command.arg(BUNDLED).args(arguments).output().unwrap());
    let path = directory.0.display().to_string();
    (code, stdout.replace(&path, "DIR"), stderr.replace(&path, "DIR"))
}

#[test]
fn an_empty_directory_takes_the_target() {
    let directory = Directory::new();
    fs::create_dir_all(directory.path("data/lost+found")).unwrap();
    let (code, stdout, stderr) = run(&directory, "3.6.14", &[]);
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.ends_with("DIR/data is at 3.6.14/etcd3: etcd 3.6.14 may start now\n"));
    assert_eq!(directory.version(), "3.6.14/etcd3");
    // Again, and to another version: no etcd has started yet.
    assert_eq!(run(&directory, "3.6.14", &[]).0, Some(0));
    assert_eq!(run(&directory, "3.4.27", &[]).0, Some(0));
    assert_eq!(directory.version(), "3.4.27/etcd3");
}

#[test]
fn a_missing_directory_is_created_and_a_trailing_slash_means_nothing() {
    let directory = Directory::new();
    let path = format!("--data-dir={}/new/data/", directory.0.display());
    assert_eq!(run(&directory, "3.7.1", &[&path]).0, Some(0));
    let text = fs::read_to_string(directory.path("new/data/version.txt")).unwrap();
    assert_eq!(text, "3.7.1/etcd3");
}

#[test]
fn what_stands_in_a_file_does_not_reach_the_terminal_raw() {
    let directory = Directory::new();
    directory.write("data/version.txt", b"3.6.14\x1b[2J/etcd3\nerror: forged");
    let (code, _, stderr) = run(&directory, "3.6.14", &[]);
    assert_eq!(code, Some(3), "{stderr}");
    let is_control = |character: char| character.is_control() && character != '\n';
    assert!(stderr.contains("\\u{1b}[2J") && !stderr.contains(is_control), "{stderr}");
    assert!(!stderr.contains("\nerror: forged"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn modes_follow_the_umask_unless_one_is_given() {
    use std::os::unix::fs::PermissionsExt;

    let directory = Directory::new();
    let mode = |name| fs::metadata(directory.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(run(&directory, "3.7.1", &[]).0, Some(0));
    assert_eq!((mode("data"), mode("data/version.txt")), (0o755, 0o644));
    assert_eq!(run(&directory, "3.7.1", &["--data-dir-mode=0700"]).0, Some(0));
    assert_eq!(mode("data"), 0o700);
}

#[test]
fn the_plan_is_printed_and_nothing_is_touched() {
    let directory = Directory::new();
    let (code, stdout, _) = run(&directory, "3.6.14", &["--plan"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        stdout,
        "data directory DIR/data: no etcd has started here yet\n\
         target 3.6.14/etcd3\n  1. write 3.6.14/etcd3 into version.txt\n"
    );
    let (_, stdout, _) = run(&directory, "3.6.14", &["--plan", "--plan-format=json"]);
    assert_eq!(
        stdout,
        "{\"schemaVersion\":1,\"dataDirectory\":\"DIR/data\",\"from\":null,\"target\":\"3.6.14/etcd3\",\
         \"steps\":[{\"action\":\"record\",\"version\":\"3.6.14\"}]}\n"
    );
    assert!(!directory.path("data").exists());
}

#[test]
fn errors_have_one_line_a_hint_and_their_own_exit_code() {
    let directory = Directory::new();
    for (target, arguments, code, line) in [
        ("3.6.14", &["--no-such-flag"][..], 2, "error: unknown flag: --no-such-flag"),
        ("3.6.14", &["upgrade"], 2, "error: unknown command: upgrade"),
        (
            "3.6",
            &[],
            2,
            "error: --target-version: `3.6` is not an etcd version, for example `3.6.14`",
        ),
        (
            "3.6.13",
            &[],
            3,
            "error: this image bundles no etcd 3.6.13, only 3.4.27, 3.5.33, 3.6.14, 3.7.1",
        ),
        ("4.0.0", &[], 3, "error: etcd 4.0 is not supported: only etcd 3 is"),
        ("3.6.14", &["--target-storage=etcd2"], 3, "error: etcd2 storage is not supported"),
        (
            "3.6.14",
            &["--etcd-server-extra-args=--data-dir=/data"],
            2,
            "error: --data-dir among the extra arguments is not supported: data outside of \
             --data-dir would neither be copied nor migrated",
        ),
    ] {
        let (actual, stdout, stderr) = run(&directory, target, arguments);
        assert_eq!((actual, stdout.as_str()), (Some(code), ""), "{arguments:?} {stderr}");
        assert_eq!(stderr.lines().next(), Some(line));
        assert!(!directory.path("data").exists());
    }
}

#[test]
fn what_is_no_data_directory_stays_as_it_is() {
    let directory = Directory::new();
    directory.write("data/notes.txt", b"mine");
    let (code, _, stderr) = run(&directory, "3.6.14", &[]);
    assert_eq!(code, Some(3));
    let error = "error: DIR/data is not an etcd data directory: it holds `notes.txt`\nhint: ";
    assert!(stderr.starts_with(error), "{stderr}");
    assert_eq!(fs::read_dir(directory.path("data")).unwrap().count(), 1);
    // An etcd would begin an empty cluster beside what is left of this one.
    directory.write("data/version.txt", b"3.6.14/etcd3");
    directory.write("data/member.old/snap/db", b"mine");
    let (code, _, stderr) = run(&directory, "3.6.14", &[]);
    assert_eq!(code, Some(3), "{stderr}");
    let error = "error: DIR/data is not an etcd data directory: it holds `member.old`";
    assert!(stderr.starts_with(error), "{stderr}");
}

#[test]
fn a_second_one_learns_who_holds_the_directory() {
    let directory = Directory::new();
    directory.write("data/.migrate/lock", b"process 7 on host");
    let file = fs::File::open(directory.path("data/.migrate/lock")).unwrap();
    file.lock().unwrap();
    let (code, _, stderr) = run(&directory, "3.6.14", &[]);
    assert_eq!(code, Some(5));
    assert!(
        stderr.contains("error: DIR/data is being migrated by process 7 on host\n"),
        "{stderr}"
    );
    assert_eq!(directory.version(), "");
    // A plan only reads, so it works while the directory is locked.
    assert_eq!(run(&directory, "3.6.13", &["--plan"]).0, Some(3));
    assert_eq!(run(&directory, "3.6.14", &["--plan"]).0, Some(0));
}

#[test]
fn what_is_torn_because_somebody_writes_to_it_is_not_called_damaged() {
    let directory = Directory::new();
    directory.write("data/member/snap/db", b"a page that is being written");
    directory.write("data/member/wal/0.wal", b"");
    directory.write("data/.migrate/lock", b"process 7 on host");
    let open = |name| fs::File::open(directory.path(name)).unwrap();
    let [migrate, server] = ["data/.migrate/lock", "data/member/snap/db"].map(open);
    let check = |code, line: &str| {
        for flags in [&[][..], &["--plan"], &["--data-dir-mode=0700"]] {
            let (actual, _, stderr) = run(&directory, "3.6.14", flags);
            assert_eq!(actual, Some(code), "{stderr}");
            assert_eq!(stderr.lines().next(), Some(line));
        }
    };
    migrate.lock().unwrap();
    server.lock().unwrap();
    check(5, "error: DIR/data is being migrated by process 7 on host");
    migrate.unlock().unwrap();
    check(5, "error: an etcd server is running on DIR/data");
    server.unlock().unwrap();
    check(
        3,
        "error: cannot read DIR/data/member/snap/db: not a whole bbolt file: \
         neither of its two first pages is valid",
    );
}

#[test]
fn exit_code_1_means_that_nothing_changed() {
    let directory = Directory::new();
    directory.write("bin/etcd-3.6.14", b"");
    directory.write("bin/etcd/in-the-way", b"");
    for (code, hint) in [(4, "hint: run migrate again: it goes on where it stopped\n"), (1, "")] {
        let mut command = directory.command("3.6.14", &directory.path("bin"));
        command.env_remove("DO_NOT_MOVE_BINARIES").arg(BUNDLED);
        let (actual, _, stderr) = outcome(&command.output().unwrap());
        assert_eq!(actual, Some(code), "{stderr}");
        assert!(stderr.contains("error: cannot replace "), "{stderr}");
        assert!(stderr.ends_with(hint), "{stderr}");
        assert_eq!(directory.version(), "3.6.14/etcd3");
    }
}

#[test]
fn json_lines_are_json_and_help_is_on_stdout() {
    let directory = Directory::new();
    let (code, _, stderr) = run(&directory, "3.6.13", &["--log-format=json"]);
    assert_eq!(code, Some(3));
    assert!(stderr.starts_with("{\"time\":\"") && stderr.ends_with("}\n"), "{stderr}");
    assert!(stderr.contains("\"level\":\"error\",\"event\":\"failed\""), "{stderr}");
    let (code, stdout, stderr) = run(&directory, "3.6.14", &["--help"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("--target-version V"));
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_an_error_of_one_line() {
    let directory = Directory::new();
    for flag in ["--plan", "--help", "--version"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = directory.command("3.6.14", &directory.path("bin"));
        let output = command.args([BUNDLED, flag]).stdout(full).output().unwrap();
        let (code, _, stderr) = outcome(&output);
        assert_eq!(code, Some(1), "{flag}: {stderr}");
        let line = "error: cannot write to standard output: No space left on device (os error 28)";
        assert_eq!(stderr.trim_end(), line);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let directory = Directory::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = directory.command("3.6.14", &directory.path("bin"));
    assert_eq!(command.arg(BUNDLED).stderr(full).status().unwrap().code(), Some(0));
    assert_eq!(directory.version(), "3.6.14/etcd3");
}

#[test]
fn those_who_do_not_read_the_log_learn_how_a_run_ended() {
    let directory = Directory::new();
    let [metrics, message] = ["m.prom", "message"].map(|name| directory.path(name));
    let flags = [
        format!("--metrics-file={}", metrics.display()),
        format!("--termination-log={}", message.display()),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let exit_code = || {
        let text = fs::read_to_string(&metrics).unwrap();
        let line = text.lines().find(|line| line.starts_with("etcd_migrate_last_run_exit_code{"));
        line.unwrap().split(' ').next_back().unwrap().to_owned()
    };
    assert_eq!(run(&directory, "3.7.1", &flags).0, Some(0));
    assert_eq!((exit_code().as_str(), message.exists()), ("0", false));
    directory.write("data/notes.txt", b"");
    let (code, _, stderr) = run(&directory, "3.7.1", &flags);
    assert_eq!((code, exit_code().as_str()), (Some(3), "3"));
    let message =
        fs::read_to_string(&message).unwrap().replace(directory.0.to_str().unwrap(), "DIR");
    assert_eq!(format!("error: {message}\n"), stderr);
    // What cannot be written is no reason to fail.
    let nowhere = format!("--metrics-file={}/no/m", directory.0.display());
    let (code, _, stderr) = run(&Directory::new(), "3.7.1", &[&nowhere]);
    assert_eq!(code, Some(0));
    assert!(stderr.contains("warning: cannot write"), "{stderr}");
}
