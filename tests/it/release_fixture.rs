//! A copy of the repository's catalog, by default with only the newest etcd, and with bases that
//! need no registry. For tests that build every platform.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::catalog_fixture::copy_folder;
use crate::mutable_image::gunzip;
use crate::run::run;
use crate::stand_in;

pub const LAST: &str = "3.7.1";

/// A catalog, and bases that were made without a registry.
#[derive(Debug)]
pub struct ReleaseFixture {
    folder: TempDir,
    pub bases: Vec<String>,
}

impl ReleaseFixture {
    pub fn new() -> Self {
        Self::without_bases().with_bases()
    }

    /// All versions if `ETCDIMG_ALL_VERSIONS` asks for them.
    pub fn of_asked_versions() -> Self {
        let is_full = env::var_os("ETCDIMG_ALL_VERSIONS").is_some();
        if is_full { Self::of(&whole_catalog()).with_bases() } else { Self::new() }
    }

    fn with_bases(self) -> Self {
        let mut fixture = self;
        let bases = fixture.path("bases");
        let bases = run("scripts/bases", &[bases.to_str().unwrap()]);
        fixture.bases = bases.split_whitespace().map(str::to_owned).collect();
        fixture
    }

    /// For builds that name their bases themselves.
    pub fn without_bases() -> Self {
        let mut versions = whole_catalog();
        let first = versions.find("  - version:").unwrap();
        let last = versions.find(&format!("  - version: {LAST}")).unwrap();
        versions.replace_range(first..last, "");
        Self::of(&versions)
    }

    fn of(versions: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("platforms-").tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["Cargo.lock", "Cargo.toml", "crates", "scripts", "src", "targets", "tests"] {
            symlink(repository.join(name), root.join(name)).unwrap();
        }
        fs::create_dir(root.join("sources")).unwrap();
        for entry in fs::read_dir(repository.join("sources")).unwrap() {
            let (name, path) = entry.map(|entry| (entry.file_name(), entry.path())).unwrap();
            if versions.contains(&format!("  - version: {}\n", name.display())) {
                symlink(path, root.join("sources").join(name)).unwrap();
            }
        }
        fs::write(root.join("versions.yaml"), versions).unwrap();
        fs::copy(repository.join("etcdimg.lock"), root.join("etcdimg.lock")).unwrap();
        let fixture = Self { folder, bases: Vec::new() };
        let cache = fixture.path("lock-cache").display().to_string();
        fixture.etcdimg(&["lock", "--offline", "--cache-dir", &cache]);
        fixture
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn etcdimg(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}", arguments.join(" "));
        output
    }

    /// What a run that must fail says, from `error:` on.
    pub fn refused(&self, arguments: &[&str]) -> String {
        self.fails(4, arguments)
    }

    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{}\n{said}", arguments.join(" "));
        said[said.find("error: ").unwrap()..].to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
        command.arg("-C").arg(self.path("root")).args(arguments).current_dir(self.folder.path());
        command.env_remove("ARCH");
        let docker = self.path("docker");
        if docker.exists() {
            command.env("PATH", stand_in::path_with(&docker));
            command.env("ETCDIMG_CACHE", self.path("cache"));
        }
        command.output().unwrap()
    }

    /// Compiles nothing from here on, and has a cache of its own: `--builder=buildx` takes
    /// stand-ins.
    pub fn with_stand_ins(self) -> Self {
        let catalog = etcdimg::catalog::load(&self.path("root")).unwrap().0;
        stand_in::write_docker(&self.path("docker"), &catalog);
        self
    }

    /// Adds a line to `migrate` that does not compile.
    pub fn break_migrate(&self) {
        let crates = self.path("root/crates");
        fs::remove_file(&crates).unwrap();
        copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crates"), &crates);
        let main = crates.join("migrate/src/main.rs");
        let text = fs::read_to_string(&main).unwrap();
        fs::write(main, format!("{text}\ncompile_error!(\"broken on purpose\");\n")).unwrap();
    }

    /// What a build says on standard error.
    pub fn build(&self, command: &str, arguments: &[&str]) -> String {
        let bases: Vec<_> = self.bases.iter().map(String::as_str).collect();
        let fixed = [command, "--from=source", "--builder=host", "--out=layout"];
        let output = self.etcdimg(&[&fixed[..], &bases, arguments].concat());
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn document(&self, digest: &Value) -> Value {
        serde_json::from_slice(&fs::read(self.blob(digest)).unwrap()).unwrap()
    }

    pub fn blob(&self, digest: &Value) -> PathBuf {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        self.path("layout/blobs/sha256").join(hex)
    }

    pub fn index(&self) -> Value {
        let root = fs::read(self.path("layout/index.json")).unwrap();
        let root: Value = serde_json::from_slice(&root).unwrap();
        self.document(&root["manifests"][0]["digest"])
    }

    /// A file of a Windows image, unpacked.
    pub fn windows_program(&self, name: &str) -> PathBuf {
        let manifests = self.index()["manifests"].as_array().unwrap().clone();
        let is_windows = |it: &&Value| it["platform"]["os"] == "windows";
        let manifest = self.document(&manifests.iter().find(is_windows).unwrap()["digest"]);
        for layer in manifest["layers"].as_array().unwrap() {
            let bytes = gunzip(&fs::read(self.blob(&layer["digest"])).unwrap());
            let mut tar = tar::Archive::new(&bytes[..]);
            for entry in tar.entries().unwrap() {
                let mut entry = entry.unwrap();
                if entry.path().unwrap().ends_with(name) && entry.size() > 0 {
                    let path = self.path(name);
                    std::io::copy(&mut entry, &mut fs::File::create(&path).unwrap()).unwrap();
                    return path;
                }
            }
        }
        panic!("no {name} in the Windows image");
    }
}

fn whole_catalog() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("versions.yaml")).unwrap()
}
