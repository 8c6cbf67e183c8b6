//! Zip archives of releases: members stored or deflated, none encrypted.

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

/// The list at the end of the archive; a release has about 30 members.
const LIST_LIMIT: u64 = 1 << 20;

struct ZipEntry {
    method: CompressionMethod,
    size: u64,
    place: ZipArchiveEntryWayfinder,
}

/// As `super::read_files`; the order of the archive does not matter here.
pub(super) fn read_files<E: From<ArchiveError>>(
    archive: &mut (impl Read + Seek),
    name: &str,
    wanted: &[String],
    mut each: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_seekable(archive, &mut buffer)
        .map_err(|error| unreadable(name, io::Error::other(error)))?;
    let members = list(&archive, &mut buffer, name)?;
    for (i, path) in wanted.iter().enumerate() {
        let member = members.get(path).ok_or_else(|| ArchiveError::Missing {
            archive: name.to_owned(),
            member: path.clone(),
        })?;
        each(i, content(&archive, member).map_err(|source| unreadable(name, source))?)?;
    }
    Ok(())
}

/// All members by their paths. Those that nobody asked for are looked at too.
fn list<R: ReaderAt>(
    archive: &ZipArchive<R>,
    buffer: &mut [u8],
    name: &str,
) -> Result<BTreeMap<String, ZipEntry>, ArchiveError> {
    let failed = |error| unreadable(name, error);
    if archive.eocd_offset().saturating_sub(archive.directory_offset()) > LIST_LIMIT {
        return Err(failed(io::Error::other("its list of members is too long")));
    }
    let mut members = BTreeMap::new();
    let (mut n_members, mut whole) = (0, 0_u64);
    let mut entries = archive.entries(buffer);
    while let Some(entry) = entries.next_entry().map_err(|error| failed(io::Error::other(error)))? {
        n_members += 1;
        whole = whole.saturating_add(entry.uncompressed_size_hint());
        let path = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
        let fault = match members.entry(path.trim_end_matches('/').to_owned()) {
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
            return Err(ArchiveError::Hostile { archive: name.to_owned(), member: path, fault });
        }
    }
    if n_members != archive.entries_hint() {
        return Err(failed(io::Error::other("its list has not as many members as it says")));
    }
    Ok(members)
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

/// Size and sum are compared with what the list says.
fn content<R: ReaderAt>(archive: &ZipArchive<R>, member: &ZipEntry) -> io::Result<Vec<u8>> {
    let entry = archive.get_entry(member.place).map_err(io::Error::other)?;
    let stored = entry.reader();
    let mut bytes = Vec::with_capacity(usize::try_from(member.size).unwrap_or(0));
    if member.method == CompressionMethod::DEFLATE {
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

    struct Made<'a> {
        path: &'a str,
        bytes: &'a [u8],
        method: u16,
        flags: u16,
        mode: u32,
        size: u32,
    }

    fn file<'a>(path: &'a str, bytes: &'a [u8]) -> Made<'a> {
        let size = u32::try_from(bytes.len()).unwrap();
        Made { path, bytes, method: STORED, flags: 0, mode: 0o100_755, size }
    }

    /// Stored members, whatever the headers say of them.
    fn zip(members: &[Made<'_>]) -> Vec<u8> {
        let (mut out, mut list) = (Vec::new(), Vec::new());
        for member in members {
            let mut crc = Crc::new();
            crc.update(member.bytes);
            let stored = u32::try_from(member.bytes.len()).unwrap();
            let mut shared = Vec::new();
            for number in [20, member.flags, member.method, 0, 0] {
                shared.extend(number.to_le_bytes());
            }
            for number in [crc.sum(), stored, member.size] {
                shared.extend(number.to_le_bytes());
            }
            shared.extend(u16::try_from(member.path.len()).unwrap().to_le_bytes());
            shared.extend([0; 2]);
            let at = u32::try_from(out.len()).unwrap();
            list.extend([LISTED, &[20, 3], &shared, &[0; 6]].concat());
            list.extend((member.mode << 16).to_le_bytes());
            list.extend([&at.to_le_bytes(), member.path.as_bytes()].concat());
            out.extend([LOCAL, &shared, member.path.as_bytes(), member.bytes].concat());
        }
        let n_members = u16::try_from(members.len()).unwrap().to_le_bytes();
        let [size, at] = [list.len(), out.len()].map(|it| u32::try_from(it).unwrap().to_le_bytes());
        out.extend(list);
        out.extend([END, &[0; 4], &n_members, &n_members, &size, &at, &[0; 2]].concat());
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
    fn members_come_in_the_order_asked_for() {
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
        check(Made { mode: 0o120_777, ..file("etcd/link", b"") }, "`etcd/link` is a link");
        check(Made { size: 1 << 30, ..file("etcd/a", b"") }, "`etcd/a` is larger than 256 MiB");
        let unknown = "`etcd/a` is encrypted or compressed in a way that releases are not";
        check(Made { flags: 1, ..file("etcd/a", b"") }, unknown);
        check(Made { method: 12, ..file("etcd/a", b"") }, unknown);
        check(file("etcd/etcd", b""), "`etcd/etcd` stands in it twice");
    }

    #[track_caller]
    fn check(member: Made<'_>, expected: &str) {
        let error = get(&zip(&[file("etcd/etcd", b"etcd"), member]), &["etcd"]).unwrap_err();
        assert_eq!(error.to_string(), format!("`etcd.zip`: {expected}"));
    }

    #[test]
    fn a_member_that_is_longer_than_listed_is_refused() {
        let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
        deflated.write_all(&vec![0; 1 << 20]).unwrap();
        let deflated = deflated.finish().unwrap();
        let large = Made { method: 8, size: 4, ..file("etcd/etcd", &deflated) };
        for member in [large, Made { size: 3, ..file("etcd/etcd", b"etcd") }] {
            let error = get(&zip(&[member]), &["etcd"]).unwrap_err();
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
