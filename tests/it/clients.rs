//! The real four-version image in the clients that people use: skopeo, crane, umoci, a registry and
//! a Docker engine. `scripts/real-parts run` provides them.

use std::fs;
use std::path::Path;

use crate::require::{self, part as tool};
use crate::run::run;

const VERSIONS: [&str; 4] = ["3.4.21", "3.5.33", "3.6.14", "3.7.1"];

/// The image as quickstart makes it where no release host is in reach.
fn build(folder: &Path) -> (String, String) {
    let base = folder.join("base.tar");
    let digest = run("scripts/busybox-base", &["linux/amd64", base.to_str().unwrap()]);
    let base = format!("busybox=rootfs:{}@{}", base.display(), digest.trim());
    let layout = folder.join("layout").to_str().unwrap().to_owned();
    let archive = format!("docker-archive:{}", folder.join("image.tar").display());
    let arguments = [
        "build",
        "--from=source",
        "--builder=host",
        "--base",
        &base,
        "--out",
        &layout,
        "--output",
        &archive,
        "--load",
    ];
    let index = run(env!("CARGO_BIN_EXE_etcdimg"), &arguments);
    (layout, index.trim().to_owned())
}

#[test]
#[ignore = "needs an engine, a registry, compilers and the network"]
fn every_client_takes_the_image_and_every_program_in_it_runs() {
    require::real_parts();
    let folder = tempfile::tempdir().unwrap();
    let (layout, index) = build(folder.path());
    run(env!("CARGO_BIN_EXE_etcdimg"), &["verify", &layout]);
    skopeo_reads_it(&layout, &index);
    a_registry_takes_it_and_crane_validates_it(&layout, &index);
    a_tag_of_that_registry_is_looked_up_for_the_lock(&index);
    umoci_unpacks_it(&layout, folder.path());
    docker_runs_what_was_loaded("etcd:3.7.1-0");
    run("docker", &["rmi", "--force", "etcd:3.7.1-0"]);
    run("docker", &["load", "--input", folder.path().join("image.tar").to_str().unwrap()]);
    docker_runs_what_was_loaded("etcd:3.7.1-0");
    run("docker", &["rmi", "--force", "etcd:3.7.1-0"]);
}

