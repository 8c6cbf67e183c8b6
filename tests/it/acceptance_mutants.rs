//! Images with exactly one fault each: the cases of `etcdimg test` that cover it fail, and no
//! others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::acceptance::{ended, failed, image, listed, name, results, results_of, why};
use crate::mutable_image::{MutableImage, rewrite};
use crate::patch::patched;

/// Layers of the image: the base, four versions of etcd, migrate.
const BASE: usize = 0;
pub(crate) const NEWEST: usize = 4;
pub(crate) const MIGRATE: usize = 5;

/// A copy of the image that shares its blobs.
pub(crate) fn copy(folder: &Path) -> PathBuf {
    let layout = folder.join("layout");
    let copied = Command::new("cp").arg("-rl").arg(image()).arg(&layout).status().unwrap();
    assert!(copied.success());
    // Written in place afterwards, unlike blobs.
    let index = layout.join("index.json");
    let bytes = fs::read(&index).unwrap();
    fs::remove_file(&index).unwrap();
    fs::write(&index, bytes).unwrap();
    layout
}

fn change_layer(
    image: &mut MutableImage,
    layer: usize,
    mut change: impl FnMut(&str, tar::Header, Vec<u8>) -> Option<(tar::Header, Vec<u8>)>,
) {
    let tar = image.layers().nth(layer).unwrap();
    image.set_layer(layer, &rewrite(&tar, &mut change).into_inner().unwrap());
    image.save();
}

fn with_header(image: &mut MutableImage, layer: usize, path: &str, change: fn(&mut tar::Header)) {
    let mut is_found = false;
    change_layer(image, layer, |name, mut header, bytes| {
        if name.trim_start_matches("./") == path {
            is_found = true;
            change(&mut header);
        }
        Some((header, bytes))
    });
    assert!(is_found, "{path}");
}

pub(crate) fn with_bytes(
    image: &mut MutableImage,
    layer: usize,
    path: &str,
    change: impl Fn(Vec<u8>) -> Vec<u8>,
) {
    let mut is_found = false;
    change_layer(image, layer, |name, header, bytes| {
        let is_it = name == path;
        is_found |= is_it;
        Some((header, if is_it { change(bytes) } else { bytes }))
    });
    assert!(is_found, "{path}");
}

/// A program that passes for migrate when only looked at; `body` is what it does.
pub(crate) fn false_migrate(folder: &Path, body: &str) -> Vec<u8> {
    let source = folder.join("false.rs");
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "use std::{{env, fs, path::PathBuf, process::{{Command, exit}}}};\n\
         const VERSION: &str = \"etcdimg-migrate {version}\\n\";\n\
         fn main() {{\n\
         if env::args().any(|it| it == \"--version\") {{ print!(\"{{VERSION}}\"); return; }}\n\
         let data = PathBuf::from(env::var(\"DATA_DIRECTORY\").unwrap_or_default());\n\
         let to = env::var(\"TARGET_VERSION\").unwrap_or_default();\n\
         let _ = (&data, &to, Command::new(\"true\"), exit as fn(i32) -> !);\n\
         {body}\n\
         let _ = fs::create_dir_all(&data);\n\
         let _ = fs::write(data.join(\"version.txt\"), format!(\"{{to}}/etcd3\"));\n\
         }}\n"
    );
    fs::write(&source, text).unwrap();
    let program = folder.join("false");
    let compiled = Command::new("rustc")
        .args(["--edition=2024", "-O", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"])
        .args(["--target=x86_64-unknown-linux-gnu", "-o"])
        .args([&program, &source])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    fs::read(program).unwrap()
}

/// `wrong` must make `fails` fail and nothing else: not `passes`, and no other case of `structure`
/// and `run`, which are cheap enough to be run as a whole.
#[track_caller]
pub(crate) fn check(fails: &[&str], passes: &[&str], wrong: impl FnOnce(&mut MutableImage, &Path)) {
    drop(check_why(fails, passes, wrong));
}

/// The same; returns the results.
#[track_caller]
fn check_why(
    fails: &[&str],
    passes: &[&str],
    wrong: impl FnOnce(&mut MutableImage, &Path),
) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let layout = copy(folder.path());
    let mut image = MutableImage::open(&layout);
    wrong(&mut image, folder.path());
    let mut cases = listed(&["--suite=structure", "--suite=run"]);
    cases.extend(fails.iter().chain(passes).map(|case| (*case).to_owned()));
    let named: Vec<_> = cases.iter().map(|case| format!("--case={case}")).collect();
    let arguments: Vec<_> =
        std::iter::once("--runtime=rootfs").chain(named.iter().map(String::as_str)).collect();
    let (code, results, stderr) = results(&layout, &arguments);
    let sorted = |names: Vec<String>| names.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(sorted(failed(&results)), sorted(cases_of(fails)), "{stderr}\n{results:#}");
    // A name that does not exist would pass for ever.
    let well = ended(&results, "passed").map(name).collect();
    assert_eq!(&sorted(well) | &sorted(failed(&results)), cases, "{results:#}");
    assert_eq!(code, Some(9));
    results
}

