//! The zip format as far as releases use it (PKWARE's APPNOTE, 4.3): no encryption, no parts, no
//! zip64, members stored or deflated.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read, Seek, SeekFrom};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::{
    ARCHIVE_LIMIT, ArchiveError, IS_LARGE, IS_LINK, IS_TWICE, MEMBER_LIMIT, fault_of_path,
    unreadable,
};

const LOCAL: &[u8] = b"PK\x03\x04";
const LISTED: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";

const LOCAL_SIZE: usize = 30;
const LISTED_SIZE: usize = 46;
const END_SIZE: usize = 22;

/// The end is followed by a comment of at most this size.
const COMMENT_LIMIT: u64 = 0xffff;

/// A release has about 30 members.
const LIST_LIMIT: u64 = 1 << 20;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// What the list at the end of the archive says of a member.
struct Member {
    path: String,
    method: u16,
    flags: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    /// Where its own header begins, which repeats some of this.
    at: u64,
    /// Kind and mode, where the archive was made on a Unix.
    mode: u32,
}

/// As `super::members`; the order of the archive does not matter here.
pub(super) fn members<E: From<ArchiveError>>(
    archive: &mut (impl Read + Seek),
    name: &str,
    wanted: &[String],
    mut each: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let list = list(archive).map_err(|source| unreadable(name, source))?;
    let members = checked(name, list)?;
    for (i, path) in wanted.iter().enumerate() {
        let member = members.get(path).ok_or_else(|| ArchiveError::Missing {
            archive: name.to_owned(),
            member: path.clone(),
        })?;
        each(i, content(archive, member).map_err(|source| unreadable(name, source))?)?;
    }
    Ok(())
}

/// All members are looked at, also those that nobody asked for.
fn checked(archive: &str, list: Vec<Member>) -> Result<BTreeMap<String, Member>, ArchiveError> {
    let mut members = BTreeMap::new();
    let mut whole = 0;
    for member in list {
        const KIND: u32 = 0o170_000;
        const SYMLINK: u32 = 0o120_000;
        whole += member.size;
        let path = member.path.trim_end_matches('/').to_owned();
        let fault = if let Some(fault) = fault_of_path(&member.path) {
            fault
        } else if member.mode & KIND == SYMLINK {
            IS_LINK
        } else if member.size > MEMBER_LIMIT || whole > ARCHIVE_LIMIT {
            IS_LARGE
        } else if member.flags & 1 != 0 || ![STORED, DEFLATED].contains(&member.method) {
            "is encrypted or compressed in a way that releases are not"
        } else {
            match members.entry(path) {
                Entry::Occupied(_) => IS_TWICE,
                Entry::Vacant(place) => {
                    place.insert(member);
                    continue;
                }
            }
        };
        let (archive, member) = (archive.to_owned(), member.path);
        return Err(ArchiveError::Hostile { archive, member, fault });
    }
    Ok(members)
}

fn list(archive: &mut (impl Read + Seek)) -> io::Result<Vec<Member>> {
    let size = archive.seek(SeekFrom::End(0))?;
    let from = size.saturating_sub(COMMENT_LIMIT + END_SIZE as u64);
    let tail = read(archive, from, size - from)?;
    let end = tail
        .windows(END_SIZE)
        .rposition(|bytes| bytes.starts_with(END))
        .ok_or_else(|| wrong("it has no end"))?;
    let end = Fields(&tail[end..]);
    let (n_members, size, at) = (end.u16(10)?, end.u32(12)?, end.u32(16)?);
    if u64::from(size) > LIST_LIMIT {
        return Err(wrong("its list of members is too long"));
    }
    let bytes = read(archive, at.into(), size.into())?;
    let mut rest = &bytes[..];
    let mut members = Vec::new();
    for _ in 0..n_members {
        let (member, length) = listed(rest)?;
        rest = rest.get(length..).ok_or_else(|| wrong("its list of members is cut"))?;
        members.push(member);
    }
    if !rest.is_empty() {
        return Err(wrong("its list has more than its members"));
    }
    Ok(members)
}

/// A member of the list, and how long its entry is.
fn listed(bytes: &[u8]) -> io::Result<(Member, usize)> {
    const UNIX: u16 = 3;
    let fields = Fields(bytes);
    fields.begins_with(LISTED)?;
    let lengths = [28, 30, 32].map(|at| fields.u16(at).map(usize::from));
    let [name, extra, comment] = lengths;
    let (name, rest) = (name?, extra? + comment?);
    let path = fields.bytes(LISTED_SIZE, name)?;
    let is_unix = fields.u16(4)? >> 8 == UNIX;
    let member = Member {
        path: String::from_utf8_lossy(path).into_owned(),
        flags: fields.u16(8)?,
        method: fields.u16(10)?,
        crc: fields.u32(16)?,
        compressed: fields.u32(20)?.into(),
        size: fields.u32(24)?.into(),
        mode: if is_unix { fields.u32(38)? >> 16 } else { 0 },
        at: fields.u32(42)?.into(),
    };
    Ok((member, LISTED_SIZE + name + rest))
}

fn content(archive: &mut (impl Read + Seek), member: &Member) -> io::Result<Vec<u8>> {
    let header = read(archive, member.at, LOCAL_SIZE as u64)?;
    let fields = Fields(&header);
    fields.begins_with(LOCAL)?;
    let (name, extra) = (fields.u16(26)?, fields.u16(28)?);
    let path = read(archive, member.at + LOCAL_SIZE as u64, name.into())?;
    if path != member.path.as_bytes() || fields.u16(8)? != member.method {
        return Err(wrong("a member is not what the list says"));
    }
    archive.seek_relative(extra.into())?;
    let stored = archive.take(member.compressed);
    let mut bytes = Vec::with_capacity(usize::try_from(member.size).unwrap_or(0));
    // One more than there may be, so that a longer one is noticed.
    let limit = member.size + 1;
    match member.method {
        DEFLATED => DeflateDecoder::new(stored).take(limit).read_to_end(&mut bytes)?,
        _ => stored.take(limit).read_to_end(&mut bytes)?,
    };
    let mut crc = Crc::new();
    crc.update(&bytes);
    if bytes.len() as u64 != member.size || crc.sum() != member.crc {
        return Err(wrong("a member has not the size or the sum that the list says"));
    }
    Ok(bytes)
}

fn read(archive: &mut (impl Read + Seek), at: u64, size: u64) -> io::Result<Vec<u8>> {
    archive.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    archive.take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Numbers of a header, the low byte first.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes(&self, at: usize, size: usize) -> io::Result<&[u8]> {
        self.0.get(at..at + size).ok_or_else(|| wrong("a header is cut"))
    }

    fn begins_with(&self, signature: &[u8]) -> io::Result<()> {
        if self.bytes(0, 4)? == signature { Ok(()) } else { Err(wrong("a header is missing")) }
    }

    fn u16(&self, at: usize) -> io::Result<u16> {
        let bytes = self.bytes(at, 2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&self, at: usize) -> io::Result<u32> {
        Ok(u32::from(self.u16(at)?) | u32::from(self.u16(at + 2)?) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

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
        members(&mut Cursor::new(zip), "etcd.zip", &wanted, |_, bytes| {
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
