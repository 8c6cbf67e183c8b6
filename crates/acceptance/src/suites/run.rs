//! Every program in the image runs, and the last etcd serves.

use std::time::Duration;

use etcd_version::programs_of;

use crate::case::Case;
use crate::container::Container;
use crate::context::CaseContext;
use crate::error::{CaseError, ensure, same};
use crate::etcd::{Cluster, ClusterOptions, admitted};

/// Kubernetes gives a pod 30 seconds; etcd needs far less.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("shell", "there is a /bin/sh", shell),
        Case::new("versions", "every versioned program answers with its version", versions),
        Case::new("plain-names", "etcd, etcdctl and etcdutl are the last version", plain_names),
        Case::new("serve", "a server starts, serves, and stops on SIGTERM within seconds", |it| {
            serve(it, &ClusterOptions::default())
        }),
        Case::new("read-only-root", "the same on a read-only root", |it| {
            serve(it, &ClusterOptions { read_only_root: true, ..ClusterOptions::default() })
        }),
        Case::new("non-root-user", "the same as a user who is not root", |it| {
            serve(it, &ClusterOptions { user: Some(it.other_user()?), ..ClusterOptions::default() })
        }),
    ]
}

fn shell(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let said = context.pod()?.must(&Container::new(["/bin/sh", "-c", "echo $((6 * 7))"]))?;
    same("what the shell said", "42\n", said.as_str())
}

fn versions(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    for version in &context.under_test.bundled {
        context.step(format_args!("ask the programs of {version} for their version"));
        for name in programs_of(version) {
            let program = format!("/usr/local/bin/{name}-{version}");
            let asked = admitted(asked(&program, name), context.under_test, version);
            answers(&pod.must(&asked)?, &version.to_string(), &program)?;
        }
    }
    Ok(())
}

fn plain_names(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let newest = context.under_test.newest();
    for name in programs_of(newest) {
        // By its bare name: PATH is part of the image.
        answers(&pod.must(&asked(name, name))?, &newest.to_string(), name)?;
    }
    Ok(())
}

fn asked(program: &str, name: &str) -> Container {
    let word = if name == "etcd" { "--version" } else { "version" };
    Container::new([program, word]).env("ETCDCTL_API", "3")
}

/// `etcd Version: 3.6.14`, `etcdctl version: 3.6.14`; an etcd on an
/// architecture that it does not support prints a warning first.
fn answers(said: &str, version: &str, program: &str) -> Result<(), CaseError> {
    let received = said.lines().find_map(|line| line.split_once("ersion: "));
    let received = received.map_or("", |(_, received)| received);
    same(&format!("the version that {program} says"), version, received)
}

fn serve(context: &CaseContext<'_>, options: &ClusterOptions) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let newest = context.under_test.newest();
    context.step("start a server");
    let mut cluster = Cluster::new(&pod, 1, newest, options.clone())?;
    cluster.start_all()?;
    context.step("write and read a key");
    cluster.ctl(&["put", "/registry/pods/a", "b"])?;
    same("the value", "b\n", &cluster.ctl(&["get", "/registry/pods/a", "--print-value-only"])?)?;
    context.step("stop it with SIGTERM");
    let after = cluster.members[0].stop()?;
    context.note(format_args!("stopped after {} ms", after.as_millis()));
    ensure(after < context.limit(STOPS_WITHIN), || format!("it took {} s to stop", after.as_secs()))
}
