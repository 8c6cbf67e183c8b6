//! The scripts of backup.yaml and restore.yaml, with programs that stand in for those of the image:
//! what they do when one of them fails, and when they are killed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use etcdimg::manifests::{ManifestKind, files};

use crate::manifests::{documents, setting};
use crate::stand_in;

/// The script of a restore Job in folders of a test, with a `migrate` that does as a script says
/// for each of its commands.
struct RestoreJob {
    folder: tempfile::TempDir,
    script: String,
}

/// As `migrate restore` leaves it.
const RESTORES: &str = "mkdir -p $place/member && echo new > $place/member/new && \
    echo 3.5.33/etcd3 > $place/version.txt && mkdir -p $place/.migrate";
const IS_STOPPED: &str = r#"echo '{"data":{"auth":false,"isServed":false,"members":[]}}'"#;
const RESTORED: &str = "restored-snapshot-20260101T000000Z";

impl RestoreJob {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["bin", "data/member", "backup"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("data/member/old"), "old").unwrap();
        fs::write(path("data/version.txt"), "3.7.1/etcd3").unwrap();
        for snapshot in ["snapshot-20250101T000000Z.db", "snapshot-20260101T000000Z.db", "partial"]
        {
            fs::write(path("backup").join(snapshot), "snapshot").unwrap();
        }
        let jobs = files(ManifestKind::Restore, &setting("3.7.1"));
        let container = &jobs[0].documents[0]["spec"]["template"]["spec"]["containers"][0];
        let names =
            container["env"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
        for needed in ["TARGET_VERSION", "TARGET_STORAGE", "ETCD_NAME", "INITIAL_CLUSTER"] {
            assert!(names.clone().any(|name| name == needed), "{needed}");
        }
        let script = container["command"][2].as_str().unwrap();
        let script = script
            .replace("/var/lib/etcd", &path("data").display().to_string())
            .replace("/backup/", &format!("{}/", path("backup").display()));
        Self { folder, script }
    }

