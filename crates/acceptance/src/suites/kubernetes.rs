//! The pods of `manifests/`, unchanged: init container first, volumes and network as a kubelet
//! would set them up. Podman takes the place of the kubelet.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use crate::case::Case;
use crate::certificates::Certificates;
use crate::context::CaseContext;
use crate::error::{CaseError, ensure, same};
use crate::runtime::Node;
use docker;
use kube_manifests::{self as manifests, ManifestKind, Setting};

const ADDRESSES: [&str; 3] = ["10.0.0.10", "10.0.0.11", "10.0.0.12"];

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("static-pod", "migrate runs first, then etcd serves", |context| {
            single(context, ManifestKind::StaticPod)
        }),
        Case::new("static-pod-shell", "the form of the old manifests does the same", |context| {
            single(context, ManifestKind::StaticPodShell)
        }),
        Case::new("static-pod-ha", "a member of three starts, with its certificates", |context| {
            one_of_three(context, ManifestKind::StaticPodHa)
        }),
        Case::new("static-pod-shell-ha", "the same in the form of the old manifests", |context| {
            one_of_three(context, ManifestKind::StaticPodShellHa)
        }),
    ]
}

fn setting(context: &CaseContext<'_>) -> Setting {
    let image = format!("registry.example.com/etcd:{}", context.under_test.tag);
    Setting { image, target: context.under_test.newest().clone() }
}

/// A node with the image in podman's storage.
fn node<'a>(context: &CaseContext<'a>) -> Result<Node<'a>, CaseError> {
    Node::find_podman().map_err(CaseError::Skipped)?;
    let folder = context.folder("node")?;
    let archive = folder.join("image.tar");
    let mut out = BufWriter::new(File::create(&archive)?);
    docker::write_archive(&context.under_test.archive(setting(context).image), &mut out)?;
    out.flush()?;
    drop(out);
    let node = Node::boot(&folder, &ADDRESSES, context.interrupted)?;
    must(&node, &["load", "--quiet", "--input", &archive.display().to_string()])?;
    fs::remove_file(archive)?;
    Ok(node)
}

fn must(node: &Node<'_>, words: &[&str]) -> Result<String, CaseError> {
    let ended = node.podman(words)?;
    if ended.code == 0 {
        return Ok(ended.stdout);
    }
    Err(CaseError::failed(format_args!("podman failed with exit code {}", ended.code))
        .command(format!("podman {}", words.join(" ")))
        .log(&format!("{}{}", ended.stdout, ended.stderr)))
}

/// Writes the manifest to a folder that the node sees, and runs `podman kube play` on it.
fn play(node: &Node<'_>, file: &manifests::File) -> Result<(), CaseError> {
    // A folder that node and host share.
    let path = node.pki().join(&file.name);
    fs::write(&path, &file.text)?;
    let path = Path::new("/etc/kubernetes/pki").join(&file.name);
    // Podman would remove an init container that has ended, sometimes before it has its exit code.
    let keep = "--annotation=io.podman.annotations.init.container.type=always";
    must(node, &["kube", "play", keep, &path.display().to_string()]).map(drop)
}

fn log(node: &Node<'_>, container: &str) -> String {
    node.podman(&["logs", container]).map(|ended| ended.stdout + &ended.stderr).unwrap_or_default()
}

fn single(context: &CaseContext<'_>, kind: ManifestKind) -> Result<(), CaseError> {
    let node = node(context)?;
    context.step("play the manifest");
    for file in manifests::files(kind, &setting(context)) {
        play(&node, &file)?;
    }
    context.step("etcd answers");
    let health = ["exec", "etcd-0-etcd", "etcdctl", "endpoint", "health"];
    context
        .until("the pod to be healthy", || Ok(node.podman(&health)?.code == 0))
        .map_err(|stop| stop.log(&log(&node, "etcd-0-etcd")))?;
    must(&node, &["exec", "etcd-0-etcd", "etcdctl", "put", "/registry/pods/a", "b"])?;
    let newest = context.under_test.newest();
    let version = fs::read_to_string(node.data().join("version.txt")).unwrap_or_default();
    same("version.txt", &format!("{newest}/etcd3"), &version)?;
    ensure(node.data().join("member/snap/db").exists(), || {
        "the data is not where the volume is".to_owned()
    })?;
    context.step("play it again: the data stays");
    must(&node, &["pod", "rm", "--all", "--force"])?;
    for file in manifests::files(kind, &setting(context)) {
        play(&node, &file)?;
    }
    context.until("the pod to be healthy", || Ok(node.podman(&health)?.code == 0))?;
    let get = ["exec", "etcd-0-etcd", "etcdctl", "get", "/registry/pods/a", "--print-value-only"];
    same("the value", "b\n", must(&node, &get)?.as_str())
}

/// The first of three members: it starts and looks for the others.
fn one_of_three(context: &CaseContext<'_>, kind: ManifestKind) -> Result<(), CaseError> {
    let node = node(context)?;
    let folder = node.pki().join("etcd");
    fs::create_dir_all(&folder)?;
    Certificates::for_addresses(folder, &ADDRESSES)?;
    context.step("play the first member's manifest");
    let files = manifests::files(kind, &setting(context));
    play(&node, &files[0])?;
    context.step("it runs with its certificates and looks for the others");
    context
        .until("the member to ask for votes", || {
            let said = log(&node, "etcd-0-etcd");
            ensure(!said.contains("\"level\":\"fatal\""), || "etcd gave up".to_owned())
                .map_err(|stop| stop.log(&said))?;
            Ok(said.contains("became pre-candidate") || said.contains("became candidate"))
        })
        .map_err(|stop| stop.log(&log(&node, "etcd-0-etcd")))
}
