//! `verify` reports no fault in a good layout, and all faults of a bad one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::OnceLock;

use insta::assert_snapshot;
use serde_json::{Value, json};
use tar::EntryType;

use crate::catalog_fixture::{self, CatalogFixture};
use crate::mutable_image::{MutableImage, rewrite};

const ETCD: usize = 1;

/// The faults reported for a changed layout, without digests.
#[track_caller]
fn after(change: impl FnOnce(&mut MutableImage)) -> String {
    // In memory: a folder in a static would outlive the tests.
    static GOOD: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let good = GOOD.get_or_init(|| {
        let fixture = CatalogFixture::with_release();
        fixture.build().ok();
        catalog_fixture::files(&fixture.out())
    });
    let fixture = CatalogFixture::empty();
    fs::create_dir_all(fixture.out().join("blobs/sha256")).unwrap();
    for (name, bytes) in good {
        fs::write(fixture.out().join(name), bytes).unwrap();
    }
    let mut image = MutableImage::open(&fixture.out());
    change(&mut image);
    let run = fixture.run("verify", &[]);
    assert_eq!(run.code, Some(4), "{}{}", run.stdout, run.stderr);
    catalog_fixture::without_digests(run.stderr.trim_end())
}

/// Rewrites a layer; the digests above it are right afterwards.
fn change_layer(
    image: &mut MutableImage,
    layer: usize,
    change: impl FnMut(&str, tar::Header, Vec<u8>) -> Option<(tar::Header, Vec<u8>)>,
) {
    let tar = image.layers().nth(layer).unwrap();
    image.set_layer(layer, &rewrite(&tar, change).into_inner().unwrap());
    image.save();
}

/// The header of one path, changed.
fn with_header(image: &mut MutableImage, layer: usize, path: &str, change: fn(&mut tar::Header)) {
    change_layer(image, layer, |name, mut header, bytes| {
        if name == path {
            change(&mut header);
        }
        Some((header, bytes))
    });
}

fn without(image: &mut MutableImage, layer: usize, path: &str) {
    change_layer(image, layer, |name, header, bytes| (name != path).then_some((header, bytes)));
}

/// A further member at the end of the last layer.
fn with_member(image: &mut MutableImage, path: &str, kind: EntryType, mode: u32) {
    let last = image.last_layer();
    let tar = image.layers().nth(last).unwrap();
    let mut tar = rewrite(&tar, |_, header, bytes| Some((header, bytes)));
    catalog_fixture::member(&mut tar, path, kind, mode, b"");
    image.set_layer(last, &tar.into_inner().unwrap());
    image.save();
}

#[test]
fn a_good_layout_is_listed() {
    let fixture = CatalogFixture::with_release();
    let index = fixture.build().ok();
    let run = fixture.run("verify", &[]);
    assert_eq!(run.stderr, "");
    let text = run.ok();
    let (digest, rest) = text.split_once(' ').unwrap();
    assert!(digest.starts_with("sha256:") && digest != index);
    assert!(rest.starts_with("3.4.21-0 linux/amd64 3 layers, 3 programs, "), "{rest}");
}

#[test]
fn bytes_that_are_not_what_their_names_say_are_found() {
    assert_snapshot!(after(|image| flip(image)), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: layer …: the blob is not what its name says: expected sha256:…, received sha256:…
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|image| {
        let path = image.blob(&image.manifest["layers"][0]["digest"]);
        fs::remove_file(path).unwrap();
    }), @"
    error: `FIXTURE/out` has 2 faults
      3.4.21-0 linux/amd64: layer …: No such file or directory (os error 2)
      3.4.21-0 linux/amd64: /bin/sh is missing
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|image| {
        let path = image.blob(&image.manifest["config"]["digest"]);
        fs::write(path, "{}").unwrap();
    }), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0: the blob sha256:… is not what its name says
      expected sha256:…
      received sha256:…
    hint: remove the layout and run `etcdimg build` again
    ");
}