fn cases_of(cases: &[&str]) -> Vec<String> {
    cases.iter().map(|case| (*case).to_owned()).collect()
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_wrong_mode_fails_structure_and_nothing_else() {
    check(&["structure/paths", "structure/verify"], &["migrate/empty"], |image, _| {
        with_header(image, MIGRATE, "usr/local/bin/migrate", |header| header.set_mode(0o755));
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn another_owner_fails_structure() {
    check(&["structure/paths", "structure/verify"], &[], |image, _| {
        with_header(image, NEWEST, "usr/local/bin/etcdctl-3.7.1", |header| header.set_uid(1000));
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_file_that_nobody_promised_fails_structure() {
    check(&["structure/nothing-extra", "structure/verify"], &[], |image, _| {
        let tar = image.layers().nth(MIGRATE).unwrap();
        let mut out = rewrite(&tar, |_, header, bytes| Some((header, bytes)));
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_mode(0o444);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        out.append_data(&mut header, "usr/local/share/etcdimg/notes", &b""[..]).unwrap();
        image.set_layer(MIGRATE, &out.into_inner().unwrap());
        image.save();
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_missing_link_fails_structure_run_and_the_scripts_that_use_it() {
    check(
        &[
            "structure/plain-names",
            "structure/verify",
            "run/plain-names",
            "operate/backup-and-restore",
        ],
        &["operate/snapshot"],
        |image, _| {
            change_layer(image, NEWEST, |name, header, bytes| {
                (name != "usr/local/bin/etcdctl").then_some((header, bytes))
            });
        },
    );
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_setuid_shell_fails_structure() {
    check(&["structure/no-privileges"], &[], |image, _| {
        let mut is_first = true;
        change_layer(image, BASE, |_, mut header, bytes| {
            if is_first && header.entry_type().is_file() {
                header.set_mode(0o4755);
                is_first = false;
            }
            Some((header, bytes))
        });
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_missing_port_fails_structure() {
    check(&["structure/config"], &[], |image, _| {
        image.config["config"]["ExposedPorts"].as_object_mut().unwrap().remove("4001/tcp");
        image.save();
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn an_entry_point_fails_structure() {
    check(&["structure/config"], &[], |image, _| {
        image.config["config"]["Entrypoint"] = json!(["/usr/local/bin/etcd"]);
        image.save();
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_label_that_lies_fails_structure() {
    check(&["structure/labels", "structure/verify"], &[], |image, _| {
        image.config["config"]["Labels"]["dev.etcdimg.bundled-versions"] = json!("3.7.1");
        image.save();
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn the_wrong_etcd_fails_structure_and_run() {
    check(&["structure/verify", "run/versions", "run/plain-names"], &[], |image, _| {
        // The etcd of 3.6.14 under the name of 3.7.1.
        let mut other = Vec::new();
        let tar = image.layers().nth(3).unwrap();
        rewrite(&tar, |name, header, bytes| {
            if name == "usr/local/bin/etcd-3.6.14" {
                other.clone_from(&bytes);
            }
            Some((header, bytes))
        });
        with_bytes(image, NEWEST, "usr/local/bin/etcd-3.7.1", |_| other.clone());
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_server_that_does_not_say_its_version_fails_run() {
    check(&["run/versions", "run/plain-names"], &[], |image, _| {
        with_bytes(image, NEWEST, "usr/local/bin/etcd-3.7.1", |bytes| {
            patched(&bytes, "etcd Version: %s", "etcd Version: %d")
        });
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_shell_that_does_not_start_fails_run() {
    check(&["run/shell"], &[], |image, _| {
        change_layer(image, BASE, |name, mut header, bytes| {
            let is_shell = ["bin/sh", "bin/busybox"].contains(&name.trim_start_matches("./"));
            if is_shell && header.entry_type().is_file() {
                header.set_mode(0o644);
            }
            Some((header, bytes))
        });
    });
}

/// Puts a script where the newest etcd was, which becomes `etcd-3.7.1.real`. The structure cannot
/// stay what it was.
fn wrap(image: &mut MutableImage, script: &str) {
    const PATH: &str = "usr/local/bin/etcd-3.7.1";
    let tar = image.layers().nth(NEWEST).unwrap();
    let mut real = None;
    let mut out = rewrite(&tar, |name, header, bytes| {
        if name != PATH {
            return Some((header, bytes));
        }
        real = Some((header.clone(), bytes));
        Some((header, script.as_bytes().to_vec()))
    });
    let (mut header, bytes) = real.unwrap();
    out.append_data(&mut header, format!("{PATH}.real"), &bytes[..]).unwrap();
    image.set_layer(NEWEST, &out.into_inner().unwrap());
    image.save();
}

/// What sees that there is a script.
const WRAPPED: [&str; 3] =
    ["structure/bundled-file", "structure/nothing-extra", "structure/verify"];

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_server_that_loses_a_key_fails_migrate_and_rolling_upgrade() {
    // It deletes keys by a server that only it can reach, and starts the real one afterwards.
    let script = r#"#!/bin/sh
real=/usr/local/bin/etcd-3.7.1.real
case "$*" in *--data-dir=*) ;; *) exec $real "$@" ;; esac
scheme=http tls=
case "$*" in
  *--cert-file=*)
    scheme=https
    tls='--cacert=/tls/ca.crt --cert=/tls/client.crt --key=/tls/client.key' ;;
esac
url=$scheme://127.0.0.1:7379
$real "$@" --listen-client-urls=$url --advertise-client-urls=$url &
lost() { /usr/local/bin/etcdctl-3.7.1 --endpoints=$url $tls del "$1"; }
until lost /registry/pods/000007 && lost /writer/000000; do sleep 0.1; done
kill $!
wait
exec $real "$@"
"#;
    let fails = ["migrate/up-3.6.14-3.7.1", "rolling-upgrade/3.6.14-3.7.1"];
    let fails = [&fails[..], &WRAPPED].concat();
    let passes = ["migrate/up-3.5.33-3.6.14", "migrate/empty", "operate/single-node"];
    let results = check_why(&fails, &passes, |image, _| wrap(image, script));
    let what = why(&results, "migrate/up-3.6.14-3.7.1");
    assert!(what.starts_with("keys, values, leases or revisions are not what they were"), "{what}");
    let what = why(&results, "rolling-upgrade/3.6.14-3.7.1");
    assert_eq!(what, "the write 0 was acknowledged and is lost");
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_server_that_asks_for_no_certificate_fails_operate() {
    let script = r#"#!/bin/sh
for word; do
  shift
  case $word in
    --client-cert-auth=*|--trusted-ca-file=*) ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec /usr/local/bin/etcd-3.7.1.real "$@"
"#;
    let fails = [&["operate/client-certificates"], &WRAPPED[..]].concat();
    let passes = ["operate/single-node", "operate/snapshot"];
    let results = check_why(&fails, &passes, |image, _| wrap(image, script));
    let what = why(&results, "operate/client-certificates");
    assert_eq!(what, "a client without a certificate was served");
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_migrate_that_goes_back_when_it_is_too_late_fails_rolling_upgrade() {
    let fails = ["rolling-upgrade/back-3.7.1-3.6.14"];
    let passes = ["migrate/refused", "migrate/down-3.7.1-3.6.14"];
    let results = check_why(&fails, &passes, |image, folder| {
        with_bytes(image, MIGRATE, "usr/local/bin/migrate", |real| {
            fs::write(folder.join("real"), real).unwrap();
            // Everything is as it should be, but for a refusal of data.
            false_migrate(
                folder,
                "use std::os::unix::fs::PermissionsExt;\n\
                 let real = std::path::Path::new(\"/tmp/migrate\");\n\
                 fs::write(real, include_bytes!(\"real\")).unwrap();\n\
                 fs::set_permissions(real, fs::Permissions::from_mode(0o755)).unwrap();\n\
                 let ended = Command::new(real).args(env::args().skip(1)).status().unwrap();\n\
                 let code = ended.code().unwrap_or(1);\n\
                 if code != 3 || !data.join(\"member\").exists() { exit(code) }",
            )
        });
    });
    assert_eq!(why(&results, fails[0]), "the exit code is 0, not 3");
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_broken_script_in_a_manifest_fails_operate() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("etcdimg");
    // The scripts are texts in our own program.
    for (from, to, step) in [
        ("mv /backup/partial /backup/$name", "mv /backup/partial /backup/$none", "write, and save"),
        ("tail -n +49 |", "tail -n +48 |", "write, and save"),
        ("--replicas=0'\n      exit 1", "--replicas=0'\n      exit 0", "a restore into"),
        ("sort -r | head", "sort    | head", "the Jobs restore"),
        ("mv $restored/member member", "mv $restored/member membre", "start the pods"),
        ("--bump-revision 1000000000", "--bump-revision 1         ", "clients that have"),
    ] {
        fs::copy(env!("CARGO_BIN_EXE_etcdimg"), &program).unwrap();
        fs::write(&program, patched(&fs::read(&program).unwrap(), from, to)).unwrap();
        let arguments = ["--case=operate/backup-and-restore", "--runtime=rootfs"];
        let (code, results, stderr) = results_of(&program, image(), &arguments);
        assert_eq!(code, Some(9), "{to}: {stderr}\n{results:#}");
        let failed_at = results["cases"][0]["why"]["step"].as_str().unwrap();
        assert!(failed_at.starts_with(step), "{to}: {results:#}");
    }
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_migrate_that_skips_its_steps_fails_migrate() {
    check(&["migrate/longest"], &["migrate/empty"], |image, folder| {
        let program = false_migrate(folder, "");
        with_bytes(image, MIGRATE, "usr/local/bin/migrate", |_| program.clone());
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_migrate_that_takes_everything_fails_migrate() {
    check(&["migrate/refused"], &["migrate/permissions"], |image, folder| {
        let program = false_migrate(folder, "");
        with_bytes(image, MIGRATE, "usr/local/bin/migrate", |_| program.clone());
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_migrate_that_loses_the_keys_fails_migrate() {
    check(&["migrate/up-3.6.14-3.7.1"], &["migrate/empty"], |image, folder| {
        let program = false_migrate(folder, "let _ = fs::remove_dir_all(data.join(\"member\"));");
        with_bytes(image, MIGRATE, "usr/local/bin/migrate", |_| program.clone());
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_migrate_that_starts_servers_in_a_cluster_fails_rolling_upgrade() {
    check(&["rolling-upgrade/3.6.14-3.7.1"], &["migrate/up-3.6.14-3.7.1"], |image, folder| {
        let program = false_migrate(
            folder,
            "if data.join(\"member\").exists() {\n\
             eprintln!(\"{{\\\"event\\\":\\\"started\\\",\\\"etcd\\\":\\\"{to}\\\"}}\");\n}",
        );
        with_bytes(image, MIGRATE, "usr/local/bin/migrate", |_| program.clone());
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_migrate_that_begins_anew_each_time_fails_kubernetes() {
    check(&["kubernetes/static-pod"], &["migrate/empty"], |image, folder| {
        let program = false_migrate(folder, "let _ = fs::remove_dir_all(data.join(\"member\"));");
        with_bytes(image, MIGRATE, "usr/local/bin/migrate", |_| program.clone());
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_tool_that_cannot_restore_a_bare_database_fails_operate() {
    check(&["operate/bare-database"], &["operate/snapshot"], |image, _| {
        with_bytes(image, NEWEST, "usr/local/bin/etcdutl-3.7.1", |bytes| {
            patched(&bytes, "skip-hash-check", "skip-hash-chack")
        });
    });
}

#[test]
#[ignore = "needs root, compilers and the network"]
fn a_part_that_grew_by_a_fifth_fails_structure() {
    let folder = tempfile::tempdir().unwrap();
    let layout = copy(folder.path());
    let against = format!("--against={}", image().display());
    let arguments = [against.as_str(), "--case=structure/size"];
    let (code, same, stderr) = results(&layout, &arguments);
    assert_eq!((code, failed(&same)), (Some(0), vec![]), "{stderr}");
    with_bytes(&mut MutableImage::open(&layout), MIGRATE, "usr/local/bin/migrate", |mut bytes| {
        // Nothing that a compressor could make small.
        let mut noise = 1_u32;
        bytes.resize_with(bytes.len() * 6 / 5, || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_be_bytes()[0]
        });
        bytes
    });
    let (code, grown, stderr) = results(&layout, &arguments);
    assert_eq!((code, failed(&grown)), (Some(9), cases_of(&["structure/size"])), "{stderr}");
    let what = grown["cases"][0]["why"]["what"].as_str().unwrap();
    assert!(what.starts_with("migrate takes"), "{what}");
}
