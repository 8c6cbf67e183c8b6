//! Reads programs out of a release archive (tar.gz or zip), which may be hostile.
//!
//! Nothing is unpacked: only the wanted entries are read into memory, one at a time. An archive
//! that has anything but files and folders with plain relative names is refused as a whole.

mod zip;

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::EntryType;

/// Limit of one entry in bytes; the largest program of etcd is smaller than 40 MB.
const ENTRY_LIMIT: u64 = 256 << 20;

/// Limit of a whole archive, uncompressed, in bytes; a release has about 70 MB.
const ARCHIVE_LIMIT: u64 = 1 << 30;

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// An entry that a release archive must not have.
    #[error("`{archive}`: `{entry}` {fault}")]
    Hostile { archive: String, entry: String, fault: &'static str },
    /// A wanted file is not there.
    #[error("`{archive}` has no `{entry}`")]
    Missing { archive: String, entry: String },
    /// Not an archive of that kind, or a damaged one.
    #[error("`{archive}` cannot be read as a {} archive", kind(archive))]
    Unreadable { archive: String, source: io::Error },
}

/// The kind of an archive, by its name. (The lock has the digest for that name, too.)
fn kind(name: &str) -> &'static str {
    if is_zip(name) { "zip" } else { "tar.gz" }
}

pub fn is_zip(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "zip")
}

/// Calls `each` with the bytes of every wanted file, in the order of `wanted`.
pub fn read_files<E: From<ArchiveError>>(
    archive: &mut (impl Read + Seek),
    name: &str,
    wanted: &[String],
    each: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    if is_zip(name) {
        zip::read_files(archive, name, wanted, each)
    } else {
        read_tar(archive, name, wanted, each)
    }
}

/// Reads the archive again from the start if the wanted files are in another order.
fn read_tar<E: From<ArchiveError>>(
    archive: &mut (impl Read + Seek),
    name: &str,
    wanted: &[String],
    mut each: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut next = 0;
    let mut pass = 0;
    while next < wanted.len() {
        let before = next;
        // Only the first pass reads to the end, to check the entries that are not wanted, too.
        read_pass::<E>(archive, name, pass == 0, |path, entry| {
            let is_next = wanted.get(next).is_some_and(|it| it == path);
            if is_next {
                each(next, entry.read()?)?;
                next += 1;
            }
            Ok(pass == 0 || next < wanted.len())
        })?;
        pass += 1;
        if next == before {
            let missing =
                ArchiveError::Missing { archive: name.to_owned(), entry: wanted[next].clone() };
            return Err(missing.into());
        }
    }
    Ok(())
}

/// An entry whose bytes can be read.
struct ArchiveEntry<'a> {
    archive: &'a str,
    size: u64,
    reader: &'a mut dyn Read,
}

impl ArchiveEntry<'_> {
    fn read(self) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0));
        self.reader.read_to_end(&mut bytes).map_err(|source| unreadable(self.archive, source))?;
        Ok(bytes)
    }
}

/// Calls `visit` for each file of the archive, until it returns `false`.
fn read_pass<E: From<ArchiveError>>(
    archive: &mut (impl Read + Seek),
    name: &str,
    is_checked: bool,
    mut visit: impl FnMut(&str, ArchiveEntry<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    archive.seek(SeekFrom::Start(0)).map_err(|source| unreadable(name, source))?;
    let limited = MultiGzDecoder::new(archive).take(ARCHIVE_LIMIT);
    let mut tar = tar::Archive::new(limited);
    let mut seen = BTreeSet::new();
    for entry in tar.entries().map_err(|source| unreadable(name, source))? {
        let mut entry = entry.map_err(|source| unreadable(name, source))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if is_checked && kind != EntryType::XGlobalHeader {
            let is_new = seen.insert(path.trim_end_matches('/').to_owned());
            check(name, &path, kind, entry.size(), is_new)?;
        }
        if kind != EntryType::Regular {
            continue;
        }
        let size = entry.size();
        if !visit(&path, ArchiveEntry { archive: name, size, reader: &mut entry })? {
            break;
        }
    }
    Ok(())
}

fn check(
    archive: &str,
    path: &str,
    kind: EntryType,
    size: u64,
    is_new: bool,
) -> Result<(), ArchiveError> {
    let fault = if let Some(fault) = fault_of_path(path) {
        fault
    } else if kind.is_symlink() || kind.is_hard_link() {
        IS_LINK
    } else if kind != EntryType::Regular && kind != EntryType::Directory {
        "is neither a file nor a folder"
    } else if size > ENTRY_LIMIT {
        IS_LARGE
    } else if !is_new {
        IS_TWICE
    } else {
        return Ok(());
    };
    Err(ArchiveError::Hostile { archive: archive.to_owned(), entry: path.to_owned(), fault })
}

const IS_LINK: &str = "is a link";
const IS_LARGE: &str = "is larger than 256 MiB";
const IS_TWICE: &str = "is in it twice";

fn fault_of_path(path: &str) -> Option<&'static str> {
    if path.starts_with('/') || path.contains('\\') || path.contains('\0') {
        Some("is an absolute path or holds a character that no file of ours has")
    } else if path.split('/').any(|part| part == "..") {
        Some("leads out of the archive")
    } else {
        None
    }
}

