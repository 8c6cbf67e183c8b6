//! Images of every platform, with the real etcd 3.7.1 and `migrate` in them: what `all-build`
//! makes, and that each program runs on its machine. `scripts/real-parts run` brings the machines.
//!
//! One version of etcd, so that a cold cache is filled in minutes. `ETCDIMG_ALL_VERSIONS=1` takes
//! all of versions.yaml.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::mutant::gunzip;
use crate::platforms_pulled::an_engine_runs_what_it_pulled;

const LAST: &str = "3.7.1";
const LINUX: [&str; 5] =
    ["linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/s390x"];

/// A catalog and the bases that are made where no registry is in reach.
struct Workshop {
    folder: TempDir,
    bases: Vec<String>,
}

impl Workshop {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("platforms-").tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in
            ["Cargo.lock", "Cargo.toml", "crates", "scripts", "sources", "src", "targets", "tests"]
        {
            symlink(repository.join(name), root.join(name)).unwrap();
        }
        let mut versions = fs::read_to_string(repository.join("versions.yaml")).unwrap();
        let is_full = env::var_os("ETCDIMG_ALL_VERSIONS").is_some();
        if !is_full {
            let first = versions.find("  - version:").unwrap();
            let last = versions.find(&format!("  - version: {LAST}")).unwrap();
            versions.replace_range(first..last, "");
            fs::remove_file(root.join("sources")).unwrap();
            fs::create_dir(root.join("sources")).unwrap();
            symlink(repository.join("sources").join(LAST), root.join("sources").join(LAST))
                .unwrap();
        }
        fs::write(root.join("versions.yaml"), versions).unwrap();
        fs::copy(repository.join("etcdimg.lock"), root.join("etcdimg.lock")).unwrap();
        let bases = folder.path().join("bases");
        let bases = run("scripts/bases", &[bases.to_str().unwrap()]);
        let workshop =
            Self { folder, bases: bases.split_whitespace().map(str::to_owned).collect() };
        workshop.etcdimg(&["lock", "--offline"]);
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn etcdimg(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
        command.arg("-C").arg(self.path("root")).args(arguments).current_dir(self.folder.path());
        command.env_remove("ARCH");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}", arguments.join(" "));
        output
    }

    /// What a build says on standard error.
    fn build(&self, command: &str, arguments: &[&str]) -> String {
        let bases: Vec<_> = self.bases.iter().map(String::as_str).collect();
        let fixed = [command, "--from=source", "--builder=host", "--out=layout"];
        let output = self.etcdimg(&[&fixed[..], &bases, arguments].concat());
        String::from_utf8(output.stderr).unwrap()
    }

    fn document(&self, digest: &Value) -> Value {
        serde_json::from_slice(&fs::read(self.blob(digest)).unwrap()).unwrap()
    }

    fn blob(&self, digest: &Value) -> PathBuf {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        self.path("layout/blobs/sha256").join(hex)
    }

    fn index(&self) -> Value {
        let root = fs::read(self.path("layout/index.json")).unwrap();
        let root: Value = serde_json::from_slice(&root).unwrap();
        self.document(&root["manifests"][0]["digest"])
    }

    /// A file of a Windows image, unpacked.
    fn windows_program(&self, name: &str) -> PathBuf {
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

/// Standard output of a command that must go well.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {}\n{stdout}{stderr}", arguments.join(" "));
    stdout
}

fn tool(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("scripts/real-parts exports {name}"))
}

#[test]
fn all_build_makes_seven_images_that_clients_take_and_machines_run() {
    if env::var_os("ETCDIMG_REAL").is_none() {
        eprintln!("skipped: no real machines; `scripts/real-parts run cargo test` brings them");
        return;
    }
    let workshop = Workshop::new();
    eprint!("{}", workshop.build("all-build", &[]));
    workshop.etcdimg(&["verify", "layout"]);
    the_index_lists_every_default_platform(&workshop);
    nothing_is_compiled_twice(&workshop);
    clients_take_every_image(&workshop);
    for platform in LINUX {
        containers_run(&workshop, platform);
    }
    let (layout, tag) = (workshop.path("layout"), format!("{LAST}-0"));
    an_engine_runs_what_it_pulled(&layout, &tag, &LINUX);
    wine_runs_the_programs(&workshop);
    acceptance_passes(&workshop);
}

