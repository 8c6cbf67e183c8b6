//! The smallest base with a shell: a root file system of one static busybox, as an uncompressed
//! layer.
//!
//! busybox comes from Debian's or Ubuntu's own package, by default of the suite that this machine
//! runs; the layer contains only what is named below. The same package gives the same bytes on
//! every machine, and nothing of a foreign architecture is executed.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use etcdimg::digest::Digest;

use crate::apt;
use crate::command::Cmd;
use crate::debian_package::{self, DebianSuite};
use crate::error::{ErrorContext as _, Result, TaskError};
use crate::root_tar::RootTar;
use crate::workspace::{self, say};

/// The name of the base in versions.yaml.
const NAME: &str = "busybox";

/// The commands that scripts and people expect in a container. A fixed list, not asked from the
/// binary, so that the layer does not depend on what can be executed here. Every suite since
/// bookworm has all of them; a missing one is an error.
const APPLETS: &str = "\
[ [[ arch ash awk base64 basename bunzip2 bzcat cat chgrp chmod chown chroot clear cmp \
cp cpio cut date dd df diff dirname dmesg dnsdomainname du echo egrep env expr factor \
fallocate false fgrep find fold free getopt grep groups gunzip gzip head hexdump hostid \
hostname id ifconfig ip kill killall last less link ln logger login logname ls md5sum mkdir \
mkfifo mknod mktemp more mount mv nc netstat nl nproc nsenter nslookup od paste pidof \
ping ping6 printf ps pwd readlink realpath renice reset rev rm rmdir route sed seq setsid sh \
sha1sum sha256sum sha512sum shuf sleep sort stat strings stty sync sysctl tac tail tar tee \
telnet test time timeout top touch tr traceroute true truncate tty umount uname uniq unlink \
unxz unzip uptime usleep uudecode uuencode vi watch wc wget which who whoami xargs xxd xzcat \
yes zcat";

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/home:/bin/false
";

const GROUP: &str = "\
root:x:0:
nobody:x:65534:
";

/// Without it programs made by Go 1.12 to 1.15, old etcds among them, ask DNS before /etc/hosts.
const NSSWITCH: &str = "hosts: files dns\n";

/// Writes the layer of a platform to a file; returns its digest.
pub fn write(suite: Option<&str>, platform: &str, out: &Path) -> Result<Digest> {
    let bytes = layer(suite, platform)?;
    let folder = out.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".xtask-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .context(folder.display())?;
    file.write_all(&bytes)?;
    file.persist(out).context(out.display())?;
    Ok(Digest::of(&bytes))
}

/// The base for this machine's containers, kept in the cache; returns the value for `--base`.
pub fn base_of_cache(suite: Option<&str>, platform: &str) -> Result<String> {
    let path = kept(platform)?;
    let digest = write(suite, platform, &path)?;
    Ok(format!("{NAME}=rootfs:{}@{digest}", path.display()))
}

fn kept(platform: &str) -> Result<PathBuf> {
    Ok(workspace::parts()?.join(format!("{NAME}-{}.tar", platform.replace('/', "-"))))
}

/// The layer, uncompressed.
pub fn layer(suite: Option<&str>, platform: &str) -> Result<Vec<u8>> {
    let architecture = debian_architecture(platform)?;
    let suite = suite.map_or_else(apt::suite, |suite| Ok(suite.to_owned()))?;
    let debian = DebianSuite { suite: &suite, architecture };
    let package = debian_package::files(debian, &["busybox-static"])?.remove(0);
    let version = debian_package::field(&package, "Version")?;
    let BusyboxPackage { busybox, copyright } = content(&package)?;
    let missing = missing_applets(&busybox);
    if !missing.is_empty() {
        let names = missing.join(", ");
        return Err(TaskError::new(format!("busybox {version} lacks the applets {names}")));
    }
    say(format_args!("busybox {version} of {suite} for {platform}"));
    Ok(tree(busybox, copyright).bytes()?)
}

/// Debian's name of a platform.
pub fn debian_architecture(platform: &str) -> Result<&'static str> {
    let platform = platform.strip_suffix("/v8").unwrap_or(platform);
    oci::platform::debian_architecture(platform).ok_or_else(|| {
        TaskError::new(format!("no busybox for the platform {platform}"))
            .hint("known: linux/{amd64,arm64,arm/v7,386,ppc64le,s390x,riscv64}")
    })
}

/// The files of the package that are used.
struct BusyboxPackage {
    busybox: Vec<u8>,
    /// The licence must be distributed with the program.
    copyright: Vec<u8>,
}

