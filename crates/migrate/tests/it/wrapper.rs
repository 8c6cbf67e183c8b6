//! The two names that old manifests call. The batch file itself is run by the suite `windows` of
//! `etcdimg test`; here only its text is looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::directory::{Directory, outcome};

const IN_THE_IMAGE: &str = "/usr/local/bin/migrate";

/// Prints each argument on a line and what the environment says, and ends with 3.
const PROGRAM: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" \"$TARGET_VERSION\"\nexit 3\n";

#[test]
fn the_wrapper_passes_everything_on_to_the_program_in_the_image() {
    let directory = Directory::new();
    directory.write("migrate", PROGRAM.as_bytes());
    let migrate = directory.path("migrate");
    fs::set_permissions(&migrate, fs::Permissions::from_mode(0o755)).unwrap();
    let shell = include_str!("../../migrate-if-needed.sh");
    assert!(shell.starts_with("#!/bin/sh\n"));
    assert_eq!(shell.matches(IN_THE_IMAGE).count(), 1);
    let shell = shell.replace(IN_THE_IMAGE, migrate.to_str().unwrap());
    directory.write("wrapper.sh", shell.as_bytes());
    let mut command = Command::new("sh");
    command.arg(directory.path("wrapper.sh")).args(["--plan", "two words", "", "*"]);
    let (code, stdout, stderr) = outcome(&command.env("TARGET_VERSION", "3.7.1").output().unwrap());
    assert_eq!(stdout, "--plan\ntwo words\n\n*\n3.7.1\n", "{stderr}");
    assert_eq!(code, Some(3));
}

#[test]
fn the_batch_file_names_the_program_in_the_image() {
    let batch = include_str!("../../migrate-if-needed.bat");
    assert!(batch.contains("\r\nC:\\usr\\local\\bin\\migrate.exe %*\r\nexit /b %ERRORLEVEL%\r\n"));
}
