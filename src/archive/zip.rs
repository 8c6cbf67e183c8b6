//! Zip archives of releases: entries are stored or deflated, none is encrypted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read, Seek};

use flate2::read::DeflateDecoder;
use rawzip::{
    CompressionMethod, RECOMMENDED_BUFFER_SIZE, ReaderAt, ZipArchive, ZipArchiveEntryWayfinder,
    ZipFileHeaderRecord,
};

use super::{
    ARCHIVE_LIMIT, ArchiveError, ENTRY_LIMIT, IS_LARGE, IS_LINK, IS_TWICE, fault_of_path,
    unreadable,
};

/// Limit of the central directory in bytes; a release has about 30 entries.
const LIST_LIMIT: u64 = 1 << 20;

struct ZipEntry {
    method: CompressionMethod,
    size: u64,
    place: ZipArchiveEntryWayfinder,
}

/// As `super::read_files`; the order of the entries does not matter here.
pub(super) fn read_files<E: From<ArchiveError>>(
    archive: &mut (impl Read + Seek),
    name: &str,
    wanted: &[String],
    mut each: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_seekable(archive, &mut buffer)
        .map_err(|error| unreadable(name, io::Error::other(error)))?;
    let entries = list(&archive, &mut buffer, name)?;
    for (i, path) in wanted.iter().enumerate() {
        let entry = entries.get(path).ok_or_else(|| ArchiveError::Missing {
            archive: name.to_owned(),
            entry: path.clone(),
        })?;
        each(i, content(&archive, entry).map_err(|source| unreadable(name, source))?)?;
    }
    Ok(())
}

/// All entries by their paths. Entries that are not wanted are checked, too.
fn list<R: ReaderAt>(
    archive: &ZipArchive<R>,
    buffer: &mut [u8],
    name: &str,
) -> Result<BTreeMap<String, ZipEntry>, ArchiveError> {
    let failed = |error| unreadable(name, error);
    if archive.eocd_offset().saturating_sub(archive.directory_offset()) > LIST_LIMIT {
        return Err(failed(io::Error::other("its central directory is too long")));
    }
    let mut known = BTreeMap::new();
    let (mut n_entries, mut whole) = (0, 0_u64);
    let mut entries = archive.entries(buffer);
    while let Some(entry) = entries.next_entry().map_err(|error| failed(io::Error::other(error)))? {
        n_entries += 1;
        whole = whole.saturating_add(entry.uncompressed_size_hint());
        let path = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
        let fault = match known.entry(path.trim_end_matches('/').to_owned()) {
            Entry::Occupied(_) => Some(IS_TWICE),
            Entry::Vacant(_) if whole > ARCHIVE_LIMIT => Some(IS_LARGE),
            Entry::Vacant(vacant) => {
                vacant.insert(ZipEntry {
                    method: entry.compression_method(),
                    size: entry.uncompressed_size_hint(),
                    place: entry.wayfinder(),
                });
                fault(&path, &entry)
            }
        };
        if let Some(fault) = fault {
            return Err(ArchiveError::Hostile { archive: name.to_owned(), entry: path, fault });
        }
    }
    if n_entries != archive.entries_hint() {
        return Err(failed(io::Error::other(
            "its central directory has another number of entries than it says",
        )));
    }
    Ok(known)
}

