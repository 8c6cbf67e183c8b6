//! A real package on a host: installed by dpkg into a root file system of its own, and started by
//! the line of its drop-in, as systemd would start it, as the user of etcd. Everything runs in
//! namespaces that end with the test.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::require;
use crate::run::run;

/// The user of etcd on the host.
const ETCD: u32 = 100;

const DROP_IN: &str = "usr/lib/etcd-migrate/systemd/etcd-migrate.conf";

/// Debian's unit, as etcd-server 3.4.23-4 and 3.5.16-4 have it.
const UNIT: &str = "\
[Unit]
Description=etcd - highly-available key value store
After=network.target
[Service]
Environment=DAEMON_ARGS=
Environment=ETCD_NAME=%H
Environment=ETCD_DATA_DIR=/var/lib/etcd/default
EnvironmentFile=-/etc/default/%p
Type=notify
User=etcd
PermissionsStartOnly=true
ExecStart=/usr/bin/etcd $DAEMON_ARGS
Restart=on-abnormal
";

/// A root file system with busybox, and the package.
struct Host {
    folder: TempDir,
}

impl Host {
    /// Installs a package whose programs are compiled here, unless they are in the cache.
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("package-host-").tempdir().unwrap();
        let host = Self { folder };
        let base = host.folder.path().join("base.tar").display().to_string();
        run("scripts/busybox-base", &["linux/amd64", &base]);
        fs::create_dir(host.root()).unwrap();
        run("tar", &["-xf", &base, "-C", &host.path("")]);
        fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
        let packages = host.folder.path().join("packages").display().to_string();
        let arguments = ["package", "--arch=amd64", "--from=source", "--builder=host", "--out"];
        let etcdimg = env!("CARGO_BIN_EXE_etcdimg");
        run(etcdimg, &[&arguments[..], &[&packages]].concat());
        host.install();
        host.add_etcd();
        host
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn path(&self, path: &str) -> String {
        self.root().join(path).display().to_string()
    }

    fn deb(&self) -> String {
        let folder = fs::read_dir(self.folder.path().join("packages")).unwrap();
        let mut files = folder.map(|entry| entry.unwrap().path());
        let is_deb = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "deb");
        files.find(is_deb).unwrap().display().to_string()
    }

    fn install(&self) {
        fs::create_dir_all(self.root().join("var/lib/dpkg/updates")).unwrap();
        fs::create_dir_all(self.root().join("var/lib/dpkg/info")).unwrap();
        fs::write(self.root().join("var/lib/dpkg/status"), "").unwrap();
        self.dpkg(&["--install", &self.deb()]);
    }

    fn dpkg(&self, words: &[&str]) -> String {
        let root = format!("--root={}", self.path(""));
        run("dpkg", &[&[root.as_str(), "--force-not-root", "--force-bad-path"], words].concat())
    }

    /// The etcd of the host, its user and its folder, as Debian's package makes them.
    fn add_etcd(&self) {
        let from = self.root().join("usr/lib/etcd-migrate/bin/etcd-3.7.1");
        fs::copy(from, self.root().join("usr/bin/etcd")).unwrap();
        let passwd = self.root().join("etc/passwd");
        let users = fs::read_to_string(&passwd).unwrap();
        fs::write(passwd, users + "etcd:x:100:100::/var/lib/etcd:/bin/false\n").unwrap();
        fs::write(self.root().join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        for (folder, owner) in [("var/lib/etcd", ETCD), ("srv", 0), ("srv/etcd", ETCD)] {
            let folder = self.root().join(folder);
            fs::create_dir_all(&folder).unwrap();
            chown(&folder, Some(owner), Some(owner)).unwrap();
        }
        run("mknod", &["-m", "666", &self.path("dev/null"), "c", "1", "3"]);
    }

    /// Standard output of a script on the host, as the user of etcd, without a network.
    #[track_caller]
    fn script(&self, variables: &[(&str, &str)], script: &str) -> String {
        let enter = "ip link set lo up; mount -t proc proc \"$1/proc\"; shift; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-ec", enter]);
        command.args(["sh", &self.path(""), "env", "-i", "PATH=/usr/sbin:/usr/bin:/bin"]);
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        let user = format!("--userspec={ETCD}:{ETCD}");
        command.args(["chroot", &user, &self.path(""), "/bin/sh", "-euc", script]);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, talk) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}: {said}\n{talk}", output.status);
        said
    }
}

/// The setting of a unit, whose `$DAEMON_ARGS` is empty.
fn setting<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines.map(str::trim).collect()
}

/// Starts an etcd, puts or gets the key, and stops it. The log goes to a file of the host.
fn served(etcd: &str, version: &str, words: &str) -> String {
    format!(
        "{etcd} >/tmp/log 2>&1 &
        n=0
        until ETCDCTL_API=3 /usr/lib/etcd-migrate/bin/etcdctl-{version} {words} 2>/dev/null; do
          n=$((n + 1)); [ $n -lt 60 ] || {{ tail -n 5 /tmp/log; exit 1; }}; sleep 1
        done
        kill $!; wait $! || true\n"
    )
}

fn require_parts() {
    require::root();
    require::program(&["dpkg-deb", "--version"]);
    require::program(&["unshare", "--mount", "--pid", "--net", "--fork", "true"]);
}