    /// Whether it succeeded, and what it said.
    fn run(&self, status: &str, restore: &str) -> (bool, String) {
        let (bin, data) = (self.folder.path().join("bin"), self.data());
        let backup = self.folder.path().join("backup/snapshot-20260101T000000Z.db");
        let migrate = format!(
            "#!/bin/sh\nplace={data}/{RESTORED}\ncase $* in\n\
             'status --json --data-dir {data}') {status} ;;\n\
             'restore --restore-only --snapshot {backup} --data-dir '$place' --bump-revision 1000000000') \
             {restore} ;;\n*) echo \"$*\"; exit 9 ;;\nesac\n",
            data = data.display(),
            backup = backup.display()
        );
        // No two runs at the same time of the clock, which has whole seconds.
        for (name, script) in [("migrate", migrate.as_str()), ("date", "#!/bin/sh\necho $$\n")] {
            fs::write(bin.join(name), script).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = stand_in::path_with(&bin);
        let output =
            Command::new("sh").args(["-c", &self.script]).env("PATH", path).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// The names in the volume, without times.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.data()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.split_once("-restore-").map_or(name.clone(), |(it, _)| it.to_owned()))
            .collect();
        names.sort();
        names
    }

    #[track_caller]
    fn is_restored(&self) {
        assert!(
            self.data().join("member/new").exists() && !self.data().join("member/old").exists()
        );
        let version = fs::read_to_string(self.data().join("version.txt")).unwrap();
        assert_eq!(version.trim(), "3.5.33/etcd3");
    }
}

#[test]
fn a_restore_goes_on_only_when_no_server_has_the_data_open() {
    for status in [IS_STOPPED, r#"echo '{"data":null}'"#] {
        let job = RestoreJob::new();
        let (went_on, said) = job.run(status, RESTORES);
        assert!(went_on, "{said}");
        job.is_restored();
        assert_eq!(job.names(), ["before", "member", "version.txt"]);
    }
    let refused = |status: &str| {
        let job = RestoreJob::new();
        let (went_on, said) = job.run(status, RESTORES);
        assert!(!went_on, "{said}");
        assert_eq!(job.names(), ["member", "version.txt"]);
        assert!(job.data().join("member/old").exists());
        said
    };
    let said = refused(r#"echo '{"data":{"isServed":true}}'"#);
    assert!(said.contains("--replicas=0"), "{said}");
    for status in [
        // It fails, whatever it had said before; it is not there; it says something else.
        r#"echo '{"data":{"isServed":false}}'; exit 1"#,
        "exit 127",
        "true",
        r"echo '{}'",
        r#"echo '{"data":{"isServed":null}}'"#,
        r#"echo '{"data":{"name":"\"isServed\":false"}}'"#,
    ] {
        let said = refused(status);
        assert!(said.contains("does not say"), "{status}: {said}");
    }
}

#[test]
fn a_restore_that_fails_touches_nothing_and_one_that_was_killed_is_repeated() {
    let job = RestoreJob::new();
    let (went_on, said) = job.run(IS_STOPPED, "exit 3");
    assert!(!went_on && job.data().join("member/old").exists(), "{said}");
    assert_eq!(job.names(), ["member", "version.txt"]);

    // After any command that changes something. What was there before is somewhere every time.
    let changing: Vec<_> = ["mv ", "rm -rf", "--bump-revision"].into();
    let places = job.script.match_indices('\n').map(|(end, _)| end);
    let is_after = |end: &usize| {
        let line = job.script[..*end].lines().last().unwrap_or_default();
        changing.iter().any(|word| line.contains(word)) && !line.ends_with('\\')
    };
    let mut kills = 0;
    for end in places.filter(is_after).collect::<Vec<_>>() {
        for before in ["", "member", "version.txt"] {
            let mut job = RestoreJob::new();
            let whole = job.script.clone();
            // Within the loop, and at the end of each command outside of it.
            let kill = format!("\n[ \"$name\" = '{before}' ] && kill -9 $$\n");
            let is_loop = whole[..end].lines().last().unwrap().contains("$name $kept/");
            let kill = if is_loop { kill } else { "\nkill -9 $$\n".to_owned() };
            job.script = format!("{}{kill}{}", &whole[..end], &whole[end..]);
            let (ended, said) = job.run(IS_STOPPED, RESTORES);
            kills += usize::from(!ended);
            job.script = whole;
            let (went_on, more) = job.run(IS_STOPPED, RESTORES);
            assert!(went_on, "{said}{more}");
            job.is_restored();
            let all = Command::new("find").arg(job.data()).args(["-name", "old"]).output().unwrap();
            assert_eq!(String::from_utf8(all.stdout).unwrap().lines().count(), 1, "{said}{more}");
            assert!(!job.names().iter().any(|name| name.starts_with("restored")), "{more}");
        }
    }
    assert!(kills >= 10, "{kills}");
}

#[test]
fn a_snapshot_that_is_not_whole_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("bin")).unwrap();
    fs::create_dir_all(path("backup")).unwrap();
    let write = |name: &str, script: String| {
        let program = path("bin").join(name);
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("etcdctl", "echo snapshot > $3".to_owned());
    let backup = path("backup").display().to_string();
    let job = documents(ManifestKind::Backup, "CronJob").remove(0);
    let container = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    let script = container["command"][2].as_str().unwrap().replace("/backup", &backup);
    let run = |code: u8| {
        let expected = format!("status --snapshot {backup}/partial");
        write("migrate", format!("[ \"$*\" = '{expected}' ] || exit 9\nexit {code}"));
        let path = stand_in::path_with(&path("bin"));
        let ended = Command::new("sh").args(["-c", &script]).env("PATH", path).output().unwrap();
        let names = fs::read_dir(&backup).unwrap().map(|it| it.unwrap().file_name());
        let names = names.map(|it| it.into_string().unwrap()).collect::<Vec<_>>();
        (ended.status.success(), names)
    };
    assert_eq!(run(3), (false, vec!["partial".to_owned()]));
    let (ended, names) = run(0);
    assert!(ended && names.len() == 1 && names[0].starts_with("snapshot-"), "{names:?}");
}