/// `etcdimg test` of the same index: what is in the registry, Windows, and an emulated machine.
fn acceptance_passes(workshop: &Workshop) {
    let registry = tool("ETCDIMG_TEST_REGISTRY");
    let reference = format!("{registry}/platforms/etcd:{LAST}-0");
    let test = |arguments: &[&str]| {
        let started = std::time::Instant::now();
        let all = [&["test", "--format=json", "--runtime=rootfs"], arguments].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
        command.args(all).current_dir(workshop.folder.path());
        // Which lends old wines a library.
        let output = command.env("WINEPREFIX", workshop.path("wine")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}", arguments.join(" "));
        let results: Value = serde_json::from_slice(&output.stdout).unwrap();
        eprintln!(
            "etcdimg test {}: {} passed, {} skipped, in {} s",
            arguments.join(" "),
            results["passed"],
            results["skipped"],
            started.elapsed().as_secs()
        );
        results
    };
    let insecure = format!("--insecure-registry={registry}");
    let results = test(&[&reference, &insecure, "--suite=structure", "--against=layout"]);
    assert_eq!((&results["passed"], &results["skipped"]), (&10.into(), &0.into()));
    assert_eq!(results["reference"], reference.as_str());

    let results = test(&["layout", "--suite=windows"]);
    let expected = if env::var_os("WINE").is_some() { (11, 0) } else { (7, 4) };
    assert_eq!((&results["passed"], &results["skipped"]), (&expected.0.into(), &expected.1.into()));

    let emulated = env::var("ETCDIMG_TEST_EMULATED").unwrap_or_default();
    if !emulated.split(' ').any(|it| it == "linux/s390x") {
        eprintln!("skipped: nothing of linux/s390x runs here");
        return;
    }
    let results = test(&["layout", "--arch=s390x", "--suite=run", "--suite=migrate"]);
    assert_eq!(results["skipped"], 0);
    assert_eq!(results["platform"], "linux/s390x");
}

fn the_index_lists_every_default_platform(workshop: &Workshop) {
    let index = workshop.index();
    let name = |manifest: &Value| {
        let part = |name: &str| manifest["platform"][name].as_str().map(str::to_owned);
        let parts = ["os", "architecture", "variant", "os.version"].map(part);
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    };
    let names: BTreeSet<_> = index["manifests"].as_array().unwrap().iter().map(name).collect();
    let windows = ["windows/amd64/10.0.20348.5499", "windows/amd64/10.0.26100.33296"];
    let expected = LINUX.iter().chain(&windows).map(|name| (*name).to_owned());
    assert_eq!(names, expected.collect());
    for manifest in index["manifests"].as_array().unwrap() {
        let image = workshop.document(&manifest["digest"]);
        let config = workshop.document(&image["config"]["digest"]);
        let is_windows = config["os"] == "windows";
        let wants_asking = name(manifest) == "linux/arm/v7";
        let environment = config["config"]["Env"].to_string();
        assert_eq!(environment.contains("ETCD_UNSUPPORTED_ARCH=arm"), wants_asking);
        assert_eq!(environment.contains(r"C:\\usr\\local\\bin;C:\\bin;"), is_windows);
        // No image of a stand-in can be taken for a real one.
        assert_eq!(image["annotations"]["dev.etcdimg.base.stand-in"].is_string(), is_windows);
    }
}

fn nothing_is_compiled_twice(workshop: &Workshop) {
    let said = workshop.build("all-build", &["--offline"]);
    assert!(!said.contains("Compiled") && !said.contains("Assembled"), "{said}");
}

