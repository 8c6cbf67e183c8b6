//! A root file system as a tar that GNU tar would write, byte by byte: ustar, names in order,
//! everything owned by root, with the time 0. Older bases were made by GNU tar; their digests stay.

use std::collections::BTreeMap;
use std::io;

use tar::{Builder, EntryType, Header};

/// GNU tar fills up its last record to this size.
const RECORD: usize = 10240;

/// Entries by their path; that of a folder ends with a slash.
#[derive(Debug, Default)]
pub struct RootTar(BTreeMap<String, Entry>);

#[derive(Debug)]
enum Entry {
    Folder { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
    Link { to: String },
}

impl RootTar {
    /// A folder, and those that it is in.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.parents(path);
        self.0.insert(format!("{path}/"), Entry::Folder { mode });
    }

    pub fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        self.parents(path);
        self.0.insert(path.to_owned(), Entry::File { mode, bytes });
    }

    pub fn link(&mut self, path: &str, to: &str) {
        self.parents(path);
        self.0.insert(path.to_owned(), Entry::Link { to: to.to_owned() });
    }

    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            let folder = path[..=end].to_owned();
            self.0.entry(folder).or_insert(Entry::Folder { mode: 0o755 });
        }
    }

    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let (kind, mode, bytes, to) = match entry {
                Entry::Folder { mode } => (EntryType::Directory, *mode, &[][..], None),
                Entry::File { mode, bytes } => (EntryType::Regular, *mode, &bytes[..], None),
                Entry::Link { to } => (EntryType::Symlink, 0o777, &[][..], Some(to)),
            };
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_device_major(0)?;
            header.set_device_minor(0)?;
            header.set_size(bytes.len() as u64);
            header.set_path(path)?;
            to.map(|to| header.set_link_name(to)).transpose()?;
            header.set_cksum();
            write_checksum(&mut header)?;
            tar.append(&header, bytes)?;
        }
        let mut bytes = tar.into_inner()?;
        bytes.resize(bytes.len().next_multiple_of(RECORD), 0);
        Ok(bytes)
    }
}

/// The sum as GNU tar writes it: six digits, a NUL and a space.
fn write_checksum(header: &mut Header) -> io::Result<()> {
    let text = format!("{:06o}\0 ", header.cksum()?);
    header.as_old_mut().cksum.copy_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Cmd;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn gnu_tar_writes_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["bin", "etc", "tmp"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(root.join("bin/busybox"), vec![7; 700]).unwrap();
        fs::set_permissions(root.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["[", "[[", "ash", "which"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let expected = Cmd::new("tar")
            .args(["--create", "--format=ustar", "--sort=name", "--mtime=@0", "--owner=0"])
            .args(["--group=0", "--numeric-owner", "bin", "etc", "tmp"])
            .dir(root)
            .bytes()
            .unwrap();

        let mut tar = RootTar::default();
        tar.folder("tmp", 0o1777);
        tar.folder("etc", 0o755);
        for name in ["which", "ash", "[", "[["] {
            tar.link(&format!("bin/{name}"), "busybox");
        }
        tar.file("bin/busybox", 0o755, vec![7; 700]);
        assert!(tar.bytes().unwrap() == expected);
    }
}