fn skopeo_reads_it(layout: &str, index: &str) {
    let inspected = run(&tool("SKOPEO"), &["inspect", &format!("oci:{layout}:3.7.1-0")]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Digest"], index);
    assert_eq!(inspected["Architecture"], "amd64");
    assert_eq!(inspected["Labels"]["dev.etcdimg.bundled-versions"], VERSIONS.join(","));
}

fn a_registry_takes_it_and_crane_validates_it(layout: &str, index: &str) {
    let reference = format!("{}/clients/etcd:3.7.1-0", tool("ETCDIMG_TEST_REGISTRY"));
    let copy = ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--quiet"];
    let places = [format!("oci:{layout}:3.7.1-0"), format!("docker://{reference}")];
    let places: Vec<_> = places.iter().map(String::as_str).collect();
    run(&tool("SKOPEO"), &[&copy[..], &places[..]].concat());
    let crane = tool("CRANE");
    let validated = run(&crane, &["validate", "--insecure", "--remote", &reference]);
    assert!(validated.starts_with("PASS"), "{validated}");
    assert_eq!(run(&crane, &["digest", "--insecure", &reference]).trim(), index);
}

fn a_tag_of_that_registry_is_looked_up_for_the_lock(index: &str) {
    let root = tempfile::tempdir().unwrap();
    for part in ["sources", "etcdimg.lock"] {
        run("cp", &["-r", part, root.path().to_str().unwrap()]);
    }
    // The one platform that the pushed image is for.
    fs::create_dir(root.path().join("targets")).unwrap();
    let target = "targets/linux-amd64.yaml";
    fs::copy(target, root.path().join(target)).unwrap();
    let reference = format!("{}/clients/etcd:3.7.1-0", tool("ETCDIMG_TEST_REGISTRY"));
    let versions = fs::read_to_string("versions.yaml").unwrap();
    let versions = versions.replace("docker.io/library/busybox:1.38.0-musl", &reference);
    fs::write(root.path().join("versions.yaml"), versions).unwrap();
    let lock = root.path().join("etcdimg.lock");
    // Without that base, so that it is asked for; the rest stays as it is locked.
    let text = fs::read_to_string(&lock).unwrap();
    let (before, bases) = text.split_once("  - name: ").unwrap();
    let others = bases.split("  - name: ").filter(|base| !base.starts_with("busybox\n"));
    let others: Vec<_> = others.collect();
    fs::write(&lock, format!("{before}  - name: {}", others.join("  - name: "))).unwrap();
    run(env!("CARGO_BIN_EXE_etcdimg"), &["lock", "-C", root.path().to_str().unwrap()]);
    let now = fs::read_to_string(&lock).unwrap();
    assert!(now.contains(&format!("    index: {index}\n")), "{now}");
    assert!(now.starts_with(text.split("\ncatalog:").next().unwrap()));
    run(env!("CARGO_BIN_EXE_etcdimg"), &["lock", "--check", "-C", root.path().to_str().unwrap()]);
}

#[test]
#[ignore = "needs an engine, a registry, compilers and the network"]
fn a_base_is_the_same_from_a_tar_a_layout_and_a_registry() {
    require::real_parts();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    run("scripts/busybox-base", &["linux/amd64", &path("base.tar")]);
    run("docker", &["import", "--platform=linux/amd64", &path("base.tar"), "bases:1"]);
    let repository = format!("{}/bases", tool("ETCDIMG_TEST_REGISTRY"));
    let copy = ["copy", "--quiet", "--dest-tls-verify=false", "--src-tls-verify=false"];
    let skopeo = |from: &str, to: &str| run(&tool("SKOPEO"), &[&copy[..], &[from, to]].concat());
    let tagged = format!("docker://{repository}:1");
    run("docker", &["save", "--output", &path("saved.tar"), "bases:1"]);
    skopeo(&format!("docker-archive:{}", path("saved.tar")), &tagged);
    skopeo(&tagged, &format!("oci:{}:1", path("base")));
    run("docker", &["rmi", "--force", "bases:1"]);

    let layers = |base: &str, out: &str, more: &[&str]| {
        let base = format!("busybox={base}");
        let command = [
            "build",
            "--from=source",
            "--builder=host",
            "--format=json",
            "--base",
            &base,
            "--out",
            out,
        ];
        let built = run(env!("CARGO_BIN_EXE_etcdimg"), &[&command[..], more].concat());
        run(env!("CARGO_BIN_EXE_etcdimg"), &["verify", out]);
        let built: serde_json::Value = serde_json::from_str(&built).unwrap();
        built["images"][0]["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["diff_id"].to_string())
            .collect::<Vec<_>>()
    };
    let digest = run(&tool("CRANE"), &["digest", "--insecure", &format!("{repository}:1")]);
    let from_registry = format!("{repository}@{}", digest.trim());
    let of_registry = layers(&from_registry, &path("a"), &[]);
    // Everything is in the cache now, so that not even the registry is asked.
    assert_eq!(layers(&from_registry, &path("b"), &["--offline"]), of_registry);
    let manifest = run(&tool("SKOPEO"), &["inspect", "--raw", &format!("oci:{}:1", path("base"))]);
    let digest = etcdimg::digest::Digest::of(manifest);
    assert_eq!(layers(&format!("oci:{}@{digest}", path("base")), &path("c"), &[]), of_registry);
    let sum = run("sha256sum", &[&path("base.tar")]);
    let digest = format!("sha256:{}", sum.split(' ').next().unwrap());
    let of_tar = layers(&format!("rootfs:{}@{digest}", path("base.tar")), &path("d"), &[]);
    // The diff ID of a plain tar is the digest that pins it; the layers above are the same.
    assert_eq!(of_tar[0], format!("\"{digest}\""));
    assert_eq!(of_tar[1..], of_registry[1..]);
}

fn umoci_unpacks_it(layout: &str, folder: &Path) {
    let bundle = folder.join("bundle");
    let image = format!("{layout}:3.7.1-0");
    // Without root, files cannot get their owners.
    run(&tool("UMOCI"), &["unpack", "--rootless", "--image", &image, bundle.to_str().unwrap()]);
    let bin = bundle.join("rootfs/usr/local/bin");
    let plain = fs::read(bin.join("etcdutl")).unwrap();
    assert!(plain == fs::read(bin.join("etcdutl-3.7.1")).unwrap());
    for version in VERSIONS {
        let etcd = bin.join(format!("etcd-{version}"));
        let said = run(etcd.to_str().unwrap(), &["--version"]);
        assert!(said.starts_with(&format!("etcd Version: {version}\n")), "{said}");
    }
}

fn docker_runs_what_was_loaded(reference: &str) {
    let docker = |arguments: &[&str]| {
        run("docker", &[&["run", "--rm", "--network=none", reference], arguments].concat())
    };
    assert_eq!(docker(&["/bin/sh", "-c", "echo $((6 * 7))"]), "42\n");
    for version in VERSIONS {
        let said = docker(&[&format!("etcd-{version}"), "--version"]);
        assert!(said.starts_with(&format!("etcd Version: {version}\n")), "{said}");
        let said = docker(&[&format!("etcdctl-{version}"), "version"]);
        assert!(said.contains(&format!("etcdctl version: {version}\n")), "{said}");
        if version != "3.4.21" {
            let said = docker(&[&format!("etcdutl-{version}"), "version"]);
            assert!(said.contains(&format!("etcdutl version: {version}\n")), "{said}");
        }
    }
    // The plain names are the last version.
    assert!(docker(&["etcd", "--version"]).starts_with("etcd Version: 3.7.1\n"));
    assert!(docker(&["etcdctl", "version"]).contains("etcdctl version: 3.7.1\n"));
    assert!(docker(&["etcdutl", "version"]).contains("etcdutl version: 3.7.1\n"));
    // migrate is in the image, and the wrapper script of the old image starts it.
    let empty = "mkdir /data && TARGET_VERSION=3.7.1 TARGET_STORAGE=etcd3 DATA_DIRECTORY=/data \
                 HOSTNAME=one migrate-if-needed.sh && cat /data/version.txt";
    assert_eq!(docker(&["/bin/sh", "-c", empty]), "3.7.1/etcd3");
}