fn clients_take_every_image(workshop: &Workshop) {
    let layout = workshop.path("layout");
    let reference = format!("{}/platforms/etcd:{LAST}-0", tool("ETCDIMG_TEST_REGISTRY"));
    let place = format!("oci:{}:{LAST}-0", layout.display());
    let (skopeo, crane) = (tool("SKOPEO"), tool("CRANE"));
    let raw: Value = serde_json::from_str(&run(&skopeo, &["inspect", "--raw", &place])).unwrap();
    assert_eq!(raw["manifests"].as_array().unwrap().len(), 7);
    let to = format!("docker://{reference}");
    let copy = ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--quiet"];
    run(&skopeo, &[&copy[..], &[&place, &to]].concat());
    let served = run(&crane, &["manifest", "--insecure", &reference]);
    assert_eq!(serde_json::from_str::<Value>(&served).unwrap(), raw);
    let validated = run(&crane, &["validate", "--insecure", "--remote", &reference]);
    assert!(validated.contains("PASS"), "{validated}");
    for manifest in raw["manifests"].as_array().unwrap() {
        let digest = manifest["digest"].as_str().unwrap();
        let one = format!("{}@{digest}", reference.rsplit_once(':').unwrap().0);
        let validated = run(&crane, &["validate", "--insecure", "--remote", &one]);
        assert!(validated.contains("PASS"), "{validated}");
    }
}

/// The image of one platform in the hands of umoci and Docker, on that machine or under qemu.
fn containers_run(workshop: &Workshop, platform: &str) {
    let name = platform.replace('/', "-");
    let archive = workshop.path(&format!("{name}.tar"));
    let output = format!("--output=docker-archive:{}", archive.display());
    let out = format!("--out={}", workshop.path(&name).display());
    let bases: Vec<_> = workshop.bases.iter().map(String::as_str).collect();
    let build = ["build", "--from=source", "--builder=host", "--offline", "--platform", platform];
    workshop.etcdimg(&[&build[..], &[&out, &output], &bases].concat());

    let bundle = workshop.path(&format!("{name}.bundle"));
    let image = format!("{}:{LAST}-0", workshop.path(&name).display());
    run(&tool("UMOCI"), &["unpack", "--rootless", "--image", &image, bundle.to_str().unwrap()]);
    assert!(bundle.join("rootfs/usr/local/bin/migrate").is_file());

    let emulated = env::var("ETCDIMG_TEST_EMULATED").unwrap_or_default();
    if platform != "linux/amd64" && !emulated.split(' ').any(|it| it == platform) {
        eprintln!("skipped: nothing of {platform} runs here");
        return;
    }
    run("docker", &["load", "--quiet", "--input", archive.to_str().unwrap()]);
    let sh = |script: &str| {
        let reference = format!("etcd:{LAST}-0");
        let container = ["run", "--rm", "--network=none", "--platform", platform, &reference];
        run("docker", &[&container[..], &["/bin/sh", "-ec", script]].concat())
    };
    let started = std::time::Instant::now();
    for version in bundled(workshop) {
        let said = sh(&format!("etcd-{version} --version; etcdctl-{version} version"));
        assert!(said.starts_with(&format!("etcd Version: {version}\n")), "{said}");
        let goarch = platform.split('/').nth(1).unwrap();
        assert!(said.contains(&format!("Go OS/Arch: linux/{goarch}\n")), "{said}");
        assert!(said.contains(&format!("etcdctl version: {version}\n")), "{said}");
        if !version.starts_with("3.4.") {
            let said = sh(&format!("etcdutl-{version} version"));
            assert!(said.contains(&format!("etcdutl version: {version}\n")), "{said}");
        }
    }
    let plan = format!(
        "mkdir /data; migrate --plan --data-dir /data --target-version {LAST} --target-storage etcd3 2>&1; echo files: $(ls -A /data | wc -l)"
    );
    let said = sh(&plan);
    assert!(said.contains(LAST) && said.ends_with("files: 0\n"), "{said}");
    let said = sh(&format!(
        "export TARGET_VERSION={LAST} TARGET_STORAGE=etcd3 DATA_DIRECTORY=/data HOSTNAME=one
        mkdir /data
        migrate-if-needed.sh >&2
        etcd --data-dir /data >/log 2>&1 &
        n=0
        until etcdctl put key value 2>/dev/null; do
          n=$((n + 1)); [ $n -lt 60 ] || {{ tail -n 5 /log; exit 1; }}; sleep 1
        done
        etcdctl get key
        kill $!; wait $! || true
        cat /data/version.txt"
    ));
    assert_eq!(said, format!("OK\nkey\nvalue\n{LAST}/etcd3"));
    run("docker", &["rmi", "--force", &format!("etcd:{LAST}-0")]);
    eprintln!("{platform}: every program ran, in {} s", started.elapsed().as_secs());
}

