//! Images of every platform, with the real etcd 3.7.1 and `migrate` in them: what `all-build`
//! makes, and that each program runs on its machine. `scripts/real-parts run` provides the
//! emulators.
//!
//! One version of etcd, so that a cold cache is filled in minutes. `ETCDIMG_ALL_VERSIONS=1` takes
//! all of versions.yaml.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::mutable_image::{MutableImage, gunzip, rewrite};
use crate::platforms_pulled::an_engine_runs_what_it_pulled;
use crate::release_fixture::{LAST, ReleaseFixture};
use crate::require::{self, part as tool};
use crate::run::run;
use crate::schema;

const LINUX: [&str; 5] =
    ["linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/s390x"];

#[test]
#[ignore = "needs an engine, a registry, qemu, wine, compilers and the network"]
fn all_build_makes_seven_images_that_clients_take_and_machines_run() {
    require::real_parts();
    let fixture = ReleaseFixture::of_asked_versions();
    eprint!("{}", fixture.build("all-build", &[]));
    fixture.etcdimg(&["verify", "layout"]);
    the_index_lists_every_default_platform(&fixture);
    migrate_is_small(&fixture);
    nothing_is_compiled_twice(&fixture);
    clients_take_every_image(&fixture);
    for platform in LINUX {
        containers_run(&fixture, platform);
    }
    let (layout, tag) = (fixture.path("layout"), format!("{LAST}-0"));
    an_engine_runs_what_it_pulled(&layout, &tag, &LINUX);
    wine_runs_the_programs(&fixture);
    acceptance_passes(&fixture);
    a_wrong_mode_on_windows_fails_its_suite(&fixture);
}

fn a_wrong_mode_on_windows_fails_its_suite(fixture: &ReleaseFixture) {
    let layout = fixture.path("wrong");
    run("cp", &["-r", fixture.path("layout").to_str().unwrap(), layout.to_str().unwrap()]);
    let mut image = MutableImage::open_where(&layout, |it| it["platform"]["os"] == "windows");
    let last = image.last_layer();
    let tar = image.layers().nth(last).unwrap();
    let changed = rewrite(&tar, |path, mut header, bytes| {
        if path == "Files/usr/local/bin/migrate.exe" {
            header.set_mode(0o777);
        }
        Some((header, bytes))
    });
    image.set_layer(last, &changed.into_inner().unwrap());
    image.save();
    let failed = |arguments: &[&str]| -> Vec<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
        command.args(["test", "wrong", "--format=json", "--runtime=rootfs"]).args(arguments);
        let output = command.current_dir(fixture.path(".")).output().unwrap();
        let results: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(results["passed"].as_u64() > Some(0), "{results:#}");
        let cases = results["cases"].as_array().unwrap().iter();
        let failed = cases.filter(|case| case["outcome"] == "failed");
        failed.map(|case| case["case"].as_str().unwrap().to_owned()).collect()
    };
    // `structure/verify` is for the whole index, and finds it too.
    let of_linux = ["--case=structure/paths", "--case=structure/config"];
    assert_eq!(failed(&of_linux), Vec::<String>::new());
    let cases = ["--case=windows/layers-20348", "--case=windows/paths-20348"];
    assert_eq!(failed(&cases), ["paths-20348"]);
}

