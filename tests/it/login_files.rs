//! Sources of logins: the files of docker and podman, credential helpers, a password on standard
//! input. No secret may be printed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::catalog_fixture::Run;
use crate::layout_fixture::LayoutFixture;
use crate::lies::{Behaviour, LetsIn};
use crate::push_command::PushCommandFixture;

const SECRET: &str = "hunter2hunter2";

/// `me:hunter2hunter2`
const ENCODED: &str = "bWU6aHVudGVyMmh1bnRlcjI=";

fn closed() -> Behaviour {
    let authorization = [format!("Basic {ENCODED}")].into();
    let challenge = "Basic realm=\"here\"".to_owned();
    Behaviour { lets_in: Some(LetsIn { authorization, challenge }), ..Behaviour::default() }
}

#[track_caller]
fn assert_says_no_secret(run: &Run) {
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(!said.contains(SECRET) && !said.contains(ENCODED), "{said}");
}

#[test]
fn logins_come_from_the_files_of_docker_and_podman() {
    for (variable, file) in [
        ("HOME", ".docker/config.json"),
        ("DOCKER_CONFIG", "config.json"),
        ("HOME", ".config/containers/auth.json"),
        ("XDG_RUNTIME_DIR", "containers/auth.json"),
        ("REGISTRY_AUTH_FILE", ""),
    ] {
        let (pusher, layout) = (PushCommandFixture::new(closed()), LayoutFixture::small());
        let place = pusher.home.path().join("place");
        let path = if file.is_empty() { place.clone() } else { place.join(file) };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let auths =
            format!(r#"{{"auths": {{"{}": {{"auth": "{ENCODED}"}}}}}}"#, pusher.registry.host());
        fs::write(&path, auths).unwrap();
        let mut command = pusher.command(&layout);
        let run = pusher.finish(command.env(variable, &place).arg("-v"));
        assert_says_no_secret(&run);
        run.ok();
        pusher.assert_there(&layout);
    }
}

#[test]
fn logins_come_from_credential_helpers() {
    for config in
        [r#"{"credHelpers": {"HOST": "test"}}"#, r#"{"credsStore": "test", "auths": {"HOST": {}}}"#]
    {
        let (pusher, layout) = (PushCommandFixture::new(closed()), LayoutFixture::small());
        let home = pusher.home.path();
        fs::create_dir_all(home.join(".docker")).unwrap();
        let host = pusher.registry.host();
        fs::write(home.join(".docker/config.json"), config.replace("HOST", &host)).unwrap();
        let helper = home.join("docker-credential-test");
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = get ] && read -r server && [ \"$server\" = {host} ] || exit 1\n\
             echo '{{\"ServerURL\": \"x\", \"Username\": \"me\", \"Secret\": \"{SECRET}\"}}'\n"
        );
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
        let mut command = pusher.command(&layout);
        let run = pusher.finish(command.env("PATH", path).arg("-v"));
        assert_says_no_secret(&run);
        run.ok();
    }
}

#[test]
fn a_password_comes_by_standard_input_and_is_seen_nowhere() {
    use std::io::Write as _;
    let (pusher, layout) = (PushCommandFixture::new(closed()), LayoutFixture::small());
    let mut command = pusher.command(&layout);
    command.args(["-v", "--username", "me", "--password-stdin"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut push = command.spawn().unwrap();
    writeln!(push.stdin.take().unwrap(), "{SECRET}").unwrap();
    let output = push.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let run = Run { code: output.status.code(), stdout, stderr };
    assert_says_no_secret(&run);
    run.ok();
    pusher.assert_there(&layout);
    // Nor is it kept.
    let mut folders = vec![pusher.home.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let kept = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                assert!(!kept.contains(SECRET) && !kept.contains(ENCODED), "{}", path.display());
            }
        }
    }
}

#[test]
fn no_login_is_told_how_to_get_one() {
    let (pusher, layout) = (PushCommandFixture::new(closed()), LayoutFixture::small());
    insta::assert_snapshot!(pusher.push(&layout, &[]).error(), @r"
    error: cannot ask registry/etcd what 3.7.1-0 names
      because: registry asks for a login, and none is known for it
    hint: log in with `docker login REGISTRY` or `podman login REGISTRY`, or use `--username USER --password-stdin`
    exit 5
    ");
}