/// What dpkg makes of it, then the way of an upgrade: data of 3.4, the line of the drop-in, and the
/// etcd of the host on the result.
#[test]
#[ignore = "needs root, dpkg, compilers and the network"]
fn an_installed_package_takes_the_data_to_the_etcd_of_the_host() {
    require_parts();
    let host = Host::new();
    dpkg_reads_the_package(&host);
    let drop_in = fs::read_to_string(host.root().join(DROP_IN)).unwrap();
    let lines = setting(&drop_in, "ExecStartPre");
    let [line] = lines[..] else { panic!("{drop_in}") };
    // systemd would start it as root without the second.
    assert_eq!(setting(UNIT, "PermissionsStartOnly"), ["true"]);
    assert_eq!(setting(&drop_in, "PermissionsStartOnly"), ["false"]);
    let line = line.replace("$DAEMON_ARGS", "");
    let bin = "/usr/lib/etcd-migrate/bin";
    for data in ["/var/lib/etcd/default", "/srv/etcd"] {
        let variables = [("ETCD_DATA_DIR", data), ("ETCD_NAME", "host1")];
        let script = served(&format!("{bin}/etcd-3.4.21 --logger=zap"), "3.4.21", "put key value");
        assert_eq!(host.script(&variables, &script), "OK\n");
        let said = host.script(&variables, &format!("{line} 2>&1"));
        assert!(said.contains("is at 3.7.1/etcd3: etcd 3.7.1 may start now"), "{said}");
        let script = served("/usr/bin/etcd", "3.7.1", "get key");
        assert_eq!(host.script(&variables, &script), "key\nvalue\n");
        // The command of the package knows where its programs are.
        let status = host.script(&variables, "etcd-migrate status --data-dir \"$ETCD_DATA_DIR\"");
        assert!(status.contains("version      etcd 3.7.1"), "{status}");
        everything_belongs_to_etcd(&host, data);
    }
    // Beside the data where etcd's user may write, else inside.
    assert!(host.root().join("var/lib/etcd/default.bak").is_dir());
    assert!(host.root().join("srv/etcd/.migrate/backup").is_dir());
    nothing_is_left_of_it(&host);
}

fn dpkg_reads_the_package(host: &Host) {
    let deb = host.deb();
    let field = |name: &str| run("dpkg-deb", &["--field", &deb, name]).trim_end().to_owned();
    assert_eq!(field("Package"), "etcd-migrate");
    assert_eq!(field("Architecture"), "amd64");
    let info = run("dpkg-deb", &["--info", &deb]);
    assert!(info.contains("new Debian package, version 2.0."), "{info}");
    let contents = run("dpkg-deb", &["--contents", &deb]);
    for version in ["3.4.21", "3.5.33", "3.6.14", "3.7.1"] {
        let line = contents.lines().find(|line| line.ends_with(&format!("/etcd-{version}")));
        assert!(line.is_some_and(|it| it.starts_with("-rwxr-xr-x 0/0 ")), "{contents}");
    }
    let listed = host.dpkg(&["--status", "etcd-migrate"]);
    assert!(listed.contains("Status: install ok installed"), "{listed}");
    assert_eq!(host.dpkg(&["--verify", "etcd-migrate"]), "", "files differ from their sums");
}

/// Root has written nothing there.
fn everything_belongs_to_etcd(host: &Host, data: &str) {
    let folder = host.path(data.trim_start_matches('/'));
    let others = run("find", &[&folder, "!", "-uid", &ETCD.to_string()]);
    assert_eq!(others, "");
}

/// Removing the package takes its own files alone, and the data stays.
fn nothing_is_left_of_it(host: &Host) {
    host.dpkg(&["--purge", "etcd-migrate"]);
    assert!(!host.root().join("usr/lib/etcd-migrate").exists());
    assert!(!host.root().join("usr/sbin/etcd-migrate").is_symlink());
    assert!(host.root().join("usr/bin/etcd").is_file());
    assert!(host.root().join("var/lib/etcd/default/member/snap/db").is_file());
}

/// systemd itself reads the units, with no systemd running.
#[test]
#[ignore = "needs systemd-analyze"]
fn systemd_takes_the_units() {
    require::program(&["systemd-analyze", "--version"]);
    let folder = tempfile::tempdir().unwrap();
    let (unit, drop_in) = ("etcd.service", "etcd.service.d/etcd-migrate.conf");
    let kubeadm = "etcd-migrate-kubeadm.service";
    let text = |name: &str| fs::read_to_string(format!("src/package/host/{name}")).unwrap();
    let files =
        [(unit, UNIT.to_owned()), (drop_in, text("etcd-migrate.conf")), (kubeadm, text(kubeadm))];
    for (name, text) in &files {
        put(folder.path(), &format!("etc/systemd/system/{name}"), text);
    }
    for target in ["basic", "multi-user", "network", "shutdown", "sysinit"] {
        let place = format!("lib/systemd/system/{target}.target");
        put(folder.path(), &place, "[Unit]\nDescription=Stands in\n");
    }
    put(
        folder.path(),
        "lib/systemd/system/kubelet.service",
        "[Service]\nExecStart=/usr/bin/etcd\n",
    );
    for name in
        ["usr/bin/etcd", "usr/lib/etcd-migrate/before-start", "usr/lib/etcd-migrate/before-kubelet"]
    {
        put(folder.path(), name, "#!/bin/sh\n");
        let program = folder.path().join(name);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for unit in [unit, kubeadm] {
        assert_eq!(faults(folder.path(), unit), "", "{unit}");
    }
    // It sees the drop-in: a wrong line of it is found.
    let wrong = text("etcd-migrate.conf").replace("before-start ", "before-begin ");
    put(folder.path(), &format!("etc/systemd/system/{drop_in}"), &wrong);
    let found = faults(folder.path(), unit);
    assert!(found.contains("before-begin is not executable"), "{found}");
}

fn put(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// What systemd says of a unit below another root. It must say something if it fails.
fn faults(root: &Path, unit: &str) -> String {
    let root = format!("--root={}", root.display());
    let verify = ["verify", "--man=no", &root, unit];
    let output = Command::new("systemd-analyze").args(verify).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}