fn fault(path: &str, entry: &ZipFileHeaderRecord<'_>) -> Option<&'static str> {
    let is_known = [CompressionMethod::STORE, CompressionMethod::DEFLATE]
        .contains(&entry.compression_method());
    if let Some(fault) = fault_of_path(path) {
        Some(fault)
    } else if entry.mode().is_symlink() {
        Some(IS_LINK)
    } else if entry.uncompressed_size_hint() > ENTRY_LIMIT {
        Some(IS_LARGE)
    } else if entry.flags().is_encrypted() || !is_known {
        Some("is encrypted or compressed in a way that releases are not")
    } else {
        None
    }
}

/// The bytes of an entry; size and checksum are compared with the central directory.
fn content<R: ReaderAt>(archive: &ZipArchive<R>, listed: &ZipEntry) -> io::Result<Vec<u8>> {
    let entry = archive.get_entry(listed.place).map_err(io::Error::other)?;
    let stored = entry.reader();
    let mut bytes = Vec::with_capacity(usize::try_from(listed.size).unwrap_or(0));
    if listed.method == CompressionMethod::DEFLATE {
        entry.verifying_reader(DeflateDecoder::new(stored)).read_to_end(&mut bytes)?;
    } else {
        entry.verifying_reader(stored).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, Crc};
    use std::io::{Cursor, Write};

    const LOCAL: &[u8] = b"PK\x03\x04";
    const LISTED: &[u8] = b"PK\x01\x02";
    const END: &[u8] = b"PK\x05\x06";
    const STORED: u16 = 0;

    struct ZipFile<'a> {
        path: &'a str,
        bytes: &'a [u8],
        method: u16,
        flags: u16,
        mode: u32,
        size: u32,
    }

    fn file<'a>(path: &'a str, bytes: &'a [u8]) -> ZipFile<'a> {
        let size = u32::try_from(bytes.len()).unwrap();
        ZipFile { path, bytes, method: STORED, flags: 0, mode: 0o100_755, size }
    }

    /// An archive of stored entries, whatever the headers say about them.
    fn zip(files: &[ZipFile<'_>]) -> Vec<u8> {
        let (mut out, mut list) = (Vec::new(), Vec::new());
        for made in files {
            let mut crc = Crc::new();
            crc.update(made.bytes);
            let stored = u32::try_from(made.bytes.len()).unwrap();
            let mut shared = Vec::new();
            for number in [20, made.flags, made.method, 0, 0] {
                shared.extend(number.to_le_bytes());
            }
            for number in [crc.sum(), stored, made.size] {
                shared.extend(number.to_le_bytes());
            }
            shared.extend(u16::try_from(made.path.len()).unwrap().to_le_bytes());
            shared.extend([0; 2]);
            let at = u32::try_from(out.len()).unwrap();
            list.extend([LISTED, &[20, 3], &shared, &[0; 6]].concat());
            list.extend((made.mode << 16).to_le_bytes());
            list.extend([&at.to_le_bytes(), made.path.as_bytes()].concat());
            out.extend([LOCAL, &shared, made.path.as_bytes(), made.bytes].concat());
        }
        let n_files = u16::try_from(files.len()).unwrap().to_le_bytes();
        let [size, at] = [list.len(), out.len()].map(|it| u32::try_from(it).unwrap().to_le_bytes());
        out.extend(list);
        out.extend([END, &[0; 4], &n_files, &n_files, &size, &at, &[0; 2]].concat());
        out
    }

    fn get(zip: &[u8], wanted: &[&str]) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let wanted: Vec<_> = wanted.iter().map(|name| format!("etcd/{name}")).collect();
        let mut found = Vec::new();
        read_files(&mut Cursor::new(zip), "etcd.zip", &wanted, |_, bytes| {
            found.push(bytes);
            Ok::<_, ArchiveError>(())
        })?;
        Ok(found)
    }

    #[test]
    fn files_come_in_the_order_asked_for() {
        let zip = zip(&[file("etcd/", b""), file("etcd/ctl.exe", b"ctl"), file("etcd/e", b"etcd")]);
        assert_eq!(get(&zip, &["e", "ctl.exe"]).unwrap(), [b"etcd".to_vec(), b"ctl".to_vec()]);
        let error = get(&zip, &["etcdutl.exe"]).unwrap_err();
        assert_eq!(error.to_string(), "`etcd.zip` has no `etcd/etcdutl.exe`");
    }

    #[test]
    fn hostile_archives_are_refused() {
        check(file("../etcd", b""), "`../etcd` leads out of the archive");
        check(
            file(r"C:\etcd", b""),
            r"`C:\etcd` is an absolute path or holds a character that no file of ours has",
        );
        check(ZipFile { mode: 0o120_777, ..file("etcd/link", b"") }, "`etcd/link` is a link");
        check(ZipFile { size: 1 << 30, ..file("etcd/a", b"") }, "`etcd/a` is larger than 256 MiB");
        let unknown = "`etcd/a` is encrypted or compressed in a way that releases are not";
        check(ZipFile { flags: 1, ..file("etcd/a", b"") }, unknown);
        check(ZipFile { method: 12, ..file("etcd/a", b"") }, unknown);
        check(file("etcd/etcd", b""), "`etcd/etcd` is in it twice");
    }

    #[track_caller]
    fn check(made: ZipFile<'_>, expected: &str) {
        let error = get(&zip(&[file("etcd/etcd", b"etcd"), made]), &["etcd"]).unwrap_err();
        assert_eq!(error.to_string(), format!("`etcd.zip`: {expected}"));
    }

    #[test]
    fn an_entry_that_is_longer_than_listed_is_refused() {
        let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
        deflated.write_all(&vec![0; 1 << 20]).unwrap();
        let deflated = deflated.finish().unwrap();
        let large = ZipFile { method: 8, size: 4, ..file("etcd/etcd", &deflated) };
        for made in [large, ZipFile { size: 3, ..file("etcd/etcd", b"etcd") }] {
            let error = get(&zip(&[made]), &["etcd"]).unwrap_err();
            assert_eq!(error.to_string(), "`etcd.zip` cannot be read as a zip archive");
        }
    }

    /// Whatever byte is another one or missing: no panic, and never other bytes than those.
    #[test]
    fn damaged_archives_are_refused() {
        let whole = zip(&[file("etcd/etcd", b"etcd"), file("etcd/etcdctl", b"etcdctl")]);
        for at in 0..whole.len() {
            assert!(get(&whole[..at], &["etcd"]).is_err(), "cut at {at}");
            let mut damaged = whole.clone();
            damaged[at] ^= 0x5a;
            if let Ok(found) = get(&damaged, &["etcd"]) {
                assert_eq!(found, [b"etcd".to_vec()], "damaged at {at}");
            }
        }
    }
}