fn bundled(workshop: &Workshop) -> Vec<String> {
    let label = workshop.index()["annotations"]["dev.etcdimg.bundled-versions"].clone();
    label.as_str().unwrap().split(',').map(str::to_owned).collect()
}

fn wine_runs_the_programs(workshop: &Workshop) {
    let Ok(wine) = env::var("WINE") else {
        eprintln!("skipped: no wine here");
        return;
    };
    lend_wine_a_library(workshop, &wine);
    let run = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(&wine);
        command.arg(program).args(arguments).current_dir(workshop.folder.path());
        command.env("WINEPREFIX", workshop.path("wine")).env("WINEDEBUG", "-all");
        let output = command.output().unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{}: {text}", program.display());
        text
    };
    let said = run(&workshop.windows_program(&format!("etcd-{LAST}.exe")), &["--version"]);
    assert!(said.contains(&format!("etcd Version: {LAST}")), "{said}");
    assert!(said.contains("Go OS/Arch: windows/amd64"), "{said}");
    let said = run(&workshop.windows_program(&format!("etcdctl-{LAST}.exe")), &["version"]);
    assert!(said.contains(&format!("etcdctl version: {LAST}")), "{said}");
    fs::create_dir(workshop.path("empty")).unwrap();
    let migrate = workshop.windows_program("migrate.exe");
    let said = run(
        &migrate,
        &[
            "--plan",
            "--name",
            "one",
            "--data-dir",
            "empty",
            "--target-version",
            LAST,
            "--target-storage",
            "etcd3",
            "--bundled-versions",
            LAST,
            "--bin-dir",
            ".",
        ],
    );
    assert!(said.contains(LAST), "{said}");
    assert_eq!(fs::read_dir(workshop.path("empty")).unwrap().count(), 0);
    eprintln!("windows/amd64: etcd.exe, etcdctl.exe and migrate.exe ran under wine");
}

/// Old wines lack one that Go wants; zig, which is here anyway, makes a stand-in.
fn lend_wine_a_library(workshop: &Workshop, wine: &str) {
    let prefix = workshop.path("wine");
    let mut command = Command::new(wine);
    command.args(["cmd", "/c", "ver"]).env("WINEPREFIX", &prefix).env("WINEDEBUG", "-all");
    assert!(command.output().unwrap().status.success());
    let library = prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
    if library.exists() {
        return;
    }
    let cache = crate::shop::shared_cache();
    let mut command = Command::new(cache.join("parts/zig-0.17.0/zig"));
    command.args(["cc", "-target", "x86_64-windows-gnu", "-shared", "-O2", "-s", "-ladvapi32"]);
    command.arg("tests/wine/bcryptprimitives.c").arg("-o").arg(&library);
    for name in ["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"] {
        command.env(name, cache.join("zig/wine"));
    }
    assert!(command.status().unwrap().success());
}