/// `etcdimg test` of the same index: what is in the registry, Windows, and an emulated machine.
fn acceptance_passes(fixture: &ReleaseFixture) {
    let registry = tool("ETCDIMG_TEST_REGISTRY");
    let reference = format!("{registry}/platforms/etcd:{LAST}-0");
    let test = |arguments: &[&str]| {
        let started = std::time::Instant::now();
        let all = [&["test", "--format=json", "--runtime=rootfs"], arguments].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
        command.args(all).current_dir(fixture.path("."));
        // Which lends old wines a library.
        let output = command.env("WINEPREFIX", fixture.path("wine")).output().unwrap();
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

    // Of a sparse layout, what is Windows itself is elsewhere.
    let manifests = fixture.index()["manifests"].as_array().unwrap().clone();
    let windows = manifests.iter().find(|it| it["platform"]["os"] == "windows").unwrap();
    let base = fixture.blob(&fixture.document(&windows["digest"])["layers"][0]["digest"]);
    let aside = fixture.path("base");
    fs::rename(&base, &aside).unwrap();
    test(&["layout", "--case=structure/verify"]);
    fs::rename(&aside, &base).unwrap();

    let results = test(&["layout", "--suite=windows"]);
    assert_eq!((&results["passed"], &results["skipped"]), (&11.into(), &0.into()));

    let suites = ["--suite=run", "--suite=migrate"];
    // No etcd supports the last one: each demands ETCD_UNSUPPORTED_ARCH, and says that it has it.
    for (platform, arch, suites) in
        [("linux/s390x", "--arch=s390x", &suites[..]), ("linux/arm/v7", "--arch=arm", &suites[..1])]
    {
        require::emulator(platform);
        let results = test(&[&["layout", arch], suites].concat());
        assert_eq!(results["skipped"], 0);
        assert_eq!(results["platform"], platform);
    }
}

/// It is in every image, and the program that starts first.
fn migrate_is_small(fixture: &ReleaseFixture) {
    const MOST: u64 = 1_500_000;
    for descriptor in fixture.index()["manifests"].as_array().unwrap() {
        let manifest = fixture.document(&descriptor["digest"]);
        let last = &manifest["layers"].as_array().unwrap().last().unwrap()["digest"];
        let tar = gunzip(&fs::read(fixture.blob(last)).unwrap());
        let mut tar = tar::Archive::new(&tar[..]);
        let entries = tar.entries().unwrap().map(Result::unwrap);
        let is_migrate = |path: &Path| path.file_stem().is_some_and(|stem| stem == "migrate");
        let sizes = entries.filter(|it| is_migrate(&it.path().unwrap())).map(|it| it.size());
        // On Windows it has a second path, which has no bytes of its own.
        let size = sizes.max().unwrap();
        assert!((100_000..=MOST).contains(&size), "{size} {}", descriptor["platform"]);
    }
}

fn the_index_lists_every_default_platform(fixture: &ReleaseFixture) {
    let index = fixture.index();
    assert_eq!(schema::INDEX.faults(&index), [""; 0]);
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
        let image = fixture.document(&manifest["digest"]);
        let config = fixture.document(&image["config"]["digest"]);
        assert_eq!(schema::MANIFEST.faults(&image), [""; 0]);
        assert_eq!(schema::CONFIG.faults(&config), [""; 0]);
        let is_windows = config["os"] == "windows";
        let wants_asking = name(manifest) == "linux/arm/v7";
        let environment = config["config"]["Env"].to_string();
        assert_eq!(environment.contains("ETCD_UNSUPPORTED_ARCH=arm"), wants_asking);
        assert_eq!(environment.contains(r"C:\\usr\\local\\bin;C:\\bin;"), is_windows);
        // No image of a stand-in can be taken for a real one.
        assert_eq!(image["annotations"]["dev.etcdimg.base.stand-in"].is_string(), is_windows);
    }
}

fn nothing_is_compiled_twice(fixture: &ReleaseFixture) {
    let layers = layers(fixture);
    let is_ours = |text: &str| layers.iter().any(|digest| text.contains(digest));
    let (programs, assembled) = (records("compile", |_| true), records("layer", is_ours));
    assert!(!programs.is_empty() && !assembled.is_empty());
    fixture.build("all-build", &["--offline"]);
    // Tests that run at the same time may add records of other programs.
    let now = records("compile", |_| true);
    let again: Vec<_> =
        programs.iter().filter(|(path, file)| now.get(*path) != Some(file)).collect();
    assert!(again.is_empty(), "compiled again: {again:?}");
    assert_eq!(records("layer", is_ours), assembled, "assembled again");
}

/// The digests of all layers of all images.
fn layers(fixture: &ReleaseFixture) -> Vec<String> {
    let index = fixture.index();
    let manifests = index["manifests"].as_array().unwrap().iter();
    let images = manifests.map(|manifest| fixture.document(&manifest["digest"]));
    let digests = |image: Value| {
        let layers = image["layers"].as_array().unwrap().clone();
        layers.into_iter().map(|layer| layer["digest"].as_str().unwrap().to_owned())
    };
    images.flat_map(digests).collect()
}

