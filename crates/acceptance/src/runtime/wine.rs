//! A Windows prefix made by wine, with the files of an image on its drive C:. For programs that end
//! by themselves, not for servers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{RuntimeError, find, to_the_end};
use crate::container::Ended;
use crate::image_under_test::ImageUnderTest;
use contract::paths::FILES;
use process::Invocation;

/// No network, and processes of its own: wine's server ends with the program.
const RUN: &str = r#"
"$WINE" "$@"
code=$?
wineserver -k 2>/dev/null
exit $code
"#;

/// How long wine may take to make a prefix.
const PREFIX_TIMEOUT: Duration = Duration::from_mins(3);
/// The library that Go reads random numbers from; old versions of wine do not have it.
const LIBRARY: &str = "windows/system32/bcryptprimitives.dll";

#[derive(Debug)]
pub struct Wine<'a> {
    program: PathBuf,
    folder: PathBuf,
    interrupted: &'a AtomicBool,
}

impl<'a> Wine<'a> {
    /// Makes a prefix with the image in it; or says why that is not possible here.
    pub fn boot(
        under_test: &ImageUnderTest,
        folder: &Path,
        interrupted: &'a AtomicBool,
    ) -> Result<Result<Self, String>, RuntimeError> {
        let names = ["wine", "wine64"];
        let Some(program) = names.into_iter().find_map(find) else {
            return Ok(Err("wine is not installed".to_owned()));
        };
        if find("unshare").is_none() {
            return Ok(Err("unshare is not installed".to_owned()));
        }
        let wine = Self { program, folder: folder.to_owned(), interrupted };
        let ended = wine.start(Path::new("/"), &["wineboot", "--init"], &BTreeMap::new())?;
        if ended.code != 0 || !wine.drive().is_dir() {
            let last = ended.stderr.lines().last().unwrap_or_default().to_owned();
            return Ok(Err(format!("wine cannot create a prefix here: {last}")));
        }
        if !wine.drive().join(LIBRARY).exists() && !wine.borrow_library() {
            let why =
                "this wine has no bcryptprimitives.dll; set WINEPREFIX to a prefix that has it";
            return Ok(Err(why.to_owned()));
        }
        wine.install(under_test)?;
        Ok(Ok(wine))
    }

    pub fn drive(&self) -> PathBuf {
        self.folder.join("prefix/drive_c")
    }

    /// Runs a program of drive C: to its end.
    pub fn run(
        &self,
        words: &[&str],
        environment: &BTreeMap<String, OsString>,
    ) -> Result<Ended, RuntimeError> {
        self.start(&self.drive(), words, environment)
    }

    fn borrow_library(&self) -> bool {
        let Some(prefix) = std::env::var_os("WINEPREFIX") else { return false };
        let theirs = Path::new(&prefix).join("drive_c").join(LIBRARY);
        fs::copy(theirs, self.drive().join(LIBRARY)).is_ok()
    }

    /// Unpacks the image as Windows would show it: what is below `Files` is on drive C:.
    fn install(&self, under_test: &ImageUnderTest) -> Result<(), RuntimeError> {
        let failed = || RuntimeError::because("cannot unpack the image for Windows");
        let image = self.folder.join("image");
        fs::create_dir_all(&image).map_err(failed())?;
        under_test
            .unpack(&image)
            .map_err(RuntimeError::because("cannot unpack the image for Windows"))?;
        for entry in fs::read_dir(image.join(FILES)).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            fs::rename(entry.path(), self.drive().join(entry.file_name())).map_err(failed())?;
        }
        Ok(())
    }

    fn start(
        &self,
        folder: &Path,
        words: &[&str],
        environment: &BTreeMap<String, OsString>,
    ) -> Result<Ended, RuntimeError> {
        let mut arguments = vec!["--pdeathsig", "KILL", "unshare", "--net", "--pid", "--fork"];
        arguments.extend(["--kill-child", "--mount-proc"]);
        if !rustix::process::geteuid().is_root() {
            arguments.extend(["--user", "--map-root-user"]);
        }
        arguments.extend(["sh", "-c", RUN, "wine"]);
        arguments.extend(words);
        let mut environment = environment.clone();
        environment.extend([
            ("WINE".to_owned(), self.program.clone().into()),
            ("WINEPREFIX".to_owned(), self.folder.join("prefix").into()),
            ("WINEDEBUG".to_owned(), "-all".into()),
            // Without menus, a browser engine and .NET.
            ("WINEDLLOVERRIDES".to_owned(), "winemenubuilder.exe,mscoree,mshtml=".into()),
            ("HOME".to_owned(), self.folder.clone().into()),
        ]);
        let invocation = Invocation {
            program: "setpriv".into(),
            arguments: arguments.into_iter().map(OsString::from).collect(),
            folder: folder.to_owned(),
            passed_on: super::path(),
            environment,
        };
        to_the_end(&invocation, &self.folder, PREFIX_TIMEOUT, self.interrupted)
    }
}
