//! The StatefulSet of `manifests/`, its backup and its restore: their pods run unchanged, one after
//! the other, in the order of docs/operating.md.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::certificates::Certificates;
use crate::container::{Container, Ended};
use crate::context::CaseContext;
use crate::error::{CaseError, ensure, same};
use crate::etcd::{ClusterOptions, ctl};
use crate::kubelet::{Kubelet, Template};
use crate::pod::{Pod, Process};
use crate::runtime::Signal;
use kube_manifests::{self as manifests, ManifestKind, Setting};

/// The pods of the StatefulSet, all of them on the loopback device.
const MEMBERS: [(&str, &str); 3] =
    [("etcd-0", "127.0.0.1"), ("etcd-1", "127.0.0.2"), ("etcd-2", "127.0.0.3")];
/// The user that the pods run as.
const USER: u32 = 65_532;
/// Snapshots that the CronJob keeps.
const KEPT: usize = 48;
const KEYS: usize = 50;

pub fn backup_and_restore(context: &CaseContext<'_>) -> Result<(), CaseError> {
    let pod = context.pod()?;
    let site = StatefulSetFixture::new(&pod)?;
    let mut members = site.start()?;
    context.step("write, and save a snapshot as the CronJob does");
    site.write("saved")?;
    let saved = site.read()?;
    site.save()?;
    site.write("too late")?;
    let latest = site.revision()?;
    context.step("a restore into the volume of a member that runs is refused");
    site.must_refuse_restore(0)?;
    context.step("the Jobs restore the newest snapshot into all volumes");
    stop(&mut members)?;
    for index in 0..MEMBERS.len() {
        let ended = site.restore(index)?;
        ensure(ended.code == 0, || format!("the Job ended with exit code {}", ended.code))
            .map_err(|stop| stop.log(&format!("{}{}", ended.stdout, ended.stderr)))?;
    }
    context.step("the members start again and have what was saved");
    let mut members = site.start()?;
    same("the data", saved.as_str(), site.read()?.as_str())?;
    context.step("clients that have seen the time after the snapshot notice that it is gone");
    let revision = site.revision()?;
    ensure(revision > latest, || format!("the revision went back from {latest} to {revision}"))?;
    let old = format!("--rev={latest}");
    let ended = site.ctl(MEMBERS[0].1, &["get", "/registry/pods/000", &old], "")?;
    ensure(ended.stderr.contains("compacted"), || format!("revision {latest} is not compacted"))?;
    site.write("afterwards")?;
    stop(&mut members)
}

/// The volumes, secrets and names that a Kubernetes cluster would provide.
struct StatefulSetFixture<'a> {
    pod: &'a Pod<'a>,
    kubelet: Kubelet,
    tls: Certificates,
    backup: PathBuf,
}

impl<'a> StatefulSetFixture<'a> {
    fn new(pod: &'a Pod<'a>) -> Result<Self, CaseError> {
        let context = pod.context();
        let addresses = MEMBERS.map(|(_, address)| address);
        let names = MEMBERS.map(|(name, _)| format!("{name}.etcd"));
        let mut san: Vec<_> = addresses.to_vec();
        san.extend(names.iter().map(String::as_str).chain(["etcd-client"]));
        let tls = Certificates::for_addresses(context.folder("tls")?, &san)?;
        let hosts = context.folder("etc")?.join("hosts");
        let lines =
            names.iter().zip(addresses).map(|(name, address)| format!("{address} {name}\n"));
        fs::write(&hosts, lines.collect::<String>() + addresses[0] + " etcd-client\n")?;
        let backup = context.folder("backup")?;
        let mut volumes = BTreeMap::from([("etcd-tls".to_owned(), tls.folder.clone())]);
        volumes.insert("etcd-backup".to_owned(), backup.clone());
        for (name, _) in MEMBERS {
            volumes.insert(format!("data-{name}"), context.folder(name)?);
        }
        for folder in volumes.values().filter(|folder| **folder != tls.folder) {
            give(folder, USER)?;
        }
        Ok(Self { pod, kubelet: Kubelet { volumes, hosts }, tls, backup })
    }

    /// The generated manifests for this image, only documents of the Kubernetes kind `of`.
    fn documents(&self, kind: ManifestKind, of: &str) -> Vec<Value> {
        let under_test = self.pod.context().under_test;
        let image = format!("registry.example.com/etcd:{}", under_test.tag);
        let files = manifests::files(kind, &Setting { image, target: under_test.newest().clone() });
        let documents = files.into_iter().flat_map(|file| file.documents);
        documents.filter(|document| document["kind"] == of).collect()
    }

