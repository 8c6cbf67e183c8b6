//! A small catalog for each test, with its own base, mirror, cache and output folder.
//!
//! The programs in it are stand-ins (`stand_in.rs`); nothing is compiled.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use etcdimg::catalog::lock::{BaseLock, Lock, ReleaseLock, SourceLock};
use etcdimg::catalog::{self, Catalog};
use etcdimg::digest::Digest;
use tempfile::TempDir;

use crate::stand_in;

pub const VERSION: &str = "3.4.21";
pub const TAG: &str = "3.4.21-0";
pub const ARCHIVE: &str = "etcd-v3.4.21-linux-amd64.tar.gz";

/// The folder inside the archive.
pub const MEMBERS: &str = "etcd-v3.4.21-linux-amd64";

const VERSIONS: &str = "\
repository: etcd
revision: 0
etcd:
  - version: 3.4.21
    go: 1.16.15
    commit: 85b640cee793e25f3837c47200089d14a8392dc7
rust: 1.95.0
zig: 0.17.0
bases:
  busybox: docker.io/library/busybox:1.38.0-musl
mirrors:
  - https://mirror.invalid/v{version}/{file}
";

const SCRIPT: &str = "usr/local/bin/migrate-if-needed.sh";

/// The shell of the base; any content will do.
const SHELL: &[u8] = b"#!/nothing\n";

/// A finished run of the program, with the fixture's folder shown as `FIXTURE`.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Standard output of a run that must have gone well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout.trim_end().to_owned()
    }

    /// The message of a run that must have failed, from `error:` on, with its exit code.
    #[track_caller]
    pub fn error(self) -> String {
        assert_ne!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        let at = self.stderr.find("error: ").unwrap_or_else(|| panic!("{}", self.stderr));
        let code = self.code.map_or("killed".to_owned(), |code| format!("exit {code}"));
        format!("{}\n{code}", self.stderr[at..].trim_end())
    }
}

#[derive(Debug)]
pub struct CatalogFixture {
    folder: TempDir,
    cache: PathBuf,
}