/// Flips a bit of the layer with `migrate`, in the sum that ends it: all files can still be read.
fn flip(image: &MutableImage) {
    let path = image.blob(&image.manifest["layers"][image.last_layer()]["digest"]);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn sizes_and_diff_ids_are_derived_again() {
    // How large it is, the format decides.
    let mut size = String::new();
    assert_snapshot!(after(|image| {
        size = image.manifest["layers"][0]["size"].to_string();
        image.manifest["layers"][0]["size"] = json!(7);
        image.save();
    }).replace(&format!(" {size},"), " SIZE,"), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: layer …: the size is SIZE, its descriptor says 7
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|image| {
        let digest = image.config["rootfs"]["diff_ids"][0].clone();
        image.config["rootfs"]["diff_ids"][ETCD] = digest;
        image.save();
    }), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: layer …: the diff ID is wrong: expected sha256:…, received sha256:…
    hint: remove the layout and run `etcdimg build` again
    ");
    let found = after(|image| {
        let config = image.blob(&image.manifest["config"]["digest"]);
        let path = config.ancestors().nth(3).unwrap().join("index.json");
        let mut root: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        root["manifests"][0]["size"] = json!(7);
        fs::write(path, root.to_string()).unwrap();
    });
    assert!(found.contains("3.4.21-0: the size of sha256:… is "), "{found}");
    assert!(found.contains(", its descriptor says 7\n"), "{found}");
    assert_snapshot!(after(|image| {
        image.config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
        image.save();
    }), @"
    error: `FIXTURE/out` has 4 faults
      3.4.21-0 linux/amd64: 3 layers, but 2 diff IDs
      3.4.21-0 linux/amd64: /usr/local/share/etcdimg/bundled-versions does not list the bundled versions
      3.4.21-0 linux/amd64: /usr/local/bin/migrate is missing
      3.4.21-0 linux/amd64: /usr/local/bin/migrate-if-needed.sh is missing
    hint: remove the layout and run `etcdimg build` again
    ");
}

#[test]
fn platforms_agree() {
    assert_snapshot!(after(|image| {
        image.config["architecture"] = json!("arm64");
        image.save();
    }), @r#"
    error: `FIXTURE/out` has 4 faults
      3.4.21-0 linux/arm64: architecture is "amd64" in the index and "arm64" in the config
      3.4.21-0 linux/arm64: `etcd-3.4.21` for linux/arm64 is not the program that the plan describes: wrong machine
      expected ELF machine 183 little-endian
      received ELF machine 62 little-endian
      3.4.21-0 linux/arm64: `etcdctl-3.4.21` for linux/arm64 is not the program that the plan describes: wrong machine
      expected ELF machine 183 little-endian
      received ELF machine 62 little-endian
      3.4.21-0 linux/arm64: `migrate` for linux/arm64 is not the program that the plan describes: wrong machine
      expected ELF machine 183 little-endian
      received ELF machine 62 little-endian
    hint: remove the layout and run `etcdimg build` again
    "#);
    assert_snapshot!(after(|image| {
        image.index["manifests"][0]["platform"]["os"] = json!("windows");
        image.save();
    }), @r#"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: os is "windows" in the index and "linux" in the config
    hint: remove the layout and run `etcdimg build` again
    "#);
    assert_snapshot!(after(|image| {
        image.index["manifests"][0]["platform"]["variant"] = json!("v3");
        image.save();
    }), @r#"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: variant is "v3" in the index and null in the config
    hint: remove the layout and run `etcdimg build` again
    "#);
    assert_snapshot!(after(|image| {
        let twin = image.index["manifests"][0].clone();
        image.index["manifests"].as_array_mut().unwrap().push(twin);
        image.save();
        // Whose digest is the one of before.
    }), @r#"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0: the index has two images for {"architecture":"amd64","os":"linux"}
    hint: remove the layout and run `etcdimg build` again
    "#);
    assert_snapshot!(after(|image| {
        image.index["manifests"][0].as_object_mut().unwrap().remove("platform");
        image.save();
    }), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0: sha256:… has no platform in the index
    hint: remove the layout and run `etcdimg build` again
    ");
}

#[test]
fn files_are_all_there_and_as_they_should_be() {
    let last = 2;
    let bundled = "usr/local/share/etcdimg/bundled-versions";
    assert_snapshot!(after(|it| without(it, ETCD, "usr/local/bin/etcdctl")), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /usr/local/bin/etcdctl is not a hard link to /usr/local/bin/etcdctl-3.4.21
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| without(it, ETCD, "usr/local/bin/etcdctl-3.4.21")), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /usr/local/bin/etcdctl-3.4.21 is missing
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| without(it, last, "usr/local/bin/migrate")), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /usr/local/bin/migrate is missing
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| without(it, last, bundled)), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /usr/local/share/etcdimg/bundled-versions does not list the bundled versions
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| without(it, 0, "bin/sh")), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /bin/sh is missing
    hint: remove the layout and run `etcdimg build` again
    ");
    let migrate = "usr/local/bin/migrate";
    assert_snapshot!(after(|it| with_header(it, last, migrate, |it| it.set_mode(0o755))), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /usr/local/bin/migrate has the mode 0755, not 0555
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| with_header(it, last, migrate, |it| it.set_mode(0o4555))), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /usr/local/bin/migrate has the mode 4555, not 0555
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| with_header(it, last, migrate, |it| it.set_uid(1000))), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /usr/local/bin/migrate does not belong to root
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| change_layer(it, last, |path, header, bytes| {
        let bytes = if path == bundled { b"3.4.20\n".to_vec() } else { bytes };
        Some((header, bytes))
    })), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /usr/local/share/etcdimg/bundled-versions does not list the bundled versions
    hint: remove the layout and run `etcdimg build` again
    ");
}

#[test]
fn what_does_not_belong_there_is_found() {
    let file = EntryType::Regular;
    assert_snapshot!(after(|it| with_member(it, "usr/local/bin/su", file, 0o4755)), @"
    error: `FIXTURE/out` has 3 faults
      3.4.21-0 linux/amd64: /usr/local/bin/su has the mode 4755, not 0555
      3.4.21-0 linux/amd64: /usr/local/bin/su has no label `dev.etcdimg.etcd.`
      3.4.21-0 linux/amd64: /usr/local/bin/su is not part of the image contract
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| with_member(it, "etc/passwd", file, 0o644)), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: /etc/passwd is not part of the image contract
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| with_member(it, "usr/local/bin/.wh.etcd-3.4.21", file, 0o555)), @"
    error: `FIXTURE/out` has 2 faults
      3.4.21-0 linux/amd64: `.wh.etcd-3.4.21` for linux/amd64 is not the program that the plan describes: wrong file format
      expected an ELF executable
      received something else
      3.4.21-0 linux/amd64: /usr/local/bin/.wh.etcd-3.4.21 is not part of the image contract
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|it| with_member(it, "usr/local/bin/etcd", file, 0o555)), @"
    error: `FIXTURE/out` has 3 faults
      3.4.21-0 linux/amd64: /usr/local/bin/etcd is in two layers
      3.4.21-0 linux/amd64: /usr/local/bin/etcd has no label `dev.etcdimg.etcd.`
      3.4.21-0 linux/amd64: /usr/local/bin/etcd is not a hard link to /usr/local/bin/etcd-3.4.21
    hint: remove the layout and run `etcdimg build` again
    ");
}

