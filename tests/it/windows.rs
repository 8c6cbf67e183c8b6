//! Images for Windows: what `verify` finds when one was changed by hand, a base that does not say
//! which Windows it is, and the etcd project's own archives, which are zips.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use etcdimg::catalog;
use etcdimg::catalog::lock::ReleaseLock;
use etcdimg::digest::Digest;
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::catalog_fixture;
use crate::mutable_image::{MutableImage, rewrite};
use crate::release_fixture::{LAST, ReleaseFixture};

const PLATFORM: &str = "--platform=windows/amd64:ltsc2022";

/// An unchanged image; each test changes a copy of it.
struct UnchangedImage {
    fixture: ReleaseFixture,
    files: BTreeMap<String, Vec<u8>>,
}

impl UnchangedImage {
    fn new() -> Self {
        let fixture = ReleaseFixture::new();
        fixture.build("build", &[PLATFORM]);
        let files = catalog_fixture::files(&fixture.path("layout"));
        Self { fixture, files }
    }

    /// The faults reported after a change, without digests.
    fn after(&self, change: impl FnOnce(&mut MutableImage)) -> String {
        let layout = self.fixture.path("changed");
        let _ = fs::remove_dir_all(&layout);
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        for (name, bytes) in &self.files {
            fs::write(layout.join(name), bytes).unwrap();
        }
        let mut image = MutableImage::open(&layout);
        change(&mut image);
        image.save();
        let said = self.fixture.refused(&["verify", "changed"]);
        catalog_fixture::without_digests(said.trim_end())
    }
}

/// The last layer, which has `migrate` in it, with every entry changed.
fn change_last(
    image: &mut MutableImage,
    change: impl FnMut(&str, tar::Header, Vec<u8>) -> Option<(tar::Header, Vec<u8>)>,
) {
    let last = image.last_layer();
    let tar = image.layers().nth(last).unwrap();
    image.set_layer(last, &rewrite(&tar, change).into_inner().unwrap());
}

fn without(image: &mut MutableImage, path: &str) {
    // The attributes of a folder come before it, in an entry of their own.
    let attributes = format!("PaxHeaders.0/{}", path.trim_end_matches('/'));
    change_last(image, |it, header, bytes| {
        (it != path && it != attributes).then_some((header, bytes))
    });
}

/// A program for another machine: 0xaa64 is Windows on arm64.
fn for_another_machine(mut program: Vec<u8>) -> Vec<u8> {
    const PLACE_OF_HEADER: usize = 0x3c;
    let at = u32::from_le_bytes(program[PLACE_OF_HEADER..][..4].try_into().unwrap());
    let at = usize::try_from(at).unwrap();
    assert_eq!(&program[at..at + 6], b"PE\0\0\x64\x86");
    program[at + 4..at + 6].copy_from_slice(&0xaa64_u16.to_le_bytes());
    program
}