/// Records of the cache with the inodes of their files: what is made again is recorded by a new
/// file.
fn records(kind: &str, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<PathBuf, u64> {
    let folder = cache_dir::cache_folder().unwrap().join("records").join(kind);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let wanted = paths.filter(|path| is_wanted(&fs::read_to_string(path).unwrap()));
    wanted.map(|path| (path.clone(), fs::metadata(path).unwrap().ino())).collect()
}

fn clients_take_every_image(fixture: &ReleaseFixture) {
    let layout = fixture.path("layout");
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
fn containers_run(fixture: &ReleaseFixture, platform: &str) {
    let started = std::time::Instant::now();
    let archive = build_platform(fixture, platform);
    umoci_unpacks(fixture, platform);
    require::emulator(platform);
    run("docker", &["load", "--quiet", "--input", archive.to_str().unwrap()]);
    every_program_says_its_version(fixture, platform);
    migrate_plans_without_writing(platform);
    a_container_migrates_and_serves(platform);
    run("docker", &["rmi", "--force", &format!("etcd:{LAST}-0")]);
    eprintln!("{platform}: every program ran, in {} s", started.elapsed().as_secs());
}

fn file_name(platform: &str) -> String {
    platform.replace('/', "-")
}

/// Builds the image of one platform. Returns its archive for Docker.
fn build_platform(fixture: &ReleaseFixture, platform: &str) -> PathBuf {
    let name = file_name(platform);
    let archive = fixture.path(&format!("{name}.tar"));
    let output = format!("--output=docker-archive:{}", archive.display());
    let out = format!("--out={}", fixture.path(&name).display());
    let bases: Vec<_> = fixture.bases.iter().map(String::as_str).collect();
    let build = ["build", "--from=source", "--builder=host", "--offline", "--platform", platform];
    fixture.etcdimg(&[&build[..], &[&out, &output], &bases].concat());
    archive
}

fn umoci_unpacks(fixture: &ReleaseFixture, platform: &str) {
    let name = file_name(platform);
    let bundle = fixture.path(&format!("{name}.bundle"));
    let image = format!("{}:{LAST}-0", fixture.path(&name).display());
    run(&tool("UMOCI"), &["unpack", "--rootless", "--image", &image, bundle.to_str().unwrap()]);
    assert!(bundle.join("rootfs/usr/local/bin/migrate").is_file());
}

/// What a script says in a container of the loaded image.
#[track_caller]
fn in_container(platform: &str, script: &str) -> String {
    let reference = format!("etcd:{LAST}-0");
    let container = ["run", "--rm", "--network=none", "--platform", platform, &reference];
    run("docker", &[&container[..], &["/bin/sh", "-ec", script]].concat())
}

fn every_program_says_its_version(fixture: &ReleaseFixture, platform: &str) {
    let goarch = platform.split('/').nth(1).unwrap();
    for version in bundled(fixture) {
        // etcd 3.4 does not even say its version on a machine that it does not know.
        let is_unknown = version.starts_with("3.4.") && !["amd64", "ppc64le"].contains(&goarch);
        let ask = if is_unknown {
            format!("export ETCD_UNSUPPORTED_ARCH={goarch}; ")
        } else {
            String::new()
        };
        let script = format!("{ask}etcd-{version} --version; etcdctl-{version} version");
        let said = in_container(platform, &script);
        assert!(said.contains(&format!("etcd Version: {version}\n")), "{said}");
        assert!(said.contains(&format!("Go OS/Arch: linux/{goarch}\n")), "{said}");
        assert!(said.contains(&format!("etcdctl version: {version}\n")), "{said}");
        if !version.starts_with("3.4.") {
            let said = in_container(platform, &format!("etcdutl-{version} version"));
            assert!(said.contains(&format!("etcdutl version: {version}\n")), "{said}");
        }
    }
}

fn migrate_plans_without_writing(platform: &str) {
    let plan = format!(
        "mkdir /data; migrate --plan --data-dir /data --target-version {LAST} --target-storage etcd3 2>&1; echo files: $(ls -A /data | wc -l)"
    );
    let said = in_container(platform, &plan);
    assert!(said.contains(LAST) && said.ends_with("files: 0\n"), "{said}");
}

fn a_container_migrates_and_serves(platform: &str) {
    let script = format!(
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
    );
    assert_eq!(in_container(platform, &script), format!("OK\nkey\nvalue\n{LAST}/etcd3"));
}

fn bundled(fixture: &ReleaseFixture) -> Vec<String> {
    let label = fixture.index()["annotations"]["dev.etcdimg.bundled-versions"].clone();
    label.as_str().unwrap().split(',').map(str::to_owned).collect()
}

fn wine_runs_the_programs(fixture: &ReleaseFixture) {
    let wine = tool("WINE");
    lend_wine_a_library(fixture, &wine);
    every_windows_program_says_its_version(fixture, &wine);
    migrate_runs_under_wine(fixture, &wine);
    eprintln!("windows/amd64: every program ran under wine");
}

/// All that a Windows program says, which must go well.
#[track_caller]
fn under_wine(fixture: &ReleaseFixture, wine: &str, program: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(wine);
    command.arg(program).args(arguments).current_dir(fixture.path("."));
    command.env("WINEPREFIX", fixture.path("wine")).env("WINEDEBUG", "-all");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let text = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{}: {text}", program.display());
    text
}

fn every_windows_program_says_its_version(fixture: &ReleaseFixture, wine: &str) {
    let run = |program: &Path, arguments: &[&str]| under_wine(fixture, wine, program, arguments);
    for version in bundled(fixture) {
        let program = |name| fixture.windows_program(&format!("{name}-{version}.exe"));
        let said = run(&program("etcd"), &["--version"]);
        assert!(said.contains(&format!("etcd Version: {version}")), "{said}");
        assert!(said.contains("Go OS/Arch: windows/amd64"), "{said}");
        let said = run(&program("etcdctl"), &["version"]);
        assert!(said.contains(&format!("etcdctl version: {version}")), "{said}");
        if !version.starts_with("3.4.") {
            let said = run(&program("etcdutl"), &["version"]);
            assert!(said.contains(&format!("etcdutl version: {version}")), "{said}");
        }
    }
}

fn migrate_runs_under_wine(fixture: &ReleaseFixture, wine: &str) {
    fs::create_dir(fixture.path("empty")).unwrap();
    let migrate = fixture.windows_program("migrate.exe");
    let arguments = [
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
    ];
    let said = under_wine(fixture, wine, &migrate, &arguments);
    assert!(said.contains(LAST), "{said}");
    assert_eq!(fs::read_dir(fixture.path("empty")).unwrap().count(), 0);
    under_wine(fixture, wine, &migrate, &arguments[1..]);
    let record = fs::read_to_string(fixture.path("empty/version.txt")).unwrap();
    assert_eq!(record, format!("{LAST}/etcd3"));
}

/// Old wines lack one that Go wants; zig, which is here anyway, makes a stand-in.
fn lend_wine_a_library(fixture: &ReleaseFixture, wine: &str) {
    let prefix = fixture.path("wine");
    let mut command = Command::new(wine);
    command.args(["cmd", "/c", "ver"]).env("WINEPREFIX", &prefix).env("WINEDEBUG", "-all");
    assert!(command.output().unwrap().status.success());
    let library = prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
    if library.exists() {
        return;
    }
    let cache = crate::catalog_fixture::shared_cache();
    let mut command = Command::new(cache.join("parts/zig-0.17.0/zig"));
    command.args(["cc", "-target", "x86_64-windows-gnu", "-shared", "-O2", "-s", "-ladvapi32"]);
    command.arg("tests/wine/bcryptprimitives.c").arg("-o").arg(&library);
    for name in ["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"] {
        command.env(name, cache.join("zig/wine"));
    }
    assert!(command.status().unwrap().success());
}