fn unreadable(archive: &str, source: io::Error) -> ArchiveError {
    ArchiveError::Unreadable { archive: archive.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::{Cursor, Write};

    type Build<'a> = &'a dyn Fn(&mut tar::Builder<Vec<u8>>);

    fn archive(build: Build<'_>) -> Cursor<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&builder.into_inner().unwrap()).unwrap();
        Cursor::new(gzip.finish().unwrap())
    }

    /// Writes the name as it is: the tar crate itself refuses hostile ones.
    fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: EntryType, bytes: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }

    fn read(archive: &mut Cursor<Vec<u8>>, wanted: &[&str]) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let wanted: Vec<_> = wanted.iter().map(|name| format!("etcd/{name}")).collect();
        let mut found = Vec::new();
        read_files(archive, "etcd.tar.gz", &wanted, |_, bytes| {
            found.push(bytes);
            Ok::<_, ArchiveError>(())
        })?;
        Ok(found)
    }

    #[test]
    fn files_come_in_the_order_asked_for() {
        let mut archive = archive(&|builder| {
            add(builder, "etcd/", EntryType::Directory, b"");
            add(builder, "etcd/README.md", EntryType::Regular, b"read me");
            add(builder, "etcd/etcdctl", EntryType::Regular, b"ctl");
            add(builder, "etcd/etcd", EntryType::Regular, b"etcd");
        });
        assert_eq!(
            read(&mut archive, &["etcd", "etcdctl"]).unwrap(),
            [b"etcd".to_vec(), b"ctl".to_vec()]
        );
        let error = read(&mut archive, &["etcd", "etcdutl"]).unwrap_err();
        assert_eq!(error.to_string(), "`etcd.tar.gz` has no `etcd/etcdutl`");
    }

    #[test]
    fn hostile_archives_are_refused() {
        let file = EntryType::Regular;
        check(
            "/etc/passwd",
            file,
            "is an absolute path or holds a character that no file of ours has",
        );
        check("etcd/../../passwd", file, "leads out of the archive");
        check("etcd/etcdctl", EntryType::Symlink, "is a link");
        check("etcd/etcdctl", EntryType::Link, "is a link");
        check("etcd/etcdctl", EntryType::Char, "is neither a file nor a folder");
        check("etcd/etcdctl", EntryType::Block, "is neither a file nor a folder");
        check("etcd/etcdctl", EntryType::Fifo, "is neither a file nor a folder");
        check("etcd/etcd", file, "is in it twice");
    }

    #[track_caller]
    fn check(name: &str, kind: EntryType, expected: &str) {
        let mut archive = archive(&|builder| {
            add(builder, "etcd/etcd", EntryType::Regular, b"etcd");
            add(builder, name, kind, b"");
        });
        let error = read(&mut archive, &["etcd"]).unwrap_err();
        assert_eq!(error.to_string(), format!("`etcd.tar.gz`: `{name}` {expected}"));
    }

    #[test]
    fn an_entry_over_the_limit_is_refused_before_it_is_read() {
        let mut header = tar::Header::new_ustar();
        header.set_path("etcd/etcd").unwrap();
        header.set_size(ENTRY_LIMIT + 1);
        header.set_cksum();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(header.as_bytes()).unwrap();
        let error = read(&mut Cursor::new(gzip.finish().unwrap()), &["etcd"]).unwrap_err();
        assert_eq!(error.to_string(), "`etcd.tar.gz`: `etcd/etcd` is larger than 256 MiB");
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused() {
        let whole = archive(&|builder| add(builder, "etcd/etcd", EntryType::Regular, &[7; 5000]))
            .into_inner();
        for bytes in [&whole[..whole.len() / 2], b"<html>not found</html>", b""] {
            assert!(read(&mut Cursor::new(bytes.to_vec()), &["etcd"]).is_err());
        }
    }
}