    fn start(&self) -> Result<Vec<Process<'a>>, CaseError> {
        let context = self.pod.context();
        context.step("start the pods of the StatefulSet");
        let set = self.documents(ManifestKind::StatefulSet, "StatefulSet").remove(0);
        let mut members = Vec::new();
        for (name, address) in MEMBERS {
            let pod = Template { name, address, spec: &set["spec"]["template"]["spec"] };
            for container in self.kubelet.init_containers(pod)? {
                self.pod.must(&container)?;
            }
            for container in self.kubelet.containers(pod)? {
                members.push(self.pod.start(&container)?);
            }
        }
        for (name, address) in MEMBERS {
            context.until(&format!("{name} to be healthy"), || {
                members.iter_mut().try_for_each(runs)?;
                Ok(self.ctl(address, &["endpoint", "health"], "")?.code == 0)
            })?;
        }
        Ok(members)
    }

    fn ctl(&self, address: &str, words: &[&str], input: &str) -> Result<Ended, CaseError> {
        let options = ClusterOptions { tls: Some(self.tls.clone()), ..ClusterOptions::default() };
        let version = self.pod.context().under_test.newest();
        self.pod
            .run(&ctl(&options, version, &format!("https://{address}:2379"), words).input(input))
    }

    fn must(&self, words: &[&str], input: &str) -> Result<String, CaseError> {
        let ended = self.ctl(MEMBERS[0].1, words, input)?;
        ensure(ended.code == 0, || format!("`etcdctl {}` failed", words.join(" ")))
            .map_err(|stop| stop.log(&ended.stderr))?;
        Ok(ended.stdout)
    }

    fn write(&self, value: &str) -> Result<(), CaseError> {
        let puts = (0..KEYS).map(|key| format!("put /registry/pods/{key:03} \"{value} {key}\"\n"));
        self.must(&["txn"], &format!("\n{}\n\n\n", puts.collect::<String>())).map(drop)
    }

    /// The revision of the store.
    fn revision(&self) -> Result<u64, CaseError> {
        let said = self.must(&["get", "/registry/pods/000", "-w=json"], "")?;
        let said: Value = serde_json::from_str(&said).unwrap_or_default();
        let revision = said["header"]["revision"].as_u64();
        revision.ok_or_else(|| CaseError::failed(format_args!("no revision: {said}")))
    }

    fn read(&self) -> Result<String, CaseError> {
        let all = self.must(&["get", "/registry/", "--prefix"], "")?;
        same("the number of keys", &(2 * KEYS), &all.lines().count())?;
        Ok(all)
    }

    /// Runs the pod of the CronJob with more old snapshots in the volume than it keeps.
    fn save(&self) -> Result<(), CaseError> {
        for second in 0..KEPT + 2 {
            File::create(self.backup.join(format!("snapshot-20010101T0000{second:02}Z.db")))?;
        }
        let job = self.documents(ManifestKind::Backup, "CronJob").remove(0);
        let spec = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let pod = Template { name: "etcd-backup-1", address: MEMBERS[0].1, spec };
        for container in self.kubelet.containers(pod)? {
            self.pod.must(&container)?;
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.backup)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        same("the number of snapshots", &KEPT, &names.len())
            .map_err(|stop| stop.log(&names.join("\n")))?;
        let newest = names.last().map(String::as_str).unwrap_or_default();
        ensure(newest.starts_with("snapshot-") && !newest.contains("2001"), || {
            format!("the newest file is {newest}, which is not a new snapshot")
        })
    }

    /// The Job for a member that runs: the image says that its data is in use, and the Job fails
    /// and changes nothing.
    fn must_refuse_restore(&self, index: usize) -> Result<(), CaseError> {
        let job = self.restore_job(index)?;
        let command = ["migrate", "status", "--json", "--data-dir", "/var/lib/etcd"];
        let command = command.map(str::to_owned).to_vec();
        let status = self.pod.must(&Container { command, ..job.clone() })?;
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        ensure(status["data"]["isServed"] == true, || {
            format!("the status of the data of a member that runs is {status}")
        })?;
        let before = self.names(index)?;
        let ended = self.pod.run(&job)?;
        let log = format!("{}{}", ended.stdout, ended.stderr);
        ensure(ended.code != 0, || "a member that runs was restored".to_owned())
            .and_then(|()| same("the files of the member", before.as_str(), &self.names(index)?))
            .map_err(|stop| stop.log(&log))
    }

    /// The names in the volume of a member.
    fn names(&self, index: usize) -> Result<String, CaseError> {
        let volume = &self.kubelet.volumes[&format!("data-{}", MEMBERS[index].0)];
        let entries = fs::read_dir(volume)?.collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<_> =
            entries.iter().map(|it| it.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names.join(" "))
    }

    /// Runs the pod of a member's restore Job.
    fn restore(&self, index: usize) -> Result<Ended, CaseError> {
        self.pod.run(&self.restore_job(index)?)
    }

    /// The container of a member's Job, for which the backups are read-only.
    fn restore_job(&self, index: usize) -> Result<Container, CaseError> {
        give(&self.backup, 0)?;
        fs::set_permissions(&self.backup, fs::Permissions::from_mode(0o555))?;
        let job = self.documents(ManifestKind::Restore, "Job").remove(index);
        let (name, address) = MEMBERS[index];
        let pod = Template { name, address, spec: &job["spec"]["template"]["spec"] };
        let mut containers = self.kubelet.containers(pod)?;
        ensure(containers.len() == 1, || "a Job has one container".to_owned())?;
        Ok(containers.remove(0))
    }
}

/// As a kubelet does with volumes, for the users that pods run as.
fn give(folder: &Path, user: u32) -> Result<(), CaseError> {
    chown(folder, Some(user), Some(user)).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            CaseError::Skipped("only root can give a volume to the user of a pod".to_owned())
        }
        _ => error.into(),
    })
}

/// An error if the member ended by itself.
fn runs(member: &mut Process<'_>) -> Result<(), CaseError> {
    let Some(code) = member.has_ended()? else { return Ok(()) };
    let what = format!("a member ended by itself with exit code {code}");
    Err(CaseError::failed(what).command(member.line().to_owned()).log(&member.log()))
}

fn stop(members: &mut Vec<Process<'_>>) -> Result<(), CaseError> {
    members.iter_mut().try_for_each(|member| member.signal(Signal::Term))?;
    members.drain(..).try_for_each(|member| member.end().map(drop))
}
