#[test]
fn the_wrappers_pass_everything_on_to_the_program_in_the_image() {
    let shell = include_str!("../../migrate-if-needed.sh");
    assert_eq!(shell.lines().last(), Some("exec /usr/local/bin/migrate \"$@\""));
    let batch = include_str!("../../migrate-if-needed.bat");
    assert!(batch.contains("\r\nC:\\usr\\local\\bin\\migrate.exe %*\r\nexit /b %ERRORLEVEL%\r\n"));
}