fn content(package: &Path) -> Result<BusyboxPackage> {
    let bytes = Cmd::new("dpkg-deb").arg("--fsys-tarfile").arg(package).bytes()?;
    let (mut busybox, mut copyright) = (None, None);
    for entry in tar::Archive::new(&bytes[..]).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let place = if !entry.header().entry_type().is_file() {
            continue;
        } else if path.ends_with("bin/busybox") {
            &mut busybox
        } else if path.ends_with("usr/share/doc/busybox-static/copyright") {
            &mut copyright
        } else {
            continue;
        };
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        *place = Some(content);
    }
    let missing = |what| TaskError::new(format!("{} has no {what}", package.display()));
    Ok(BusyboxPackage {
        busybox: busybox.ok_or_else(|| missing("bin/busybox"))?,
        copyright: copyright.ok_or_else(|| missing("copyright"))?,
    })
}

fn tree(busybox: Vec<u8>, copyright: Vec<u8>) -> RootTar {
    let mut root = RootTar::default();
    for path in ["bin", "dev", "etc", "home", "proc", "sys", "usr/bin", "usr/sbin"] {
        root.folder(path, 0o755);
    }
    root.folder("root", 0o700);
    for path in ["tmp", "var/tmp"] {
        root.folder(path, 0o1777);
    }
    root.file("bin/busybox", 0o755, busybox);
    // Links are symbolic: a layer that replaces one of several hard links would separate it from
    // the others.
    for applet in APPLETS.split(' ') {
        root.link(&format!("bin/{applet}"), "busybox");
    }
    root.link("usr/bin/env", "../../bin/env");
    for (name, text) in [("passwd", PASSWD), ("group", GROUP), ("nsswitch.conf", NSSWITCH)] {
        root.file(&format!("etc/{name}"), 0o644, text.into());
    }
    root.file("usr/share/doc/busybox-static/copyright", 0o644, copyright);
    root
}

fn missing_applets(busybox: &[u8]) -> Vec<&'static str> {
    let own = own_applets(busybox);
    APPLETS.split(' ').filter(|applet| !own.contains(applet)).collect()
}

/// The names in busybox's own table: sorted, a NUL after each, beginning with `[` and `[[` (the
/// bytes before the `[` may be anything).
fn own_applets(busybox: &[u8]) -> BTreeSet<&str> {
    let is_name = |word: &[u8]| {
        !word.is_empty()
            && word.iter().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.[-".contains(byte)
            })
    };
    let words: Vec<_> = busybox.split(|byte| *byte == 0).collect();
    let is_start = |pair: &[&[u8]]| pair[0].ends_with(b"[") && pair[1] == b"[[";
    let Some(start) = words.windows(2).position(is_start) else { return BTreeSet::new() };
    let table = &words[start + 1..];
    let in_order = table.windows(2).take_while(|pair| is_name(pair[1]) && pair[0] <= pair[1]);
    let rest = in_order.map(|pair| pair[1]);
    let names = [&b"["[..], b"[["].into_iter().chain(rest);
    names.filter_map(|name| std::str::from_utf8(name).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_applets_ends_where_the_order_ends() {
        let program = b"\x7fELF\0junk\0\x01[\0[[\0arch\0awk\0zcat\0awk\0which\0";
        assert_eq!(
            own_applets(program).into_iter().collect::<Vec<_>>(),
            ["[", "[[", "arch", "awk", "zcat"]
        );
        assert!(own_applets(b"no table here").is_empty());
        assert!(missing_applets(program).contains(&"which"));
        assert!(!missing_applets(program).contains(&"arch"));
    }

    #[test]
    fn platforms_have_debian_names() {
        assert_eq!(debian_architecture("linux/arm/v7").unwrap(), "armhf");
        assert_eq!(debian_architecture("linux/ppc64le").unwrap(), "ppc64el");
        assert!(debian_architecture("windows/amd64").is_err());
    }

    #[test]
    fn the_tree_has_the_modes_of_a_root_file_system() {
        let bytes = tree(b"program".to_vec(), b"licence".to_vec()).bytes().unwrap();
        let mut found = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            found.push((path, entry.header().mode().unwrap()));
        }
        let mode = |path: &str| found.iter().find(|(known, _)| known == path).unwrap().1;
        assert_eq!(mode("tmp/"), 0o1777);
        assert_eq!(mode("root/"), 0o700);
        assert_eq!(mode("bin/busybox"), 0o755);
        assert_eq!(mode("usr/share/doc/busybox-static/copyright"), 0o644);
        assert_eq!(found.first().unwrap().0, "bin/");
    }
}