/// Such a layer could replace every program without being checked.
#[test]
fn a_layer_over_ours_is_found() {
    assert_snapshot!(after(|image| {
        let layer = image.manifest["layers"][0].clone();
        image.manifest["layers"].as_array_mut().unwrap().push(layer);
        let diff_id = image.config["rootfs"]["diff_ids"][0].clone();
        image.config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(diff_id);
        image.save();
    }), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: unexpected layer sha256:… above the etcdimg layers: it has no annotation dev.etcdimg.layer
    hint: remove the layout and run `etcdimg build` again
    ");
}

/// Also when it is not here, as layers that must not be distributed are not.
#[test]
fn a_layer_over_ours_that_is_elsewhere_is_found() {
    assert_snapshot!(after(|image| {
        let mut layer = image.manifest["layers"][0].clone();
        layer["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
        layer["digest"] = json!(format!("sha256:{}", "7".repeat(64)));
        layer["urls"] = json!(["https://elsewhere.invalid/layer"]);
        image.manifest["layers"].as_array_mut().unwrap().push(layer);
        let diff_id = image.config["rootfs"]["diff_ids"][0].clone();
        image.config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(diff_id);
        image.save();
    }), @"
    error: `FIXTURE/out` has 1 fault
      3.4.21-0 linux/amd64: unexpected layer sha256:… above the etcdimg layers: it has no annotation dev.etcdimg.layer
    hint: remove the layout and run `etcdimg build` again
    ");
}

#[test]
fn programs_are_looked_into_again() {
    let commit = "85b640cee793e25f3837c47200089d14a8392dc7";
    let label = "dev.etcdimg.etcd.3.4.21";
    assert_snapshot!(after(|image| {
        let labels = &mut image.config["config"]["Labels"];
        let text = labels[label].as_str().unwrap().replace(commit, &"0".repeat(40));
        labels[label] = json!(text.replace("go 1.16.15", "go 1.16.14"));
        image.save();
    }), @"
    error: `FIXTURE/out` has 3 faults
      3.4.21-0 linux/amd64: `etcd-3.4.21` for linux/amd64 is not the program that the plan describes: wrong Go release
      expected go1.16.14
      received go1.16.15
      3.4.21-0 linux/amd64: `etcd-3.4.21` for linux/amd64 is not the program that the plan describes: wrong embedded commit
      expected 0000000000000000000000000000000000000000
      received none, or another one
      3.4.21-0 linux/amd64: `etcdctl-3.4.21` for linux/amd64 is not the program that the plan describes: wrong Go release
      expected go1.16.14
      received go1.16.15
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|image| {
        image.config["config"]["Labels"].as_object_mut().unwrap().remove(label);
        image.save();
    }), @"
    error: `FIXTURE/out` has 2 faults
      3.4.21-0 linux/amd64: /usr/local/bin/etcd-3.4.21 has no label `dev.etcdimg.etcd.3.4.21`
      3.4.21-0 linux/amd64: /usr/local/bin/etcdctl-3.4.21 has no label `dev.etcdimg.etcd.3.4.21`
    hint: remove the layout and run `etcdimg build` again
    ");
    assert_snapshot!(after(|image| {
        image.config["config"]["Labels"]["dev.etcdimg.bundled-versions"] = json!("3.4.21,3.5.33");
        image.save();
    }), @"
    error: `FIXTURE/out` has 7 faults
      3.4.21-0 linux/amd64: /usr/local/share/etcdimg/bundled-versions does not list the bundled versions
      3.4.21-0 linux/amd64: /usr/local/bin/etcd-3.5.33 is missing
      3.4.21-0 linux/amd64: /usr/local/bin/etcdctl-3.5.33 is missing
      3.4.21-0 linux/amd64: /usr/local/bin/etcdutl-3.5.33 is missing
      3.4.21-0 linux/amd64: /usr/local/bin/etcd is not a hard link to /usr/local/bin/etcd-3.5.33
      3.4.21-0 linux/amd64: /usr/local/bin/etcdctl is not a hard link to /usr/local/bin/etcdctl-3.5.33
      3.4.21-0 linux/amd64: /usr/local/bin/etcdutl is not a hard link to /usr/local/bin/etcdutl-3.5.33
    hint: remove the layout and run `etcdimg build` again
    ");
}

#[test]
fn all_faults_are_reported_at_once() {
    assert_snapshot!(after(|image| {
        image.config["architecture"] = json!("arm64");
        without(image, ETCD, "usr/local/bin/etcdctl");
        with_member(image, "usr/local/bin/su", EntryType::Regular, 0o4755);
        flip(image);
    }), @r#"
    error: `FIXTURE/out` has 9 faults
      3.4.21-0 linux/arm64: architecture is "amd64" in the index and "arm64" in the config
      3.4.21-0 linux/arm64: layer …: the blob is not what its name says: expected sha256:…, received sha256:…
      3.4.21-0 linux/arm64: `etcd-3.4.21` for linux/arm64 is not the program that the plan describes: wrong machine
      expected ELF machine 183 little-endian
      received ELF machine 62 little-endian
      3.4.21-0 linux/arm64: `etcdctl-3.4.21` for linux/arm64 is not the program that the plan describes: wrong machine
      expected ELF machine 183 little-endian
      received ELF machine 62 little-endian
      3.4.21-0 linux/arm64: `migrate` for linux/arm64 is not the program that the plan describes: wrong machine
      expected ELF machine 183 little-endian
      received ELF machine 62 little-endian
      3.4.21-0 linux/arm64: /usr/local/bin/su has the mode 4755, not 0555
      3.4.21-0 linux/arm64: /usr/local/bin/su has no label `dev.etcdimg.etcd.`
      3.4.21-0 linux/arm64: /usr/local/bin/su is not part of the image contract
      3.4.21-0 linux/arm64: /usr/local/bin/etcdctl is not a hard link to /usr/local/bin/etcdctl-3.4.21
    hint: remove the layout and run `etcdimg build` again
    "#);
}

#[test]
fn json_has_the_faults_too() {
    let fixture = CatalogFixture::with_release();
    fixture.build().ok();
    flip(&MutableImage::open(&fixture.out()));
    let run = fixture.run("verify", &["--format", "json"]);
    assert_eq!(run.code, Some(4));
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let fault = report["faults"][0]["fault"].as_str().unwrap();
    assert!(fault.contains("the blob is not what its name says"), "{fault}");
}

#[test]
fn a_folder_that_is_no_layout_is_named() {
    let fixture = CatalogFixture::empty();
    assert_snapshot!(fixture.run("verify", &[]).error(), @"
    error: `FIXTURE/out` is not an OCI image layout: it has no file `oci-layout`
    hint: make a layout with `etcdimg build --out DIR`
    exit 1
    ");
}