impl CatalogFixture {
    /// A catalog whose release archive is not on the mirror.
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("catalog-").tempdir().unwrap();
        let cache = folder.path().join("cache");
        let fixture = Self { folder, cache };
        let repository = repository();
        for folder in ["root/targets", "root/sources", "mirror", "cache"] {
            fs::create_dir_all(fixture.path(folder)).unwrap();
        }
        fs::write(fixture.root().join("versions.yaml"), VERSIONS).unwrap();
        for file in ["Cargo.toml", "Cargo.lock", "targets/linux-amd64.yaml"] {
            fs::copy(repository.join(file), fixture.root().join(file)).unwrap();
        }
        // Cargo wants every target of the workspace to exist, though it compiles none of these.
        for folder in ["src", "scripts", "tests"] {
            std::os::unix::fs::symlink(repository.join(folder), fixture.root().join(folder))
                .unwrap();
        }
        copy_folder(&repository.join("crates"), &fixture.root().join("crates"));
        fixture.add_source(VERSION);
        fs::write(fixture.path("base.tar"), base()).unwrap();
        fixture.relock();
        fixture
    }

    /// A fixture with the cache that people use, where Go's modules and toolchains are too: for
    /// tests that compile the real programs.
    pub fn with_shared_cache() -> Self {
        Self { cache: shared_cache(), ..Self::empty() }
    }

    /// A fixture whose mirror has the release, and whose cache has `migrate`.
    pub fn with_release() -> Self {
        let parts = Parts::get();
        let fixture = Self::empty();
        fixture.offer(&parts.archive);
        parts.copy_compiled(&fixture.cache());
        fixture
    }

    /// Offers an archive, and locks its digest.
    pub fn offer(&self, archive: &[u8]) {
        fs::write(self.path("mirror").join(ARCHIVE), archive).unwrap();
        self.relock();
    }

    /// Offers an archive that the lock does not describe.
    pub fn swap_archive(&self, archive: &[u8]) {
        fs::write(self.path("mirror").join(ARCHIVE), archive).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    pub fn cache(&self) -> PathBuf {
        self.cache.clone()
    }

    pub fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// Replaces a text that must occur exactly once in a file of the catalog.
    #[track_caller]
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.root().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(from).count(), 1, "`{from}` in {file}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    pub fn add_source(&self, version: &str) {
        let from = repository().join("sources").join(VERSION);
        copy_folder(&from, &self.root().join("sources").join(version));
    }

    pub fn catalog(&self) -> Catalog {
        catalog::load(&self.root()).unwrap().0
    }

    /// Writes the lock that fits the catalog and the mirror.
    pub fn relock(&self) {
        let repository = fs::read_to_string(repository().join("etcdimg.lock")).unwrap();
        let known = catalog::parse_lock(&repository).unwrap();
        let catalog = self.catalog();
        let digest = |file: &str| {
            let archive = fs::read(self.path("mirror").join(file)).unwrap_or_default();
            Digest::of(archive)
        };
        let bundled = &catalog.versions.bundled;
        let source = |version: &etcd_version::EtcdVersion| {
            let (go_mod, go_sum) = catalog.sources[&version.to_string()];
            SourceLock::new(version.clone(), go_mod, go_sum)
        };
        let platforms = catalog.targets.iter().map(|it| (it.platform.clone(), Digest::of("base")));
        let lock = Lock {
            catalog: catalog.digest(),
            releases: catalog
                .releases()
                .map(|(_, file)| ReleaseLock::new(file.clone(), digest(&file), None))
                .collect(),
            sources: bundled.iter().map(|etcd| source(&etcd.version)).collect(),
            toolchains: known
                .toolchains
                .into_iter()
                .filter(|it| bundled.iter().any(|etcd| etcd.go == it.go))
                .collect(),
            bases: vec![BaseLock::new(
                "busybox".to_owned(),
                Digest::of("index"),
                platforms.collect(),
            )],
        };
        fs::write(self.root().join("etcdimg.lock"), lock.to_yaml()).unwrap();
    }

    /// The program in this fixture. The caller's environment does not influence it.
    pub fn command(&self, command: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
        self.arguments(&mut program, command);
        program
    }

    /// The arguments and environment of the program, for tests that start it through a wrapper.
    pub fn arguments(&self, program: &mut Command, command: &str) {
        for variable in
            ["ARCH", "ETCDIMG_CACHE", "SOURCE_DATE_EPOCH", "NO_COLOR", "PUSH_REGISTRY", "REGISTRY"]
        {
            program.env_remove(variable);
        }
        program.arg(command).arg("-C").arg(self.root()).arg("--cache-dir").arg(self.cache());
        if matches!(command, "plan" | "fetch" | "build" | "all-push") {
            program.arg("--base").arg(self.base());
        }
        if matches!(command, "plan" | "fetch" | "build" | "all-push" | "package") {
            program
                .arg("--mirror")
                .arg(format!("file://{}/{{file}}", self.path("mirror").display()));
        }
        match command {
            "build" | "all-push" | "package" => drop(program.arg("--out").arg(self.out())),
            "verify" => drop(program.arg(self.out())),
            _ => {}
        }
    }

    pub fn run(&self, command: &str, arguments: &[&str]) -> Run {
        self.finish(self.command(command).args(arguments))
    }

    pub fn build(&self) -> Run {
        self.run("build", &[])
    }

    /// A build from source by a `docker` that returns stand-ins for the compiled programs.
    pub fn build_with_stand_ins(&self) -> Command {
        let folder = self.path("docker");
        stand_in::write_docker(&folder, &self.catalog());
        let mut build = self.command("build");
        build.args(["--from", "source", "--builder", "buildx"]);
        build.args(["--builder-image", stand_in::BUILDER_IMAGE]);
        build.env("PATH", stand_in::path_with(&folder));
        build
    }

    pub fn finish(&self, command: &mut Command) -> Run {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let fixture = self.folder.path().display().to_string();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&fixture, "FIXTURE");
        Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    fn base(&self) -> String {
        let digest = Digest::of(base());
        format!("busybox=rootfs:{}@{digest}", self.path("base.tar").display())
    }
}