#[test]
#[ignore = "needs compilers, python3 and the network"]
fn a_changed_image_for_windows_is_found() {
    let good = UnchangedImage::new();
    assert_snapshot!(good.after(|image| {
        image.index["manifests"][0]["platform"]["os.version"] = json!("10.0.17763.1");
    }), @r#"
    error: `changed` has 1 fault
      3.7.1-0 windows/amd64: os.version is "10.0.17763.1" in the index and "10.0.20348.5499" in the config
    hint: remove the layout and run `etcdimg build` again
    "#);
    assert_snapshot!(good.after(|image| {
        image.config.as_object_mut().unwrap().remove("os.version");
    }), @r#"
    error: `changed` has 2 faults
      3.7.1-0 windows/amd64: the config has no os.version, which selects the Windows that can run it
      3.7.1-0 windows/amd64: os.version is "10.0.20348.5499" in the index and null in the config
    hint: remove the layout and run `etcdimg build` again
    "#);
    assert_snapshot!(good.after(|image| {
        image.config["config"]["Env"] = json!([r"Path=C:\Windows\system32;C:\Windows"]);
    }), @r#"
    error: `changed` has 2 faults
      3.7.1-0 windows/amd64: PATH does not name C:\usr\local\bin
      3.7.1-0 windows/amd64: PATH does not name C:\bin
    hint: remove the layout and run `etcdimg build` again
    "#);
    assert_snapshot!(good.after(|image| without(image, "Hives/")), @"
    error: `changed` has 1 fault
      3.7.1-0 windows/amd64: layer … has no folder Hives
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(good.after(|image| without(image, "Files/bin/migrate.exe")), @"
    error: `changed` has 2 faults
      3.7.1-0 windows/amd64: /bin/migrate.exe is not a hard link to /usr/local/bin/migrate.exe
      3.7.1-0 windows/amd64: /bin/migrate.exe is missing
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(good.after(|image| change_last(image, |path, header, bytes| {
        let is_migrate = path == "Files/usr/local/bin/migrate.exe";
        Some((header, if is_migrate { for_another_machine(bytes) } else { bytes }))
    })), @"
    error: `changed` has 1 fault
      3.7.1-0 windows/amd64: `migrate` for windows/amd64 is not the program that the plan describes: wrong machine
      expected PE machine 0x8664
      received PE machine 0xaa64
    hint: remove the layout and run `etcdimg build` again
    ");
    a_base_must_say_which_windows_it_is(&good.fixture);
    a_release_gives_the_same_layers(&good.fixture);
}

/// The same programs, packed as the etcd project packs them for Windows, and locked.
fn a_release_gives_the_same_layers(fixture: &ReleaseFixture) {
    let file = pack_release(fixture);
    take_release(fixture, &file);
    let mirror = format!("--mirror=file://{}/{{file}}", fixture.path(".").display());
    let fixed = ["build", PLATFORM, "--builder=host", "--out=released", &mirror];
    let bases: Vec<_> = fixture.bases.iter().map(String::as_str).collect();
    fixture.etcdimg(&[&fixed[..], &bases].concat());
    fixture.etcdimg(&["verify", "released"]);
    let [released, compiled] =
        ["released", "layout"].map(|it| MutableImage::open(&fixture.path(it)));
    assert_eq!(released.manifest["layers"], compiled.manifest["layers"]);
    assert_ne!(released.config["config"]["Labels"], compiled.config["config"]["Labels"]);
}

/// Makes the archive; returns its name.
fn pack_release(fixture: &ReleaseFixture) -> String {
    let folder = format!("etcd-v{LAST}-windows-amd64");
    fs::create_dir(fixture.path(&folder)).unwrap();
    fs::write(fixture.path(&folder).join("README.md"), "read me").unwrap();
    for program in ["etcd", "etcdctl", "etcdutl"] {
        let from = fixture.windows_program(&format!("{program}-{LAST}.exe"));
        fs::rename(from, fixture.path(&format!("{folder}/{program}.exe"))).unwrap();
    }
    let file = format!("{folder}.zip");
    let mut python = Command::new("python3");
    python.args(["-m", "zipfile", "--create", &file, &folder]).current_dir(fixture.path("."));
    assert!(python.status().unwrap().success());
    file
}

/// Changes the target's origin, as a person would, and locks the archive.
fn take_release(fixture: &ReleaseFixture, file: &str) {
    let root = fixture.path("root");
    fs::remove_file(root.join("targets")).unwrap();
    catalog_fixture::copy_folder(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("targets"),
        &root.join("targets"),
    );
    let target = root.join("targets/windows-amd64-ltsc2022.yaml");
    let text = fs::read_to_string(&target).unwrap();
    fs::write(&target, text.replace("origin: source", "origin: release")).unwrap();
    let path = root.join("etcdimg.lock");
    let mut lock = catalog::parse_lock(&fs::read_to_string(&path).unwrap()).unwrap();
    let digest = Digest::of(fs::read(fixture.path(file)).unwrap());
    lock.releases.push(ReleaseLock::new(file.to_owned(), digest, None));
    lock.catalog = catalog::load(&root).unwrap().0.digest();
    fs::write(path, lock.to_yaml()).unwrap();
}

fn a_base_must_say_which_windows_it_is(fixture: &ReleaseFixture) {
    let base = fixture.path("bases/nanoserver-ltsc2022");
    let blob = |digest: &Value| {
        let digest: Digest = digest.as_str().unwrap().parse().unwrap();
        base.join("blobs/sha256").join(digest.hex())
    };
    let read = |path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let write = |document: &Value| {
        let bytes = serde_json::to_vec(document).unwrap();
        let digest = json!(Digest::of(&bytes));
        fs::write(blob(&digest), &bytes).unwrap();
        (digest, json!(bytes.len()))
    };
    let root = read(base.join("index.json"));
    let mut manifest = read(blob(&root["manifests"][0]["digest"]));
    let mut config = read(blob(&manifest["config"]["digest"]));
    config.as_object_mut().unwrap().remove("os.version").unwrap();
    (manifest["config"]["digest"], manifest["config"]["size"]) = write(&config);
    let (digest, _) = write(&manifest);
    let named =
        format!("--base=nanoserver-ltsc2022=oci:{}@{}", base.display(), digest.as_str().unwrap());
    let said = fixture.refused(&["build", PLATFORM, "--from=source", "--builder=host", &named]);
    assert_snapshot!(catalog_fixture::without_digests(said.trim_end()), @"
    error: the base oci:sha256:… has no os.version in its config, so the Windows that runs it is unknown
    hint: use an image of Nano Server: `--base NAME=REPOSITORY@DIGEST`
    ");
}