/// The stand-in programs, made once, and the cache entries for them.
#[derive(Debug)]
pub struct Parts {
    pub etcd: Vec<u8>,
    pub etcdctl: Vec<u8>,
    /// A release as the etcd project would pack it.
    pub archive: Vec<u8>,
    /// The same without the blocks that end a tar, so that more can follow.
    pub open_archive: Vec<u8>,
    /// Files of the cache, by their paths in it.
    cached: BTreeMap<String, Vec<u8>>,
}

impl Parts {
    pub fn get() -> &'static Self {
        static PARTS: OnceLock<Parts> = OnceLock::new();
        PARTS.get_or_init(Self::make)
    }

    fn make() -> Self {
        let fixture = CatalogFixture::empty();
        fixture.finish(&mut fixture.build_with_stand_ins()).ok();
        let programs = programs(&fixture.out());
        let find = |name: &str| {
            let program = programs.iter().find(|(path, _)| path.ends_with(name));
            program.unwrap_or_else(|| panic!("no {name}")).1.clone()
        };
        let (etcd, etcdctl) = (find("/etcd-3.4.21"), find("/etcdctl-3.4.21"));
        let open_archive = gzip(release_tar(&etcd, &etcdctl).get_ref());
        let archive = release(&etcd, &etcdctl);
        let is_program =
            |name: &str| programs.iter().any(|(_, bytes)| name.ends_with(&Digest::of(bytes).hex()));
        let mut cached = files(&fixture.cache());
        cached.retain(|name, _| name.starts_with("records/compile/") || is_program(name));
        Self { etcd, etcdctl, archive, open_archive, cached }
    }

    /// Gives a cache the compiled programs, so that they are not compiled again.
    pub fn copy_compiled(&self, cache: &Path) {
        for (name, bytes) in &self.cached {
            let path = cache.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// Where people keep compiled programs; Go's modules and toolchains are there too.
pub fn shared_cache() -> PathBuf {
    cache_dir::cache_folder().expect("HOME")
}

/// Every file below /usr/local/bin of the layout's only image.
fn programs(layout: &Path) -> Vec<(String, Vec<u8>)> {
    let mut programs = Vec::new();
    for layer in crate::mutable_image::MutableImage::open(layout).layers() {
        let mut tar = tar::Archive::new(&layer[..]);
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let is_file = entry.header().entry_type() == tar::EntryType::Regular;
            if is_file && path.starts_with("usr/local/bin/") && path != SCRIPT {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                programs.push((path, bytes));
            }
        }
    }
    programs
}

/// A release archive with these programs.
pub fn release(etcd: &[u8], etcdctl: &[u8]) -> Vec<u8> {
    gzip(&release_tar(etcd, etcdctl).into_inner().unwrap())
}

fn release_tar(etcd: &[u8], etcdctl: &[u8]) -> tar::Builder<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    folder(&mut tar, &format!("{MEMBERS}/"));
    file(&mut tar, &format!("{MEMBERS}/README.md"), b"read me");
    file(&mut tar, &format!("{MEMBERS}/etcd"), etcd);
    file(&mut tar, &format!("{MEMBERS}/etcdctl"), etcdctl);
    tar
}

/// A gzipped tar of whatever `fill` puts into it.
pub fn archive(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    fill(&mut tar);
    gzip(&tar.into_inner().unwrap())
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

pub fn file(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) {
    member(tar, path, tar::EntryType::Regular, 0o755, bytes);
}

fn folder(tar: &mut tar::Builder<Vec<u8>>, path: &str) {
    member(tar, path, tar::EntryType::Directory, 0o755, b"");
}

/// The name goes in as it is: the tar crate would refuse hostile ones.
pub fn member(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    bytes: &[u8],
) {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}

fn base() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    folder(&mut tar, "bin/");
    file(&mut tar, "bin/sh", SHELL);
    tar.into_inner().unwrap()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Replaces digests by `…`: they change with compilers and compressors.
pub fn without_digests(text: &str) -> String {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_hex) {
        let word = rest[at..].find(|c| !is_hex(c)).unwrap_or(rest.len() - at);
        out.push_str(&rest[..at]);
        out.push_str(if word == 12 || word == 64 { "…" } else { &rest[at..at + word] });
        rest = &rest[at + word..];
    }
    out + rest
}

/// Every file of a layout with its bytes.
pub fn files(layout: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![layout.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(layout).unwrap().display().to_string();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}
